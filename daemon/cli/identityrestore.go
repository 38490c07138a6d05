package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// restore looks for the identity of a phrase in the places of the configuration, and makes
// its keystore. daemon.ErrIdentityNotFound.
func (e *env) restore(ctx context.Context, cfg auth.InitConfig) (*auth.Identity, error) {
	c, err := e.config()
	if err != nil {
		return nil, err
	}
	search := daemon.IdentitySearch{Home: e.home, Config: c, Phrase: cfg.Phrase, Log: e.quiet()}
	found, err := search.Run(ctx)
	if err != nil {
		return nil, err
	}
	e.tellFound(found)
	id, err := search.Restore(ctx, cfg, found)
	if errors.Is(err, auth.ErrDevice) {
		return nil, fmt.Errorf("the phrase lets no new machine into %s; `ipfscloud recover` takes the identity back: %w", found.DID, err)
	}
	return id, err
}

// config is the configuration, with the node that a flag has named.
func (e *env) config() (daemon.Config, error) {
	c, err := e.home.LoadConfig()
	if e.ipfs != "" {
		c.IPFS = e.ipfs
	}
	return c, err
}

// tellFound says what a search came to: how new it is, the owner alone can judge.
func (e *env) tellFound(f *daemon.FoundIdentity) {
	e.err.Printf("Found %s, version %s", f.DID, f.Version)
	if !f.Changed.IsZero() {
		e.err.Printf(" of %s", f.Changed.Local().Format(time.DateTime))
	}
	e.err.Printf(", from %s.\n", f.Source)
	if f.LeftOut != nil {
		e.err.Printf("Entries at the end of that log do not count, as if they had not been written: %v.\n", f.LeftOut)
	}
	if f.Commit != nil {
		e.err.Printf("The newest commit is number %d, of %s, from %s.\n", f.Commit.Sequence, f.Commit.Time.Local().Format(time.DateTime), f.From)
	}
	if f.Unlisted {
		fmt.Fprintln(e.err, "It was signed by a device that is not in the newest document any more.")
	}
}

// quiet is a log of warnings only.
func (e *env) quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// found completes a keystore that waits for its identity; of another one it looks for a
// newer version of the DID document.
func (e *env) found(ctx context.Context, pass []byte) error {
	s, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	if s.DID != "" {
		c, err := e.config()
		if err != nil {
			return err
		}
		return daemon.RefreshLog(ctx, e.home, c, e.quiet())
	}
	p, err := auth.Awaited(ctx, e.home.Keystore, pass)
	if err != nil {
		return err
	}
	defer p.Wipe()
	_, err = e.restore(ctx, auth.InitConfig{Dir: e.home.Keystore, Passphrase: pass, Phrase: p, DeviceName: deviceName()})
	return err
}
