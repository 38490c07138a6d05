package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth"
)

// keystoreCommand changes what opens the keystore, and looks for damage.
type keystoreCommand struct {
	pass, next passSource
	what, slot string
	keyOut     string
	kdf        kdfFlags
	keysAlone  bool
	json       bool
}

func (c *keystoreCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.StringVar(&c.next.file, "new-passfile", "", "slot add, passwd: read the new passphrase from the first line of `FILE`")
	f.IntVar(&c.next.fd, "new-passfd", -1, "slot add, passwd: read the new passphrase from descriptor `N`")
	f.StringVar(&c.keyOut, "key-out", "", "slot add: make a key in place of a passphrase, and write it to `FILE`, which must not exist; - is standard output, for a pipe to systemd-creds")
	c.kdf.flags(f, "slot add, passwd: ")
	f.BoolVar(&c.keysAlone, "keys-alone", false, "slot remove: remove the last passphrase too, if keys remain")
	f.BoolVar(&c.json, "json", false, "slot list, check: print JSON")
}

func (c *keystoreCommand) parse(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "slot" && (args[1] == "list" || args[1] == "add"):
		c.what = args[1]
	case len(args) == 3 && args[0] == "slot" && args[1] == "remove":
		c.what, c.slot = args[1], args[2]
	case len(args) == 1 && (args[0] == "passwd" || args[0] == "check"):
		c.what = args[0]
	default:
		return fmt.Errorf("%w: want slot list, slot add, slot remove ID, passwd or check", errUsage)
	}
	if c.keyOut != "" && (c.what != "add" || c.next.given() || c.kdf.given()) {
		return fmt.Errorf("%w: --key-out is for a new slot without a passphrase", errUsage)
	}
	return c.kdf.check()
}

func (c *keystoreCommand) run(ctx context.Context, e *env) error {
	if c.what == "list" {
		return c.list(e)
	}
	if _, err := auth.Inspect(e.home.Keystore); err != nil && !(c.what == "check" && errors.Is(err, auth.ErrKeystore)) {
		return err // before anybody is asked
	}
	pass, err := c.pass.get(e, "Passphrase", false)
	if err != nil {
		return err
	}
	defer clear(pass)
	switch c.what {
	case "add":
		return c.add(ctx, e, pass)
	case "remove":
		if err := auth.RemoveSlot(ctx, e.home.Keystore, pass, c.slot, c.keysAlone); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "removed slot %s; copies of the old keystore still open with it\n", c.slot)
		return nil
	case "passwd":
		next, err := c.next.fresh(e, "New passphrase")
		if err != nil {
			return err
		}
		defer clear(next)
		if err := auth.ChangePassphrase(ctx, e.home.Keystore, pass, next, c.kdf.kdf()); err != nil {
			return err
		}
		fmt.Fprintln(e.out, "the passphrase is changed; copies of the old keystore still open with the old one")
		return nil
	}
	return c.check(ctx, e, pass)
}

func (c *keystoreCommand) list(e *env) error {
	slots, err := auth.Slots(e.home.Keystore)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(slots)
	}
	for _, s := range slots {
		if k := s.KDF; k != nil {
			fmt.Fprintf(e.out, "%s  %-10s  Argon2id, %d passes, %d MiB, %d lanes\n", s.ID, s.Kind, k.Time, k.Memory>>10, k.Threads)
		} else {
			fmt.Fprintf(e.out, "%s  %-10s  256 random bits\n", s.ID, s.Kind)
		}
	}
	return nil
}

func (c *keystoreCommand) add(ctx context.Context, e *env, pass []byte) error {
	var s auth.Slot
	var err error
	if c.keyOut != "" {
		made := false
		s, err = auth.AddKey(ctx, e.home.Keystore, pass, func(key []byte) (err error) {
			made, err = keepKey(e, c.keyOut, key)
			return err
		})
		if err != nil && made {
			_ = os.Remove(c.keyOut) // it opens nothing
		}
	} else {
		var next []byte
		if next, err = c.next.fresh(e, "Passphrase of the new slot"); err != nil {
			return err
		}
		defer clear(next)
		s, err = auth.AddPassphrase(ctx, e.home.Keystore, pass, next, c.kdf.kdf())
	}
	if err != nil {
		return err
	}
	where := e.out
	if c.keyOut == "-" {
		where = e.err // the output is the key's
	}
	fmt.Fprintf(where, "added slot %s (%s)\n", s.ID, s.Kind)
	return nil
}

// keepKey writes a key where its owner wants it, and is sure of it. made tells whether
// there is a new file now.
func keepKey(e *env, to string, key []byte) (made bool, err error) {
	line := append(bytes.Clone(key), '\n')
	defer clear(line)
	if to == "-" {
		if _, ok := e.out.terminal(); ok {
			return false, fmt.Errorf("%w: a key is not for the screen: use a pipe, or --key-out FILE", errUsage)
		}
		return false, e.out.data(line)
	}
	out, err := newOutFile("--key-out", to)
	if err != nil {
		return false, err
	}
	defer out.discard()
	return true, out.write(line)
}

func (c *keystoreCommand) check(ctx context.Context, e *env, pass []byte) error {
	parts, err := auth.Check(ctx, e.home.Keystore, pass)
	if c.json {
		if parts == nil {
			parts = []auth.Part{}
		}
		return errors.Join(err, json.NewEncoder(e.out).Encode(parts))
	}
	for _, p := range parts {
		verdict := "ok     "
		if p.Damaged {
			verdict = "DAMAGED"
		}
		e.out.Printf("%s  %s: %s\n", verdict, p.Name, strings.TrimSpace(p.Finding))
	}
	return err
}

// fresh returns a new passphrase: never a credential, which is the one there is.
func (p *passSource) fresh(e *env, prompt string) ([]byte, error) {
	if p.file == "" && p.fd < 0 && !e.terminal() {
		return nil, fmt.Errorf("%w: there is no terminal to ask for the new passphrase: use --new-passfile or --new-passfd", errUsage)
	}
	if p.file == "" && p.fd < 0 {
		return e.askTwice(prompt)
	}
	return p.get(e, prompt, true)
}
