package fs_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// later is a device of the same owner that was let in later: it knows the signatures of the
// others, and nothing was sealed to it.
type later struct {
	*fstest.Identity
	keys *fstest.Identity
}

func (l later) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	return l.keys.OpenWrapped(ctx, info, sealed)
}
func (l later) Recipients(ctx context.Context) ([][]byte, error) { return l.keys.Recipients(ctx) }

// A snapshot that was made before a device was let in opens with the keyring that somebody who
// could open it has made for that device, and not without.
func TestOldSnapshotOpensForANewDevice(t *testing.T) {
	v := newVault(t, nil)
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "kept", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	v.commit()
	at := v.tree.Status().Commit
	keys, err := fstest.NewIdentity("another seed")
	if err != nil {
		t.Fatal(err)
	}
	first, ok := v.cfg.Identity.(*fstest.Identity)
	if !ok {
		t.Fatalf("%T", v.cfg.Identity)
	}
	other := later{first, keys}
	name := fs.CommitName{Vault: v.cfg.Vault, Device: at.Device, Sequence: at.Sequence}
	head, ring, err := fs.KeyringFor(ctx, v.store, v.cfg.Identity.OpenWrapped, other, name, at.Commit)
	if err != nil || head.Sequence != at.Sequence {
		t.Fatal(head, err)
	}
	cfg := v.cfg
	cfg.Identity, cfg.StateDir, cfg.JournalDir = other, t.TempDir(), t.TempDir()
	cfg.At = &fs.At{Device: at.Device, Sequence: at.Sequence, Commit: at.Commit}
	if _, err := fs.Open(ctx, cfg); !errors.Is(err, crypt.ErrNotRecipient) {
		t.Errorf("without the keyring: %v", err)
	}
	cfg.At.Keyring = ring
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	if _, err := tree.Lookup(ctx, fs.RootIno, "kept"); err != nil {
		t.Error(err)
	}
}
