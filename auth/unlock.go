package auth

import (
	"context"
)

// Unlocked are the keys of a device without a session: they open what was sealed to the device,
// and sign nothing. It is for a device that the DID document does not list any more, which
// cannot log in, and whose owner wants back what it had not handed over yet.
type Unlocked struct{ s *Session }

// Unlock opens the keystore in dir without asking whether the DID document still lists the
// device. ErrNoIdentity, ErrPassphrase, ErrKeystore, ErrAwaits, ErrEnrols.
func Unlock(ctx context.Context, dir string, passphrase []byte) (*Unlocked, error) {
	k, err := readKeystore(dir)
	if err != nil {
		return nil, err
	}
	master, _, err := k.unlock(ctx, passphrase)
	if err != nil {
		return nil, err
	}
	defer master.wipe()
	c, err := k.open(master)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	if k.did == "" {
		if c.phrase == nil {
			return nil, ErrEnrols
		}
		return nil, ErrAwaits
	}
	s, err := newSession(dir, k.did, Resolver(dir), c)
	if err != nil {
		return nil, err
	}
	return &Unlocked{s}, nil
}

// DID is the identity that the keystore is of.
func (u *Unlocked) DID() string { return u.s.did }

// Device is the short name of the device.
func (u *Unlocked) Device() string { return u.s.device.ID }

// OpenWrapped opens what was sealed to the device, as Session.OpenWrapped does.
func (u *Unlocked) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	return u.s.OpenWrapped(ctx, info, sealed)
}

// Close wipes the keys.
func (u *Unlocked) Close() error { return u.s.Close() }
