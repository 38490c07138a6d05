package fs_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func (v *vault) create(dir fs.Ino, name string, data []byte) fs.Ino {
	v.t.Helper()
	a, err := v.tree.Mknod(ctx, dir, name, fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		v.t.Fatal(err)
	}
	if len(data) > 0 {
		if _, err := v.tree.Write(ctx, a.Ino, 0, data); err != nil {
			v.t.Fatal(err)
		}
	}
	return a.Ino
}

func (v *vault) mkdir(name string) fs.Ino {
	v.t.Helper()
	a, err := v.tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{})
	if err != nil {
		v.t.Fatal(err)
	}
	return a.Ino
}

// What a commit wrote does not stay in memory until the next one.
func TestCommitLetsGoOfWhatItWrote(t *testing.T) {
	v := newVault(t, nil)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	const size = 24 << 20
	for off := uint64(0); off < size; off += 4096 {
		if _, err := v.tree.Write(ctx, a.Ino, 2*off, block); err != nil {
			t.Fatal(err)
		}
	}
	held := func() int64 {
		v.commit()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := held()
	v.create(fs.RootIno, "other", nil)
	if less := before - held(); less > size/4 {
		t.Fatalf("a commit of nothing frees %d KiB that the one before held", less>>10)
	}
}

// forgetter is a kernel that gives back what a function says.
type forgetter func([]fs.Place) error

func (f forgetter) Forget(places []fs.Place) error { return f(places) }

func (f forgetter) KeepsUsed() bool { return false }

// Inodes that only the kernel refers to are dropped when they outgrow their part of the
// memory, and say the same when they are loaded again.
func TestLoadedInodesStayWithinTheirLimit(t *testing.T) {
	v := newVault(t, nil)
	v.tree.Abort()
	v.cfg.MemoryLimit = 2 << 20
	v.open()
	const files = 3000
	content := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprint(i, ".")), 1+i%40) }
	dir := v.mkdir("dir")
	for i := range files {
		v.create(dir, fmt.Sprint("file", i), content(i))
	}
	v.commit()

	restrained, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	forgotten := atomic.Int64{}
	wg.Go(func() {
		v.tree.Restrain(restrained, forgetter(func(batch []fs.Place) error {
			for _, p := range batch {
				// The kernel gives back the reference that each Mknod and Lookup took.
				a, err := v.tree.Lookup(ctx, p.Parent, p.Name)
				if err != nil || a.Ino != p.Ino {
					return fmt.Errorf("%+v is inode %d: %w", p, a.Ino, err)
				}
				v.tree.Forget(a.Ino, 2)
				forgotten.Add(1)
			}
			return nil
		}))
	})
	defer func() { stop(); wg.Wait() }()
	// A change lets the tree look how much it holds.
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		n, bytes := v.tree.Loaded()
		if bytes <= v.cfg.MemoryLimit/4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes take %d bytes, the limit is %d", n, bytes, v.cfg.MemoryLimit)
		}
		v.create(fs.RootIno, fmt.Sprint("more", i), nil)
		v.commit()
	}
	if forgotten.Load() == 0 {
		t.Fatal("the kernel was not asked to forget anything")
	}
	for i := range files {
		a, err := v.tree.Lookup(ctx, dir, fmt.Sprint("file", i))
		if err != nil {
			t.Fatal(err)
		}
		want, got := content(i), make([]byte, 4096)
		n, err := v.tree.Read(ctx, a.Ino, 0, got)
		if err != nil || !bytes.Equal(got[:n], want) || a.Size != uint64(len(want)) {
			t.Fatalf("file %d has %q, %v; want %q", i, got[:n], err, want)
		}
	}
}

// counting counts what is put in a store.
type counting struct {
	fs.Store
	bytes, blocks atomic.Int64
}

func (c *counting) Put(ctx context.Context, b []fs.Block) error {
	for _, x := range b {
		c.bytes.Add(int64(len(x.Data)))
	}
	c.blocks.Add(int64(len(b)))
	return c.Store.Put(ctx, b)
}

func TestCommitCostsWhatChanged(t *testing.T) {
	store := &counting{Store: fstest.NewMemory()}
	v := newVault(t, store)
	dir := v.mkdir("dir")
	target := v.create(dir, "target", []byte("old"))
	made := 0
	grow := func(n int) {
		for ; made < n; made++ {
			v.create(dir, fmt.Sprintf("file%08d", made), []byte("x"))
		}
		v.commit()
	}
	cost := func() (int64, int64) {
		b, n := store.bytes.Load(), store.blocks.Load()
		if _, err := v.tree.Write(ctx, target, 0, []byte("new")); err != nil {
			t.Fatal(err)
		}
		v.commit()
		return store.bytes.Load() - b, store.blocks.Load() - n
	}
	grow(200)
	cost() // it writes the dead list of the growth
	cost()
	smallBytes, smallBlocks := cost()
	grow(20000)
	cost()
	cost()
	bytes, blocks := cost()
	if bytes > 3*smallBytes || blocks > 2*smallBlocks {
		t.Errorf("a change commits %d bytes in %d blocks among 20,000 files, %d in %d among 200", bytes, blocks, smallBytes, smallBlocks)
	}

	const pages = 1024 // of 64 KiB: enough extents for pages of their own
	large := v.create(fs.RootIno, "large", nil)
	block := make([]byte, 64<<10)
	for i := range pages {
		block[0], block[1] = byte(i), byte(i>>8)
		if _, err := v.tree.Write(ctx, large, uint64(i)<<20, block); err != nil {
			t.Fatal(err)
		}
	}
	v.commit()
	v.commit()
	b := store.bytes.Load()
	if _, err := v.tree.Write(ctx, large, pages/2<<20, block[:4096]); err != nil {
		t.Fatal(err)
	}
	v.commit()
	if b = store.bytes.Load() - b; b > 200<<10 {
		t.Errorf("4 KiB in a file of 1 GiB commit %d bytes", b)
	}
}

// A file that was removed while somebody has it open stays readable, however many commits
// go by, though nobody has read yet where it lies.
func TestRemovedFileOutlivesItsPages(t *testing.T) {
	v := newVault(t, nil)
	const parts = 600 // several pages of extents
	big := v.create(fs.RootIno, "big", nil)
	for i := range parts {
		if _, err := v.tree.Write(ctx, big, uint64(i)<<20, []byte(fmt.Sprint("part", i))); err != nil {
			t.Fatal(err)
		}
	}
	v.wipe()
	a, err := v.tree.Lookup(ctx, fs.RootIno, "big")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.tree.Unlink(ctx, fs.RootIno, "big"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		v.create(fs.RootIno, fmt.Sprint("other", i), nil)
		v.commit()
	}
	for i := range parts {
		want := fmt.Sprint("part", i)
		got := make([]byte, len(want))
		if _, err := v.tree.Read(ctx, a.Ino, uint64(i)<<20, got); err != nil || string(got) != want {
			t.Fatalf("part %d reads %q, %v", i, got, err)
		}
	}
}

// A listing that is read in small pieces shows all names once, also while others change.
func TestListingInSmallPieces(t *testing.T) {
	v := newVault(t, nil)
	dir := v.mkdir("dir")
	for i := range 3000 {
		v.create(dir, fmt.Sprintf("name%05d", i), nil)
		if i == 1500 {
			v.commit()
		}
	}
	v.commit()
	d, err := v.tree.OpenDir(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen := map[string]int{}
	cookie := uint64(0)
	for round := 0; ; round++ {
		n := 0
		err := d.Read(ctx, cookie, func(e fs.DirEntry, next uint64) bool {
			if n == 7 {
				return false
			}
			n++
			seen[e.Name]++
			cookie = next
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		switch round {
		case 100:
			v.create(dir, "name00000-new", nil)
		case 200:
			if err := v.tree.Unlink(ctx, dir, "name02999"); err != nil {
				t.Fatal(err)
			}
			v.commit()
		}
	}
	for i := range 2999 {
		if n := seen[fmt.Sprintf("name%05d", i)]; n != 1 {
			t.Fatalf("name %d is listed %d times", i, n)
		}
	}
	if seen["name02999"] != 0 {
		t.Error("a name that was removed before the listing came to it is listed")
	}
}
