package auth

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Part is what Check found about one part of a keystore.
type Part struct {
	Name    string `json:"name"`
	Damaged bool   `json:"damaged"`
	Finding string `json:"finding"`
}

// Check examines the keystore in dir part by part with a passphrase, or key, that opens it,
// or did. It changes nothing. ErrKeystore if a part is damaged, and ErrPassphrase if no slot
// opens, beside the parts; ErrNoIdentity.
//
// A seal that opens shows that all is well which it authenticates, so what it comes to is
// exact where a slot opens. Where none does, a wrong passphrase and a damaged slot look the
// same, unless the checksum tells that something is damaged.
func Check(ctx context.Context, dir string, passphrase []byte) ([]Part, error) {
	b, err := readKeystoreFile(dir)
	if err != nil {
		return nil, err
	}
	var c checker
	err = c.run(ctx, b, passphrase)
	if c.damaged && err == nil {
		err = fmt.Errorf("%s: %w", filepath.Join(dir, keystoreName), ErrKeystore)
	}
	return c.parts, err
}

type checker struct {
	parts   []Part
	damaged bool
}

func (c *checker) good(name, finding string) {
	c.parts = append(c.parts, Part{Name: name, Finding: finding})
}

func (c *checker) bad(name, finding string) {
	c.parts = append(c.parts, Part{Name: name, Damaged: true, Finding: finding})
	c.damaged = true
}

const partSlots = "slots, or the names of identity and device"

func (c *checker) run(ctx context.Context, b, passphrase []byte) error {
	k, whole, err := takeApart(b)
	if err != nil {
		c.bad("layout", err.Error())
		return nil
	}
	c.good("layout", fmt.Sprintf("format %d, %d slots, %d bytes", k.format, len(k.slots), len(b)))
	master, n, err := k.unlock(ctx, passphrase)
	if errors.Is(err, ErrPassphrase) && !whole {
		c.bad("checksum", "does not match")
		c.bad(partSlots, "no slot opens: the one for this passphrase is damaged, or the names, unless the passphrase is wrong")
		return nil
	}
	if err != nil {
		return err
	}
	defer master.wipe()
	// The slot vouches for itself and for the names.
	c.good("names of identity and device", fmt.Sprintf("%s, %s", k.did, k.device))
	name := fmt.Sprintf("slot %d (%s)", n+1, k.slots[n].describe().ID)
	c.good(name, "opens")

	opened, err := k.open(master)
	switch {
	case err == nil:
		defer opened.wipe()
		c.good("flags and all slots", "as they were written")
		c.good("contents", fmt.Sprintf("open; version %d of the DID document is the newest seen", opened.version.Number))
		if whole {
			c.good("checksum", "matches")
		} else {
			c.bad("checksum", "does not match, and is alone in it: the rest is as it was written")
		}
		return nil
	case !errors.Is(err, ErrKeystore):
		return err
	}
	k.pending = !k.pending // the one thing besides that could be right again by trying
	if opened, err := k.open(master); err == nil {
		opened.wipe()
		c.bad("flags", "altered; the rest is as it was written")
		return nil
	}
	if whole {
		c.bad("contents", "do not open, though the checksum matches: altered on purpose, or written wrongly")
	} else if len(k.slots) > 1 {
		c.bad("contents, or another slot", "altered")
	} else {
		c.bad("contents", "altered")
	}
	return nil
}
