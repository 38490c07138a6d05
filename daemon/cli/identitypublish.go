package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// idPublish makes the log of the DID readable for all, which nothing else does.
type idPublish struct {
	stop   bool
	out    string
	ipfs   string
	domain string // that of `id migrate`, too
}

func (c *idPublish) flags(f *flag.FlagSet) {
	f.BoolVar(&c.stop, "stop", false, "publish: renew nothing any more; what is out there ends within two days")
	f.StringVar(&c.out, "out", "", "publish: write the files for a web server into `DIR` instead")
	f.StringVar(&c.ipfs, "ipfs", "", "publish: through the IPFS node whose RPC is at `URL`")
}

func (c *idPublish) run(ctx context.Context, e *env, source *passSource, asJSON bool) error {
	sum, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	switch {
	case sum.DID == auth.SelfCertifying(sum.DID):
		return fmt.Errorf("%w: %s says all of itself; only a did:webvh is published (`ipfscloud id migrate` makes one)", errUsage, sum.DID)
	case c.stop:
		return daemon.Unpublish(e.home)
	case c.domain != "" && c.out == "":
		return fmt.Errorf("%w: --domain wants --out DIR, for the files that are to lie on its web server", errUsage)
	case c.out != "":
		return c.files(ctx, e, source, asJSON)
	}
	id := auth.PresentDID(ctx, e.home.Keystore, sum.DID)
	if _, ok := auth.NameOf(id); !ok {
		return fmt.Errorf("%s: %w", id, auth.ErrNoName)
	}
	drive := driveFlags{ipfs: c.ipfs}
	cfg, err := drive.config(e)
	if err != nil {
		return err
	}
	p, err := c.publish(ctx, e, source, cfg)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(p)
	}
	fmt.Fprintf(e.err, "Version %s can be read by all, under /ipns/%s, until %s.\nIt is renewed while the drive is mounted.\n",
		p.Version, p.Name, p.Until.Local().Format(time.DateTime))
	fmt.Fprintln(e.out, p.URL)
	return nil
}

// publish lets the mounted drive do it, or opens a session and a node for it.
func (c *idPublish) publish(ctx context.Context, e *env, source *passSource, cfg daemon.Config) (*daemon.Publication, error) {
	client, err := daemon.Connect(ctx, e.home)
	if err == nil {
		return client.Publish(ctx)
	}
	if !errors.Is(err, daemon.ErrNotRunning) {
		return nil, err
	}
	switch { // before a passphrase is asked for
	case cfg.IPFS == "" && !cfg.Network.Public:
		return nil, daemon.ErrNoNetwork
	case cfg.IPFS == "":
		return nil, fmt.Errorf("the built-in node, which keeps what is published, runs with the drive: %w", daemon.ErrNotRunning)
	}
	pass, err := source.get(e, "Passphrase", false)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	s, err := auth.Login(ctx, e.home.Keystore, pass)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return daemon.PublishIdentity(ctx, e.home, cfg, s, e.quiet())
}

// files writes what is to lie on a web server; with --domain the DID moves there.
func (c *idPublish) files(ctx context.Context, e *env, source *passSource, asJSON bool) error {
	sum, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	id := auth.PresentDID(ctx, e.home.Keystore, sum.DID)
	if c.domain != "" && !auth.At(id, c.domain) {
		if err := e.noSession(ctx); err != nil {
			return err
		}
		pass, err := source.get(e, "Passphrase", false)
		if err != nil {
			return err
		}
		defer clear(pass)
		doc, err := auth.Move(ctx, e.home.Keystore, pass, c.domain)
		if err != nil {
			return err
		}
		id = doc.ID
	}
	written, err := daemon.WriteLogFiles(c.out, id, auth.OwnLog(e.home.Keystore, id))
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": id, "files": written})
	}
	for file, url := range written {
		fmt.Fprintf(e.err, "Let %s answer with %s. After each change of the identity write it anew.\n", url, file)
	}
	fmt.Fprintln(e.out, id)
	return nil
}
