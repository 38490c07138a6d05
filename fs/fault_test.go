package fs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func newModel(t *testing.T, seed uint64, store fs.Store) *model {
	return &model{t: t, v: newVault(t, store), r: rand.New(rand.NewPCG(seed, 11)),
		root: &node{mode: fs.ModeDir, names: map[string]*node{}}}
}

func (m *model) steps(n int) {
	for range n {
		m.step()
	}
}

// Whatever a commit fails at, nothing is lost, and the next one makes it good.
func TestCommitFailuresLoseNothing(t *testing.T) {
	for _, op := range []fstest.Op{fstest.OpPut, fstest.OpLink, fstest.OpUnlink, fstest.OpFree, fstest.OpCommits} {
		t.Run(string(op), func(t *testing.T) {
			memory := fstest.NewMemory()
			store := fstest.NewFaulty(memory)
			m := newModel(t, 1, store)
			for round := range 6 {
				m.steps(40)
				if op == fstest.OpPut || op == fstest.OpLink {
					// Blobs that are sealed ahead fail too, and commits whose time has come.
					store.Fail(op, fs.ErrUnavailable)
				} else {
					store.FailTimes(op, 1+round%3, fs.ErrUnavailable)
				}
				err := m.v.tree.Sync(ctx, fs.DurabilityIPFS)
				if (op == fstest.OpPut || op == fstest.OpLink) && !errors.Is(err, fs.ErrUnavailable) {
					t.Fatalf("a commit whose %s fails: %v", op, err)
				}
				m.steps(20)
				m.check()
				if round%2 == 0 {
					store.Heal()
					m.v.commit()
				}
				store.Heal()
				m.v.kill()
				m.check()
			}
			m.v.commit()
			memory.Collect()
			m.v.wipe()
			m.check()
		})
	}
}

// The process dies after the store linked a commit and before it knows.
func TestDeathBetweenLinkAndTrim(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	m := newModel(t, 2, store)
	died := errors.New("died")
	for range 10 {
		m.steps(30)
		store.After(fstest.OpLink, func(context.Context) error { return died })
		if err := m.v.tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, died) {
			t.Fatal(err)
		}
		m.steps(5) // goes on while the commit is linked and not trimmed
		store.Heal()
		m.v.kill()
		m.check()
	}
	m.v.commit()
	m.v.wipe()
	m.check()
}

// A node may collect garbage at any time: a commit's shadow tree must reach all it needs.
func TestShadowTreeIsComplete(t *testing.T) {
	store := fstest.NewMemory()
	m := newModel(t, 3, store)
	for range 8 {
		m.steps(60)
		m.v.commit()
		store.Collect()
		m.v.wipe()
		m.check()
	}
}

// What no commit needs any more is freed, by the dead lists alone.
func TestDeadListsFreeEverything(t *testing.T) {
	store := fstest.NewMemory()
	m := newModel(t, 4, store)
	for range 10 {
		m.steps(60)
		m.v.commit()
	}
	// Blocks die in one commit and are freed after the next: two commits with next to
	// no changes, and only their own remains are left.
	for i := range 3 {
		size := uint64(i)
		a, err := m.v.tree.Mknod(ctx, fs.RootIno, fmt.Sprint("last", i), fs.ModeRegular|0o600, 0, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.v.tree.SetAttr(ctx, a.Ino, fs.SetAttr{Size: &size}); err != nil {
			t.Fatal(err)
		}
		m.v.commit()
	}
	before := len(store.CIDs())
	if garbage := store.Collect(); garbage > 40 {
		t.Fatalf("%d of %d blocks are garbage that no dead list named", garbage, before)
	}
}

func TestRollbackIsRefused(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	m := newModel(t, 5, store)
	m.steps(50)
	m.v.commit()
	accepted := m.v.tree.Status().Commit
	m.steps(50)
	m.v.commit()
	newest := m.v.tree.Status().Commit.Commit
	m.v.tree.Abort()
	if err := store.RollBack(ctx, m.v.cfg.Vault); err != nil {
		t.Fatal(err)
	}
	store.Lose(newest) // else it is only the name that is gone, and is linked again
	tree := m.v.open()
	s := tree.Status()
	if !s.ReadOnly || len(s.Alerts) == 0 || !errors.Is(s.Causes[0], fs.ErrRollback) || s.Commit.Sequence != accepted.Sequence {
		t.Fatalf("a store that was rolled back is accepted: %+v", s)
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "x", 0o700, fs.Owner{}); !errors.Is(err, fs.ErrReadOnly) || !errors.Is(err, fs.ErrRollback) {
		t.Fatal(err)
	}
	m.v.tree.Abort()
	store.Heal()
	if s := m.v.open().Status(); s.ReadOnly {
		t.Fatalf("the store is whole again: %+v", s)
	}
	m.check()
}

// A store that lost the name of a commit, but not its blocks, gets the name back.
func TestLostNameIsLinkedAgain(t *testing.T) {
	store := fstest.NewMemory()
	m := newModel(t, 6, store)
	m.steps(50)
	m.v.commit()
	m.v.tree.Abort()
	names, err := store.Commits(ctx, m.v.cfg.Vault)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := store.Unlink(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if s := m.v.open().Status(); s.ReadOnly {
		t.Fatalf("%+v", s)
	}
	m.check()
}

// Two histories of one device: the second head of a number is a fork.
func TestForkIsRefused(t *testing.T) {
	store := fstest.NewMemory()
	v := newVault(t, store)
	v.tree.Abort()
	other := *v // the same state, copied: another copy of the device
	dir := t.TempDir()
	other.cfg.StateDir, other.cfg.JournalDir = filepath.Join(dir, "s"), filepath.Join(dir, "j")
	copyDir(t, v.cfg.StateDir, other.cfg.StateDir)
	if err := os.CopyFS(other.cfg.JournalDir, os.DirFS(v.cfg.JournalDir)); err != nil {
		t.Fatal(err)
	}
	tree := v.open()
	if _, err := tree.Mkdir(ctx, fs.RootIno, "one", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	v.commit()
	mine := tree.Status().Commit
	tree.Abort()
	name := fs.CommitName{Vault: v.cfg.Vault, Device: "dev1", Sequence: mine.Sequence}
	if err := store.Unlink(ctx, name); err != nil {
		t.Fatal(err)
	}
	tree = other.open()
	if _, err := tree.Mkdir(ctx, fs.RootIno, "two", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	other.commit()
	theirs := tree.Status().Commit
	tree.Abort()
	if mine.Sequence != theirs.Sequence {
		t.Fatalf("the test wants one number twice, got %d and %d", mine.Sequence, theirs.Sequence)
	}
	s := v.open().Status()
	if !s.ReadOnly || len(s.Alerts) == 0 || !errors.Is(s.Causes[0], fs.ErrFork) {
		t.Fatalf("a fork is accepted: %+v", s)
	}
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "x", 0o700, fs.Owner{}); !errors.Is(err, fs.ErrFork) {
		t.Fatal(err)
	}
}

// No call waits for a store that hangs longer than the deadline.
func TestDeadlines(t *testing.T) {
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.tree.Write(ctx, a.Ino, 0, make([]byte, 300000)); err != nil {
		t.Fatal(err)
	}
	v.commit()
	v.cfg.Deadline = 100 * time.Millisecond
	v.kill()
	for _, op := range []fstest.Op{fstest.OpGet, fstest.OpUsage, fstest.OpPut, fstest.OpLink} {
		store.Hang(op)
	}
	start := time.Now()
	if a, err = v.tree.Lookup(ctx, fs.RootIno, "f"); !errors.Is(err, fs.ErrUnavailable) {
		t.Fatalf("lookup: %v", err)
	}
	if _, err := v.tree.StatFS(ctx); err != nil {
		t.Fatalf("statfs: %v", err)
	}
	if _, err := v.tree.GetAttr(ctx, fs.RootIno); err != nil {
		t.Fatalf("getattr: %v", err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Fatalf("took %v", d)
	}
	store.Heal()
	if a, err = v.tree.Lookup(ctx, fs.RootIno, "f"); err != nil {
		t.Fatalf("lookup, healed: %v", err)
	}
	store.Hang(fstest.OpGet)
	if _, err := v.tree.Read(ctx, a.Ino, 0, make([]byte, 10)); !errors.Is(err, fs.ErrUnavailable) {
		t.Fatalf("read: %v", err)
	}
}
