package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// ring is the keyring of the newest commit.
func (v *vault) ring() *crypt.Keyring {
	v.t.Helper()
	name, cid, err := fs.LastAccepted(v.cfg.StateDir, v.cfg.Vault)
	if err != nil {
		v.t.Fatal(err)
	}
	e, err := fs.Examine(ctx, v.store, v.cfg.Identity.OpenWrapped, name, cid)
	if err != nil {
		v.t.Fatal(err)
	}
	return &crypt.Keyring{Epoch: e.Epoch}
}

// The key of a vault changes while it is open and changes wait in its journal: nothing is
// lost by a crash before, between and after, and the journal gets the new key in time.
func TestRekeyWhileOpen(t *testing.T) {
	v := newVault(t, nil)
	mkdir := func(name string) {
		t.Helper()
		if _, err := v.tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("one")
	head, err := v.tree.Rekey(ctx, false)
	if err != nil || v.tree.Status().PendingOps != 0 || v.ring().Epoch != 1 {
		t.Fatalf("%+v, %v: the commit with the keyring has what was pending too: %+v", head, err, v.tree.Status())
	}
	next, err := v.tree.Rekey(ctx, true)
	if err != nil || next.Sequence <= head.Sequence || v.ring().Epoch != 2 {
		t.Fatalf("nothing was pending: %+v, %v", next, err)
	}
	mkdir("two") // in the journal of the old key
	v.tree.Abort()
	v.open()
	mkdir("three")
	if _, err := v.tree.Rekey(ctx, true); err != nil || v.ring().Epoch != 3 {
		t.Fatal(err)
	}
	mkdir("four")
	v.tree.Abort()
	v.open()
	v.commit()
	if err := v.tree.Close(ctx); err != nil {
		t.Fatal(err)
	}
	v.open() // nothing is left in it: a journal of the new key begins
	mkdir("five")
	v.tree.Abort()
	v.open()
	for _, name := range []string{"one", "two", "three", "four", "five"} {
		if _, err := v.tree.Lookup(ctx, fs.RootIno, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st := v.tree.Status(); len(st.Alerts) > 0 || st.ReadOnly {
		t.Errorf("%+v", st)
	}
	state, err := os.ReadFile(filepath.Join(v.cfg.StateDir, "heads.json"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(state); n > 3000 { // two keyrings would be more
		t.Errorf("the keyring of the journal stays in a state of %d bytes", n)
	}
	if left, err := filepath.Glob(v.cfg.JournalDir + ".aside-*"); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// Rekey on a vault that is not open keeps what waits in the journal.
func TestRewrapKeepsTheJournal(t *testing.T) {
	v := newVault(t, nil)
	v.commit()
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "waits", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	v.tree.Abort()
	name, cid, err := fs.LastAccepted(v.cfg.StateDir, v.cfg.Vault)
	if err != nil {
		t.Fatal(err)
	}
	head, err := fs.Rewrap(ctx, v.cfg, fs.Rewrapped{Name: name, Commit: cid, Open: v.cfg.Identity.OpenWrapped, NewEpoch: true})
	if err != nil {
		t.Fatal(err)
	}
	if w, err := fs.Newest(ctx, v.cfg); err != nil || w.Sequence != head.Sequence {
		t.Errorf("%+v, %v", w, err)
	}
	v.open()
	if _, err := v.tree.Lookup(ctx, fs.RootIno, "waits"); err != nil {
		t.Errorf("what waited is lost: %v", err)
	}
	if st := v.tree.Status(); st.ReadOnly || len(st.Alerts) > 0 {
		t.Errorf("%+v", st)
	}
	readOnly := v.cfg
	readOnly.ReadOnly = true
	v.tree.Abort()
	tree, err := fs.Open(ctx, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	if _, err := tree.Rekey(ctx, true); !errors.Is(err, fs.ErrReadOnly) {
		t.Errorf("rekey of a read-only tree: %v", err)
	}
	// A handover is not gone back behind.
	over, err := fs.HandOut(v.cfg.StateDir, v.cfg.Vault)
	if err != nil || over.Sequence < head.Sequence {
		t.Fatalf("%+v, %v", over, err)
	}
	for _, b := range []string{"", "{}", `{"vault":"00"}`} {
		if _, err := fs.Receive(t.TempDir(), []byte(b)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("handover %q: %v", b, err)
		}
	}
}
