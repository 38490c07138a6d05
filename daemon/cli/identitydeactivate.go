package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// deactivate gives the DID up. Where its log is published through the owner's own node, the
// last version goes there at once.
func (c *idChange) deactivate(ctx context.Context, e *env, cfg daemon.Config, pass []byte, asJSON bool) error {
	if err := e.noSession(ctx); err != nil {
		return err
	}
	// A session from before still signs for the name, and tells that all is well until now.
	s, err := auth.Login(ctx, e.home.Keystore, pass)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := c.sure(e, s.DID()); err != nil {
		return err
	}
	if c.phraseIn == "" {
		c.phraseIn = "-"
	}
	phrase, err := e.readPhrase(c.phraseIn)
	if err != nil {
		return err
	}
	defer phrase.Wipe()
	last, err := auth.Deactivate(ctx, e.home.Keystore, pass, phrase)
	if err != nil {
		return err
	}
	told := c.publishLast(ctx, e, cfg, s, last)
	if asJSON {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": last.ID, "version": last.Version.ID, "published": told})
	}
	if !told {
		fmt.Fprintln(e.err, "Others learn of it where the log lies: `ipfscloud id publish --out DIR` writes it for a web server.")
	}
	fmt.Fprintln(e.out, last.Version.ID)
	return nil
}

// sure asks the owner, or wants to have been told.
func (c *idChange) sure(e *env, id string) error {
	if c.yes {
		return nil
	}
	if !e.terminal() {
		return fmt.Errorf("%w: this gives %s up for good; without a terminal, say --yes and --phrase-in FILE", errUsage, id)
	}
	got, err := e.ask(fmt.Sprintf("This gives %s up for good: nobody can log in with it, mount its drive, or change it again.\nCopy what you need from the drive before. Type \"give up\" to do it: ", id))
	if err != nil {
		return err
	}
	if got != "give up" {
		return errors.New("nothing was changed")
	}
	return nil
}

// publishLast tells whether the last version can be read by all now.
func (c *idChange) publishLast(ctx context.Context, e *env, cfg daemon.Config, s *auth.Session, last daemon.DIDDocument) bool {
	was, err := daemon.ReadPublication(e.home)
	if was == nil && err == nil {
		return false
	}
	if err == nil {
		was, err = daemon.PublishLast(ctx, e.home, cfg, s, last, e.quiet())
	}
	if err != nil {
		e.err.Println("The last version was not published under the IPNS name:", err)
		return false
	}
	fmt.Fprintf(e.err, "The last version can be read by all, under /ipns/%s, until %s.\n", was.Name, was.Until.Local().Format(time.DateTime))
	return true
}
