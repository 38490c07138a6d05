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

// recoverCommand takes an identity and its drive back with the phrase.
type recoverCommand struct {
	pass        passSource
	phraseIn    string
	phraseOut   string
	configFile  string
	ipfs        string
	log, domain string
	minSequence uint64
	json        bool
}

func (c *recoverCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.StringVar(&c.phraseIn, "phrase-in", "-", "read the recovery phrase from `FILE` (-, the default, asks for it)")
	f.StringVar(&c.phraseOut, "phrase-out", "", "write the new recovery phrase to `FILE`, which must not exist")
	f.StringVar(&c.configFile, "config", "", "read the configuration from `FILE`")
	f.StringVar(&c.ipfs, "ipfs", "", "look in the IPFS node whose RPC is at `URL`, and use it")
	f.StringVar(&c.log, "log", "", "a `FILE` that has the DID's log")
	f.StringVar(&c.domain, "domain", "", "ask the web server of a `DOMAIN` of yours for the DID's log; if it is an IPNS name, IPNS too. If the DID has moved there, it stays there")
	f.Uint64Var(&c.minSequence, "min-sequence", 0, "refuse a commit below number `N`, which you know of")
	f.BoolVar(&c.json, "json", false, "print JSON")
}

func (c *recoverCommand) parse(args []string) error { return noArgs(args) }

func (c *recoverCommand) run(ctx context.Context, e *env) error {
	begin := time.Now()
	if s, err := auth.Inspect(e.home.Keystore); err == nil && s.DID != "" {
		return fmt.Errorf("%s in %s: %w", s.DID, e.home.Keystore, auth.ErrExist)
	} else if err != nil && !errors.Is(err, auth.ErrNoIdentity) {
		return err
	}
	if c.phraseOut == "" && !e.terminal() {
		return fmt.Errorf("%w: without a terminal a new phrase is made only with --phrase-out FILE, or nobody would know it", errUsage)
	}
	out, err := newOutFile("--phrase-out", c.phraseOut)
	if err != nil {
		return err
	}
	defer out.discard()
	drive := driveFlags{configFile: c.configFile, ipfs: c.ipfs}
	cfg, err := drive.config(e)
	if err != nil {
		return err
	}
	phrase, err := e.readPhrase(c.phraseIn)
	if err != nil {
		return err
	}
	defer phrase.Wipe()
	pass, err := c.pass.get(e, "New passphrase", true)
	if err != nil {
		return err
	}
	defer clear(pass)
	sources, err := daemon.LogSources(c.log, c.domain)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	r := daemon.Recovery{
		Search:     daemon.IdentitySearch{Home: e.home, Config: cfg, Phrase: phrase, Logs: sources, Domains: []string{c.domain}, Log: e.quiet()},
		Passphrase: pass, DeviceName: deviceName(), MinSequence: c.minSequence,
		Found: func(f *daemon.FoundIdentity) error { e.tellFound(f); return nil },
		Phrase: func(p *auth.Phrase) error {
			err := out.write(phraseLine(p.Words()))
			if out == nil {
				err = e.showPhrase(p.Words())
			}
			if err != nil {
				fmt.Fprintln(e.err, "The new recovery phrase was not confirmed:", err)
				fmt.Fprintln(e.err, "`ipfscloud id phrase` shows it again. The old one is of no use any more.")
			}
			return err
		},
	}
	got, err := r.Run(ctx)
	if err != nil {
		return err
	}
	if err := c.tell(e, got, time.Since(begin)); err != nil {
		return err
	}
	return e.tellRemains(ctx, cfg, "Each lost device")
}

func (c *recoverCommand) tell(e *env, r *daemon.Recovered, took time.Duration) error {
	if c.json {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": r.DID, "version": r.Version, "device": r.Device,
			"moved_from": r.MovedFrom, "vault": r.Vault, "sequence": r.Commit.Sequence, "phrase_pending": !r.Confirmed, "seconds": took.Seconds()})
	}
	fmt.Fprintf(e.err, "Recovered in %.1f s: version %s lists this device alone, %s.\n", took.Seconds(), r.Version, r.Device)
	if r.MovedFrom != "" {
		fmt.Fprintf(e.err, "A device had moved the DID to %s, and recover has taken that back; if that is a place of yours, `ipfscloud id publish --domain DOMAIN --out DIR` moves it there again.\n", r.MovedFrom)
	}
	if r.Vault != "" {
		fmt.Fprintf(e.err, "The vault has a new key from commit %d on, and opens: you can mount it.\n", r.Commit.Sequence)
	} else {
		fmt.Fprintln(e.err, "No commit was found: where the drive's copies are, say `ipfscloud egress use URL`, and mount.")
	}
	fmt.Fprintln(e.out, r.DID)
	return nil
}
