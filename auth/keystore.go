package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	keystoreName = "identity.keystore"
	keystoreTemp = ".identity.keystore.new"
	keystoreLock = ".lock"

	lockDeadline = 10 * time.Second
	lockPoll     = 20 * time.Millisecond
)

// newKeystore makes a keystore with one slot, which first makes, and without contents.
func newKeystore(format byte, did, device string, first slotMaker) (*keystore, *secret, error) {
	k := &keystore{format: format, did: did, device: device, slots: make([]slot, 1)}
	rand.Read(k.id[:])
	master, err := newSecret(masterSize)
	if err != nil {
		return nil, nil, err
	}
	rand.Read(master.bytes())
	if k.slots[0], err = first(k, master); err != nil {
		master.wipe()
		return nil, nil, err
	}
	return k, master, nil
}

// slotMaker makes a slot of a keystore that is being made.
type slotMaker func(k *keystore, master *secret) (slot, error)

// open opens the contents. With the right master key, only damage makes it fail.
func (k *keystore) open(master *secret) (*contents, error) {
	aead, err := chacha20poly1305.NewX(master.bytes())
	if err != nil {
		return nil, fmt.Errorf("opening the keystore: %w", err)
	}
	if len(k.sealed) < tagSize {
		return nil, fmt.Errorf("contents of %d bytes: %w", len(k.sealed), ErrKeystore)
	}
	plain, err := newSecret(len(k.sealed) - tagSize)
	if err != nil {
		return nil, err
	}
	defer plain.wipe()
	if _, err := aead.Open(plain.bytes()[:0], k.nonce[:], k.sealed, k.contentsAAD()); err != nil {
		return nil, fmt.Errorf("the contents or the header were altered: %w", ErrKeystore)
	}
	return parseContents(plain.bytes(), k.format)
}

// seal seals the contents, and with them the header as it is now.
func (k *keystore) seal(master *secret, c *contents) error {
	plain, err := c.encode()
	if err != nil {
		return err
	}
	defer plain.wipe()
	aead, err := chacha20poly1305.NewX(master.bytes())
	if err != nil {
		return fmt.Errorf("sealing the keystore: %w", err)
	}
	k.pending = c.phrase != nil && k.did != ""
	rand.Read(k.nonce[:])
	k.sealed = aead.Seal(nil, k.nonce[:], plain.bytes(), k.contentsAAD())
	if n := len(k.encode()); n > keystoreMax {
		return fmt.Errorf("a keystore of %d bytes: %w", n, ErrInvalid)
	}
	return nil
}

// readKeystore reads the file of a directory. ErrNoIdentity, ErrKeystore.
func readKeystore(dir string) (*keystore, error) {
	b, err := readKeystoreFile(dir)
	if err != nil {
		return nil, err
	}
	k, err := parseKeystore(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, keystoreName), err)
	}
	return k, nil
}

// readKeystoreFile reads one byte too many of a file that is too large.
func readKeystoreFile(dir string) ([]byte, error) {
	f, err := safefile.Open(filepath.Join(dir, keystoreName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the keystore: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, keystoreMax+1))
	if err != nil {
		return nil, fmt.Errorf("reading the keystore: %w", err)
	}
	return b, nil
}

// write replaces the file at once: after a crash there is the old one or the new one. The
// caller holds the directory's lock.
func (k *keystore) write(dir string) (err error) {
	temp := filepath.Join(dir, keystoreTemp)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing the keystore: %w", err)
	}
	f, err := safefile.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the keystore: %w", err)
	}
	_, err = f.Write(k.encode())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(dir, keystoreName))
	}
	if err != nil {
		_ = os.Remove(temp) // the error that counts is the first
		return fmt.Errorf("writing the keystore: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := safefile.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("syncing a directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// lockDir keeps other processes from changing the keystore until the returned function is
// called. It waits for them at most lockDeadline, then gives ErrBusy.
func lockDir(ctx context.Context, dir string) (func(), error) {
	f, err := safefile.OpenFile(filepath.Join(dir, keystoreLock), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the keystore: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockDeadline)
	defer cancel()
	tick := time.NewTicker(lockPoll) // flock knows no deadline
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking the keystore: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process changes the keystore in %s: %w", dir, ErrBusy)
		}
	}
}

// change unlocks the keystore of dir, lets edit change it, and writes it back. edit says
// whether there is anything to write, and is given the number of the slot that opened.
func change(ctx context.Context, dir string, passphrase []byte, edit func(*keystore, *contents, *secret, int) (bool, error)) error {
	release, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer release()
	k, err := readKeystore(dir)
	if err != nil {
		return err
	}
	master, n, err := k.unlock(ctx, passphrase)
	if err != nil {
		return err
	}
	defer master.wipe()
	c, err := k.open(master)
	if err != nil {
		return err
	}
	defer c.wipe()
	write, err := edit(k, c, master, n)
	if err != nil || !write {
		return err
	}
	if err := k.seal(master, c); err != nil {
		return err
	}
	return k.write(dir)
}

// Summary is what the keystore tells without its passphrase; nothing of it is secret,
// and nothing of it is verified before Login.
type Summary struct {
	DID           string
	Device        string // Device.ID
	PhrasePending bool   // the recovery phrase was not confirmed yet
	KDF           KDF    // of the first passphrase
}

// Inspect reads the keystore's public part. ErrNoIdentity, ErrKeystore.
func Inspect(dir string) (Summary, error) {
	k, err := readKeystore(dir)
	if err != nil {
		return Summary{}, err
	}
	sum := Summary{DID: k.did, Device: k.device, PhrasePending: k.pending}
	for i := range k.slots {
		if s := &k.slots[i]; s.kind == kindPassphrase {
			sum.KDF = s.kdf
			break
		}
	}
	return sum, nil
}

// RecoveryPhrase returns the phrase while it is not confirmed; then ErrConfirmed. Wipe it
// after use.
func RecoveryPhrase(ctx context.Context, dir string, passphrase []byte) (*Phrase, error) {
	var p *Phrase
	err := change(ctx, dir, passphrase, func(_ *keystore, c *contents, _ *secret, _ int) (bool, error) {
		if c.phrase == nil {
			return false, ErrConfirmed
		}
		s, err := copySecret(c.phrase.bytes())
		if err == nil {
			p = &Phrase{entropy: s}
		}
		return false, err
	})
	return p, err
}

// ConfirmPhrase records that the owner has written the phrase down and removes it from
// the keystore. Confirming again does nothing.
func ConfirmPhrase(ctx context.Context, dir string, passphrase []byte) error {
	return change(ctx, dir, passphrase, func(_ *keystore, c *contents, _ *secret, _ int) (bool, error) {
		if c.phrase == nil {
			return false, nil
		}
		c.phrase.wipe()
		c.phrase = nil
		return true, nil
	})
}
