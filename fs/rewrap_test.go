package fs_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A vault gets a new key: the tree stays, and who is no recipient any more reads nothing
// of what comes after.
func TestRewrap(t *testing.T) {
	store := fstest.NewMemory()
	old, err := fstest.NewIdentity("old")
	if err != nil {
		t.Fatal(err)
	}
	now, err := fstest.NewIdentity("new")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := fs.Config{Store: store, Identity: old, StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal")}
	if cfg.Vault, err = fs.Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "dir", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(ctx); err != nil {
		t.Fatal(err)
	}
	names, err := store.Commits(ctx, cfg.Vault)
	if err != nil {
		t.Fatal(err)
	}
	last := names[len(names)-1]
	commit, err := store.Resolve(ctx, last)
	if err != nil {
		t.Fatal(err)
	}
	from := fs.Rewrapped{Name: last, Commit: commit, Open: now.OpenWrapped, NewEpoch: true}
	next := cfg
	next.Identity, next.StateDir, next.JournalDir = now, filepath.Join(dir, "state2"), filepath.Join(dir, "journal2")
	if _, err := fs.Rewrap(ctx, next, from); !errors.Is(err, crypt.ErrNotRecipient) {
		t.Errorf("rewrapped by somebody who cannot open it: %v", err)
	}
	from.Open = old.OpenWrapped
	head, err := fs.Rewrap(ctx, next, from)
	if err != nil {
		t.Fatal(err)
	}
	if head.Sequence <= last.Sequence {
		t.Errorf("commit %d after %d", head.Sequence, last.Sequence)
	}
	if _, err := fs.Examine(ctx, store, old.OpenWrapped, last, head.Commit); !errors.Is(err, crypt.ErrNotRecipient) {
		t.Errorf("the old key opens the new epoch: %v", err)
	}
	ev, err := fs.Examine(ctx, store, now.OpenWrapped, last, head.Commit)
	if err != nil || ev.Epoch != 2 || ev.Head.Sequence != head.Sequence {
		t.Errorf("%+v, %v", ev, err)
	}
	tree, err = fs.Open(ctx, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Lookup(ctx, fs.RootIno, "dir"); err != nil {
		t.Errorf("the tree has changed: %v", err)
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "more", 0o700, fs.Owner{}); err != nil {
		t.Error(err)
	}
	if err := tree.Close(ctx); err != nil {
		t.Fatal(err)
	}
	// What this device has accepted is not gone back behind.
	if _, err := fs.Rewrap(ctx, next, from); !errors.Is(err, fs.ErrRollback) {
		t.Errorf("rewrapped an older commit: %v", err)
	}
}
