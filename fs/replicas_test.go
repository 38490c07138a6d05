package fs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// replicas are copies as a test says they are.
type replicas struct {
	held   atomic.Int64 // machines that have…
	newest atomic.Uint64
	oldest atomic.Uint64
	asked  atomic.Uint64 // by Wait
	err    error
}

func (r *replicas) Copies(sequence uint64) (held, target int) {
	if sequence > r.newest.Load() {
		return 0, 3
	}
	return int(r.held.Load()), 3
}

func (r *replicas) Wait(_ context.Context, sequence uint64, n int) error {
	r.asked.Store(sequence)
	return r.err
}

func (r *replicas) Oldest() uint64 { return r.oldest.Load() }

func (v *vault) write(name, text string) fs.Ino {
	v.t.Helper()
	a, err := v.tree.Lookup(ctx, fs.RootIno, name)
	if errors.Is(err, fs.ErrNotFound) {
		a, err = v.tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{})
	}
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := v.tree.Write(ctx, a.Ino, 0, []byte(text)); err != nil {
		v.t.Fatal(err)
	}
	return a.Ino
}

func TestEgressDurability(t *testing.T) {
	v := newVault(t, nil)
	v.write("a", "a")
	if err := v.tree.Sync(ctx, fs.DurabilityEgress(2)); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("without an Egress: %v", err)
	}
	r := &replicas{}
	v.cfg.Replicas, v.cfg.Durability = r, fs.DurabilityEgress(2)
	v.kill()
	ino := v.write("a", "b")
	if err := v.tree.Fsync(ctx, ino, false); err != nil {
		t.Fatal(err)
	}
	if s := v.tree.Status(); r.asked.Load() != s.Commit.Sequence || s.PendingOps != 0 {
		t.Errorf("fsync waited for copies of commit %d, %d changes are not in commit %d", r.asked.Load(), s.PendingOps, s.Commit.Sequence)
	}
	r.err = fmt.Errorf("1 of 2 copies: %w", fs.ErrUnavailable)
	if err := v.tree.Fsync(ctx, ino, false); !errors.Is(err, fs.ErrUnavailable) {
		t.Errorf("fsync with too few copies: %v", err)
	}
	for _, bad := range []string{"", "egress", "egress:", "egress:0", "egress:-1", "egress:+1", "egress:x", "egress:9999", "disk"} {
		if d, err := fs.ParseDurability(bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q is read as %q, %v", bad, d, err)
		}
	}
}

// The state of a file is that of the commit that has its newest version.
func TestHeldState(t *testing.T) {
	r := &replicas{}
	v := newVault(t, nil)
	v.cfg.Replicas = r
	v.kill()
	state := func(name string) string {
		t.Helper()
		i, err := v.tree.Info(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return i.State
	}
	expect := func(when, name, want string) {
		t.Helper()
		if got := state(name); got != want {
			t.Errorf("%s: %s is %s, want %s", when, name, got, want)
		}
	}
	v.write("old", "x")
	expect("written", "old", "journal")
	v.commit()
	expect("committed", "old", "committed")
	r.newest.Store(v.tree.Status().Commit.Sequence)
	r.held.Store(2)
	expect("held", "old", "held:2/3")
	v.write("new", "x")
	v.commit()
	expect("a newer commit", "old", "held:2/3")
	expect("a newer commit", "new", "committed")
	v.write("old", "y")
	expect("changed", "old", "journal")
	v.commit()
	expect("committed again", "old", "committed")
	v.kill() // which file is in which commit is not remembered: none is said to be held too early
	expect("opened again", "old", "committed")
	r.newest.Store(v.tree.Status().Commit.Sequence)
	expect("the newest is held", "old", "held:2/3")
	expect("the newest is held", "new", "held:2/3")
}

// A commit that is being copied stays whole, whatever is changed meanwhile.
func TestCopiedCommitStaysWhole(t *testing.T) {
	store, r := fstest.NewMemory(), &replicas{}
	v := newVault(t, store)
	v.cfg.Replicas = r
	v.kill()
	big := make([]byte, 64<<10)
	v.write("f", string(big))
	v.commit()
	v.write("g", "x")
	v.commit()
	store.Collect()
	r.oldest.Store(v.tree.Status().Commit.Sequence)
	whole := store.CIDs()
	churn := func() {
		for i := range 6 {
			v.write("f", fmt.Sprint(i)+string(big[:40<<10]))
			v.write("g", fmt.Sprint("y", i))
			v.commit()
		}
	}
	missing := func() (n int) {
		for _, c := range whole {
			if ok, err := store.Has(ctx, c); err != nil || !ok {
				n++
			}
		}
		return n
	}
	churn()
	store.Collect()
	// The commit before it went as always: its own blocks are all that may be gone.
	name := fs.CommitName{Vault: v.cfg.Vault, Device: v.cfg.Identity.Device(), Sequence: r.oldest.Load()}
	if _, err := store.Resolve(ctx, name); err != nil {
		t.Fatalf("the commit that is copied: %v", err)
	}
	if !complete(t, store, name) {
		t.Fatal("the commit that is copied has lost blocks")
	}
	r.oldest.Store(0)
	kept := missing()
	churn()
	if _, err := store.Resolve(ctx, name); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("after the copy the commit is still linked: %v", err)
	}
	if gone := missing(); gone <= kept {
		t.Errorf("after the copy nothing was freed: %d blocks were gone, %d are", kept, gone)
	}
}

// complete walks a commit as a recursive pin does.
func complete(t *testing.T, store fs.Store, name fs.CommitName) bool {
	t.Helper()
	root, err := store.Resolve(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[fs.CID]bool{}
	for todo := []fs.CID{root}; len(todo) > 0; {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[c] {
			continue
		}
		seen[c] = true
		b, err := store.Get(ctx, c)
		if err != nil {
			t.Log(c, err)
			return false
		}
		links, err := fstest.Links(c, b)
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, links...)
	}
	return len(seen) > 5
}

// A commit that is retained stays whole, opens read-only as it was, and is freed when it is
// not retained any more.
func TestRetainedCommit(t *testing.T) {
	store := fstest.NewMemory()
	v := newVault(t, store)
	var retained atomic.Uint64
	v.cfg.Retained = func() []uint64 {
		if seq := retained.Load(); seq > 0 {
			return []uint64{seq}
		}
		return nil
	}
	v.kill()
	old := strings.Repeat("old", 20<<10)
	v.write("f", old)
	v.write("gone", old+"!")
	v.commit()
	kept := v.tree.Status().Commit
	retained.Store(kept.Sequence)
	if err := v.tree.Unlink(ctx, fs.RootIno, "gone"); err != nil {
		t.Fatal(err)
	}
	churn := func() {
		for i := range 6 {
			v.write("f", fmt.Sprint(i)+strings.Repeat("new", 10<<10))
			v.commit()
		}
	}
	churn()
	store.Collect()
	name := fs.CommitName{Vault: v.cfg.Vault, Device: kept.Device, Sequence: kept.Sequence}
	if !complete(t, store, name) {
		t.Fatal("the retained commit has lost blocks")
	}
	v.write("pending", "x") // in the journal

	v.cfg.At = &fs.At{Device: kept.Device, Sequence: kept.Sequence, Commit: kept.Commit}
	v.kill()
	v.has("f", []byte(old))
	v.has("gone", []byte(old+"!"))
	if st := v.tree.Status(); !st.ReadOnly || st.Commit.Sequence != kept.Sequence || len(st.Alerts) != 0 {
		t.Errorf("%+v", st)
	}
	if err := v.tree.Unlink(ctx, fs.RootIno, "f"); !errors.Is(err, fs.ErrReadOnly) {
		t.Errorf("a change to it: %v", err)
	}
	v.cfg.At = nil
	v.kill()
	v.has("f", []byte("5"+strings.Repeat("new", 10<<10)+old[1+(30<<10):]))
	v.has("pending", []byte("x"))
	retained.Store(0)
	churn()
	store.Collect()
	if _, err := store.Resolve(ctx, name); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("not retained any more, it is still linked: %v", err)
	}
	if ok, err := store.Has(ctx, kept.Commit); err != nil || ok {
		t.Errorf("not retained any more, its blocks are there: %v", err)
	}
}
