package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// idChange are the words of `id` that write a new version of the DID document, or bring it
// to others.
type idChange struct {
	what, verb, url string
	public          bool
	kind            string
	phraseIn        string
	domain          string
	yes             bool
}

func (c *idChange) flags(f *flag.FlagSet) {
	f.BoolVar(&c.public, "public", false, "service add: yes, everybody who sees the DID document may see the URL, for good")
	f.StringVar(&c.kind, "type", "LinkedService", "service add: `TYPE` of the service")
	f.BoolVar(&c.yes, "yes", false, "deactivate: do not ask")
	f.StringVar(&c.phraseIn, "phrase-in", "", "migrate, deactivate: read the recovery phrase from `FILE` (- asks for it)")
	f.StringVar(&c.domain, "domain", "", "migrate, publish: a `DOMAIN` of your own for the did:webvh")
}

func (c *idChange) takes(word string) bool {
	return slices.Contains([]string{"rotate", "service", "migrate", "deactivate"}, word)
}

func (c *idChange) parse(args []string) error {
	c.what = args[0]
	if c.what == "service" {
		if len(args) != 3 || args[1] != "add" && args[1] != "remove" {
			return fmt.Errorf("%w: want service add URL --public, or service remove URL", errUsage)
		}
		c.verb, c.url = args[1], args[2]
		if c.verb == "add" && !c.public {
			return fmt.Errorf("%w: everybody who sees the DID document, now or later, will see that you use %s: say --public if that is meant", errUsage, c.url)
		}
		return nil
	}
	return noArgs(args[1:])
}

func (c *idChange) run(ctx context.Context, e *env, source *passSource, asJSON bool) error {
	sum, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	pass, err := source.get(e, "Passphrase", false)
	if err != nil {
		return err
	}
	defer clear(pass)
	if c.what == "migrate" {
		return c.migrate(ctx, e, sum, pass, asJSON)
	}
	// No version is written beside a newer one.
	cfg, err := e.config()
	if err != nil {
		return err
	}
	if err := daemon.RefreshLog(ctx, e.home, cfg, e.quiet()); err != nil {
		return err
	}
	if c.what == "deactivate" {
		return c.deactivate(ctx, e, cfg, pass, asJSON)
	}
	var changed daemon.DIDDocument
	switch {
	case c.what == "rotate":
		changed, err = auth.Rotate(ctx, e.home.Keystore, pass)
	case c.verb == "add":
		changed, err = auth.AddService(ctx, e.home.Keystore, pass, c.kind, c.url)
	default:
		changed, err = auth.RemoveService(ctx, e.home.Keystore, pass, c.url)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": changed.ID, "version": changed.Version.ID})
	}
	fmt.Fprintln(e.out, changed.Version.ID)
	return nil
}

// noSession wants no session to be open: it would go on with the DID that it began with.
func (e *env) noSession(ctx context.Context) error {
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	switch {
	case err == nil:
		return fmt.Errorf("a session of %s is open; end it with `ipfscloud logout`: %w", a.DID(), auth.ErrBusy)
	case !errors.Is(err, auth.ErrNoSession):
		return err
	}
	return nil
}

// migrate makes a did:webvh of a did:key.
func (c *idChange) migrate(ctx context.Context, e *env, sum auth.Summary, pass []byte, asJSON bool) error {
	if err := e.noSession(ctx); err != nil {
		return err
	}
	cfg, err := e.config()
	if err != nil {
		return err
	}
	m := daemon.Migration{Home: e.home, Config: cfg, Passphrase: pass, Domain: c.domain, Log: e.quiet()}
	if c.phraseIn == "" && !sum.PhrasePending {
		c.phraseIn = "-"
		if !e.terminal() {
			return fmt.Errorf("%w: the recovery phrase is needed: --phrase-in FILE", errUsage)
		}
	}
	if c.phraseIn != "" {
		if m.Phrase, err = e.readPhrase(c.phraseIn); err != nil {
			return err
		}
		defer m.Phrase.Wipe()
	}
	got, err := m.Run(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": got.DID, "from": got.From, "statement": got.Statement, "sequence": got.Commit.Sequence})
	}
	fmt.Fprintf(e.err, "%s names %s in its document. The other direction a did:key cannot have:\nits key has signed a statement, which `id show --json` prints under \"moved\".\n", got.DID, got.From)
	fmt.Fprintln(e.err, "The did:key itself cannot be revoked: whoever gets its key can go on to speak for it.")
	if got.Commit.Sequence > 0 {
		fmt.Fprintf(e.err, "The vault belongs to the new DID from commit %d on.\n", got.Commit.Sequence)
	}
	fmt.Fprintln(e.out, got.DID)
	return nil
}
