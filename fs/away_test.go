package fs_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// away lets a store answer nothing but for blocks, as one does whose node is away while
// blocks lie in a cache before it.
func away(s *fstest.Faulty) {
	for _, op := range []fstest.Op{fstest.OpCommits, fstest.OpResolve, fstest.OpLink, fstest.OpUnlink, fstest.OpUsage} {
		s.Fail(op, fs.ErrUnavailable)
	}
}

// until waits for a condition of the tree.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not happen", what)
		}
	}
}

// A vault opens while its store is away: as this device knew it last, with its journal. It
// can be changed, and is committed when the store is back.
func TestOpenWhileTheStoreIsAway(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	m := newModel(t, 21, store)
	m.steps(80)
	m.v.commit()
	m.steps(40)
	for round := range 3 {
		away(store)
		m.v.kill()
		if s := m.v.tree.Status(); s.LastError == "" {
			t.Fatalf("round %d: opened while the store is away: %+v", round, s)
		}
		m.check()
		m.steps(40)
		if err := m.v.tree.Sync(ctx, fs.DurabilityLocal); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := m.v.tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, fs.ErrUnavailable) {
			t.Fatalf("round %d: a commit while the store is away: %v", round, err)
		}
		if s := m.v.tree.Status(); s.LastError == "" || s.PendingOps == 0 || s.ReadOnly || len(s.Alerts) > 0 {
			t.Fatalf("round %d: %+v", round, s)
		}
		m.v.kill()
		m.check()
		store.Heal()
		if round == 1 { // it comes back, and nobody asks for a commit
			until(t, "the commit", func() bool { return m.v.tree.Status().PendingOps == 0 })
		}
		m.v.commit()
		if s := m.v.tree.Status(); s.LastError != "" || s.ReadOnly {
			t.Fatalf("round %d, the store is back: %+v", round, s)
		}
		m.check()
	}
	m.v.wipe()
	m.check()
}

// Without the blocks of the last commit, or a commit at all, there is nothing to open.
func TestOpenWhileTheStoreIsAwayAndNothingIsHere(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	v.tree.Abort()
	store.Fail(fstest.Any, fs.ErrUnavailable)
	if _, err := fs.Open(ctx, v.cfg); !errors.Is(err, fs.ErrUnavailable) {
		t.Fatalf("without blocks: %v", err)
	}
	store.Heal()
	away(store)
	cfg := v.cfg
	cfg.StateDir, cfg.JournalDir = t.TempDir(), t.TempDir()
	if _, err := fs.Open(ctx, cfg); !errors.Is(err, fs.ErrUnavailable) {
		t.Fatalf("on a device that knows no commit: %v", err)
	}
	store.Heal()
	v.open()
}

// A store that comes back and shows an older state than the tree was opened with gets no
// commit: the tree is read-only, with an alert, and the changes stay in the journal.
func TestStoreComesBackRolledBack(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	for i := range 3 {
		touch(t, v.tree, fmt.Sprint("before", i))
		v.commit()
	}
	away(store)
	v.kill()
	touch(t, v.tree, "while it was away")
	store.Heal()
	if err := store.RollBack(ctx, v.cfg.Vault); err != nil {
		t.Fatal(err)
	}
	store.Fail(fstest.OpLink, fs.ErrUnavailable) // else the name would be given back
	linked := store.Calls(fstest.OpLink)
	if err := v.tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, fs.ErrRollback) {
		t.Fatalf("a commit on top of what the store does not show: %v", err)
	}
	s := v.tree.Status()
	if !s.ReadOnly || len(s.Alerts) == 0 || !errors.Is(s.Causes[0], fs.ErrRollback) || s.PendingOps == 0 {
		t.Fatalf("%+v", s)
	}
	if _, err := v.tree.Mknod(ctx, fs.RootIno, "refused", fs.ModeRegular|0o600, 0, fs.Owner{}); !errors.Is(err, fs.ErrReadOnly) {
		t.Fatalf("a change after that: %v", err)
	}
	if n := store.Calls(fstest.OpLink) - linked; n > 1 { // the one that gives a lost name back
		t.Fatalf("%d commits were linked", n)
	}
	store.Heal()
	v.kill()
	v.commit()
	for _, name := range []string{"before0", "before2", "while it was away"} {
		if _, err := v.tree.Lookup(ctx, fs.RootIno, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A tree that is opened read-only while the store is away stays what it is, and does not
// say for ever that the store is away.
func TestOpenReadOnlyWhileTheStoreIsAway(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	touch(t, v.tree, "file")
	v.commit()
	v.tree.Abort()
	away(store)
	v.cfg.ReadOnly = true
	v.open()
	if _, err := v.tree.Lookup(ctx, fs.RootIno, "file"); err != nil {
		t.Fatal(err)
	}
	until(t, "a look at the store", func() bool { return v.tree.Status().LastError != "" })
	store.Heal()
	until(t, "that the store is back", func() bool { return v.tree.Status().LastError == "" })
	if s := v.tree.Status(); !s.ReadOnly || len(s.Alerts) > 0 {
		t.Fatalf("%+v", s)
	}
}

func touch(t *testing.T, tree *fs.Tree, name string) {
	t.Helper()
	if _, err := tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
}
