package fs_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// identity is an Identity with keys of its own.
type identity struct {
	sign ed25519.PrivateKey
	kem  hpke.PrivateKey
}

func newIdentity(t testing.TB) *identity {
	t.Helper()
	_, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	kem, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return &identity{sign, kem}
}

var errSignature = errors.New("signature does not verify")

func (i *identity) DID() string    { return "did:example:owner" }
func (i *identity) Device() string { return "dev1" }
func (i *identity) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(i.sign, msg), nil
}
func (i *identity) Verify(_ context.Context, device string, msg, sig []byte) error {
	if device != i.Device() || !ed25519.Verify(i.sign.Public().(ed25519.PublicKey), msg, sig) {
		return errSignature
	}
	return nil
}
func (i *identity) OpenWrapped(_ context.Context, info, sealed []byte) ([]byte, error) {
	return hpke.Open(i.kem, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
}
func (i *identity) Recipients(context.Context) ([][]byte, error) {
	return [][]byte{i.kem.PublicKey().Bytes()}, nil
}
func (i *identity) Log(context.Context) ([]byte, string, error) {
	return []byte(`{"id":"did:example:owner"}`), "1", nil
}

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
	v := &vault{t: t, store: store, cfg: fs.Config{
		Store: store, Identity: newIdentity(t), Deadline: 5 * time.Second,
		StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal"),
	}}
	id, err := fs.Create(ctx, v.cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.cfg.Vault = id
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
