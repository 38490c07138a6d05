package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// The phrase of an identity with a history makes the keys of the device that was there
// first, which may be in use still. To restore is therefore to join: the phrase's device,
// made anew for a moment, lets in a device with keys of its own.

const (
	restoring   = ".restore-" // begins the directory in which that is done
	instanceLen = 8           // letters and digits: 40 bits
)

// restoreDevice restores an identity with a history into cfg.Dir, which the caller has
// locked.
func restoreDevice(ctx context.Context, cfg InitConfig, f Found, before func(dir string) error) (_ *Identity, err error) {
	if left, err := filepath.Glob(filepath.Join(cfg.Dir, restoring+"*")); err == nil { // of a process that was killed
		for _, dir := range left {
			_ = os.RemoveAll(dir)
		}
	}
	temp := filepath.Join(cfg.Dir, restoring+rand.Text())
	if err := safefile.MakePrivate(temp); err != nil {
		return nil, fmt.Errorf("restoring: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()

	// The keys of the phrase's device lie there under a passphrase that nobody knows.
	phrased := InitConfig{Dir: filepath.Join(temp, "phrase"), Passphrase: make([]byte, 32), Phrase: cfg.Phrase,
		DeviceName: cfg.DeviceName, KDF: KDF{Time: 1, Memory: 64 << 10, Threads: 1}}
	rand.Read(phrased.Passphrase)
	defer clear(phrased.Passphrase)
	first, err := phraseDevice(ctx, phrased, f)
	if err != nil {
		return nil, err
	}
	own := InitConfig{Dir: filepath.Join(temp, "own"), Passphrase: cfg.Passphrase, DeviceName: cfg.DeviceName, KDF: cfg.KDF}
	r, err := Enrol(ctx, own)
	if err != nil {
		return nil, err
	}
	done, err := Approve(ctx, phrased.Dir, phrased.Passphrase, r, Grant{Scope: ScopeFull})
	if err != nil {
		return nil, fmt.Errorf("device %s, which was made with the phrase, lets nobody in; its keys were drawn anew, or it was revoked: %w", first.Device.ID, err)
	}
	text, err := r.Seal(Answer{DID: done.Document.ID, Version: done.Document.Version.ID, Log: done.Log, Notes: done.Notes})
	if err != nil {
		return nil, err
	}
	id, _, err := Join(ctx, own, text, nil)
	if err != nil {
		return nil, err
	}
	if before != nil {
		if err := before(own.Dir); err != nil {
			return nil, err
		}
	}
	return id, moveKeystore(cfg.Dir, own.Dir)
}

// moveKeystore moves the files of a keystore, the keystore itself last.
func moveKeystore(to, from string) error {
	for _, name := range []string{logName, keystoreName} {
		err := os.Rename(filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && (name == keystoreName || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("restoring: %w", err)
		}
	}
	return safefile.SyncDir(to)
}

// A did:key has one key, and all machines that were made with its phrase sign with it. So
// that they are different devices all the same, one that was restored adds letters and
// digits by chance to the name that follows from the key.

// newInstance is the name of one more machine with a key.
func newInstance(device string) string { return device + strings.ToLower(rand.Text()[:instanceLen]) }

// isDevice tells whether a device of this name has the key, of an identity that has but
// one key.
func isDevice(name string, public []byte) bool {
	base := deviceID(public)
	rest, ok := strings.CutPrefix(name, base)
	if !ok || rest != "" && len(rest) != instanceLen {
		return false
	}
	for _, c := range []byte(rest) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// SameKey tells whether two devices are machines of one did:key: both sign with its key.
func SameKey(a, b string) bool {
	n := len(deviceID(make([]byte, 32)))
	return len(a) >= n && len(b) >= n && a[:n] == b[:n]
}

// names tells whether a document lists the key for a device of this name.
func names(doc *did.Document, device string, public []byte) bool {
	return deviceID(public) == device || !hasHistory(doc.ID) && isDevice(device, public)
}
