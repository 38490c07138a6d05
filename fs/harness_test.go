package fs_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// vault is a vault under test, which can be opened again and again.
type vault struct {
	t     testing.TB
	store fs.Store
	cfg   fs.Config
	tree  *fs.Tree
}

var ctx = context.Background()

func newVault(t testing.TB, store fs.Store) *vault {
	t.Helper()
	if store == nil {
		store = fstest.NewMemory()
	}
	dir := t.TempDir()
	id, err := fstest.NewIdentity(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, store: store, cfg: fs.Config{
		Store: store, Identity: id, Deadline: 5 * time.Second,
		StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal"),
	}}
	if v.cfg.Vault, err = fs.Create(ctx, v.cfg); err != nil {
		t.Fatal(err)
	}
	v.open()
	t.Cleanup(func() { v.tree.Abort() })
	return v
}

func (v *vault) open() *fs.Tree {
	v.t.Helper()
	tree, err := fs.Open(ctx, v.cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	v.tree = tree
	return tree
}

// commit waits until everything is committed.
func (v *vault) commit() {
	v.t.Helper()
	if err := v.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		v.t.Fatal(err)
	}
}

// kill opens the vault as after the death of the process.
func (v *vault) kill() *fs.Tree {
	v.t.Helper()
	v.tree.Abort()
	return v.open()
}

// wipe opens the vault as on a machine that has the identity and the store alone.
func (v *vault) wipe() *fs.Tree {
	v.t.Helper()
	if err := v.tree.Close(ctx); err != nil {
		v.t.Fatal(err)
	}
	dir := v.t.TempDir()
	v.cfg.StateDir, v.cfg.JournalDir = filepath.Join(dir, "state"), filepath.Join(dir, "journal")
	found, err := fs.Discover(ctx, v.store, v.cfg.Identity)
	if err != nil || len(found) != 1 || found[0].Vault != v.cfg.Vault {
		v.t.Fatalf("found %v, %v", found, err)
	}
	return v.open()
}
