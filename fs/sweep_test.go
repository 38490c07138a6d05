package fs_test

import (
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// removed makes a vault out of which a file was removed by the last commit, and tells how
// much the store held without it.
func removed(t *testing.T) (v *vault, store *fstest.Memory, without uint64) {
	t.Helper()
	store = fstest.NewMemory()
	v = newVault(t, store)
	without = used(t, store)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "file", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	if _, err := v.tree.Write(ctx, a.Ino, 0, data); err != nil {
		t.Fatal(err)
	}
	v.tree.Forget(a.Ino, 1)
	v.commit()
	if err := v.tree.Unlink(ctx, fs.RootIno, "file"); err != nil {
		t.Fatal(err)
	}
	v.commit()
	if n := used(t, store) - without; n < 8<<20 {
		t.Fatalf("the store has dropped all but %d bytes at once: the commit before needs them", n)
	}
	return v, store, without
}

func used(t *testing.T, store fs.Store) uint64 {
	t.Helper()
	n, _, err := store.Usage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What was removed gives its space back on a drive where nothing changes any more, and then
// there are no more commits.
func TestSweepOfAnIdleDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, store, without := removed(t)
		time.Sleep(time.Minute)
		if n := used(t, store) - without; n > 1<<20 {
			t.Errorf("after a minute %d bytes are left of what was removed", n)
		}
		before := v.tree.Status().Commit.Sequence
		time.Sleep(time.Hour)
		if after := v.tree.Status().Commit.Sequence; after != before {
			t.Errorf("an idle drive has made the commits %d to %d", before, after)
		}
		v.tree.Abort()
	})
}

// Sweep, which `ipfscloud sync` calls, gives it back at once.
func TestSweepOnDemand(t *testing.T) {
	v, store, without := removed(t)
	if err := v.tree.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := used(t, store) - without; n > 1<<20 {
		t.Errorf("%d bytes are left of what was removed", n)
	}
	before := v.tree.Status().Commit.Sequence
	if err := v.tree.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if after := v.tree.Status().Commit.Sequence; after != before {
		t.Errorf("with nothing to free, commit %d follows %d", after, before)
	}
}
