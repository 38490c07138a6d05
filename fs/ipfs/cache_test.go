package ipfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	icfs "github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func openTestCache(t *testing.T, s icfs.Store, dir string, limit uint64) *Cache {
	t.Helper()
	c, err := NewCache(s, CacheConfig{Dir: dir, Limit: limit, Log: testLog(t)})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func TestCache(t *testing.T) {
	dirs := map[icfs.Store]string{}
	open := func(t *testing.T, s icfs.Store, dir string) icfs.Store {
		c := openTestCache(t, s, dir, 1<<20)
		dirs[c] = dir
		return c
	}
	fstest.RunStore(t, func(t *testing.T) icfs.Store { return open(t, fstest.NewMemory(), t.TempDir()) },
		fstest.Reopen(func(t *testing.T, s icfs.Store) icfs.Store {
			must(t, s.Close())
			return open(t, s.(*Cache).Store.(*fstest.Memory).Reopen(), dirs[s])
		}))
}

func TestCacheLimit(t *testing.T) {
	m, dir := fstest.NewMemory(), t.TempDir()
	f := fstest.NewFaulty(m)
	c := openTestCache(t, f, dir, 10*cachePage)
	var blocks []icfs.Block
	for range 12 {
		blocks = append(blocks, fstest.RawBlock(fstest.Random(cachePage-10)))
	}
	must(t, c.Put(testContext(t), blocks))
	wantBlocks(t, c, blocks[:10])
	wantBlocks(t, c, blocks[:1]) // now the most recent
	wantBlocks(t, c, blocks[10:])
	if c.Used() != 10*cachePage {
		t.Fatalf("%d bytes used", c.Used())
	}
	f.Fail(fstest.OpGet, icfs.ErrUnavailable)
	wantBlocks(t, c, blocks[:1])
	wantBlocks(t, c, blocks[3:])
	for _, b := range blocks[1:3] {
		_, err := c.Get(testContext(t), b.CID)
		wantErr(t, "what had to go", err, icfs.ErrUnavailable)
	}
	var onDisk int
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		onDisk++
		if info, err := d.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
		return nil
	}))
	if onDisk != 10 {
		t.Fatalf("%d files", onDisk)
	}
	must(t, c.Close())
	c = openTestCache(t, fstest.NewFaulty(m.Reopen()), dir, 5*cachePage)
	if c.Used() != 5*cachePage {
		t.Fatalf("%d bytes used after a start with a smaller limit", c.Used())
	}
	_, err := NewCache(m, CacheConfig{Dir: dir, Limit: 1})
	wantErr(t, "a second cache", err, icfs.ErrBusy)
}

func TestCacheDamage(t *testing.T) {
	f, dir := fstest.NewFaulty(fstest.NewMemory()), t.TempDir()
	c := openTestCache(t, f, dir, 1<<20)
	b := fstest.RawBlock(fstest.Random(5000))
	must(t, c.Put(testContext(t), []icfs.Block{b}))
	wantBlocks(t, c, []icfs.Block{b})
	flip(t, c.path(b.CID.Digest))
	wantBlocks(t, c, []icfs.Block{b})
	if n := f.Calls(fstest.OpGet); n != 2 {
		t.Fatalf("the store was asked %d times, want 2", n)
	}
	must(t, os.Remove(c.path(b.CID.Digest)))
	wantBlocks(t, c, []icfs.Block{b})
	wantBlocks(t, c, []icfs.Block{b})
	if n := f.Calls(fstest.OpGet); n != 3 {
		t.Fatalf("the store was asked %d times, want 3", n)
	}
	if s := c.Stats(); s.Hits != 1 || s.Misses != 3 || s.Used != 2*cachePage || s.Limit != 1<<20 {
		t.Fatalf("stats: %+v", s)
	}
}

// TestCacheReadsOnce lets many ask for a block that the store is slow to give; the first
// of them gives up.
func TestCacheReadsOnce(t *testing.T) {
	f := fstest.NewFaulty(fstest.NewMemory())
	c := openTestCache(t, f, t.TempDir(), 1<<20)
	b := fstest.RawBlock(fstest.Random(5000))
	must(t, c.Put(testContext(t), []icfs.Block{b}))
	asked, answer := make(chan none, 16), make(chan none)
	f.Before(fstest.OpGet, func(ctx context.Context) error {
		asked <- none{}
		select {
		case <-answer:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	impatient, giveUp := context.WithCancel(testContext(t))
	gaveUp := make(chan error)
	go func() {
		_, err := c.Get(impatient, b.CID)
		gaveUp <- err
	}()
	<-asked
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			_, err := c.Get(testContext(t), b.CID)
			errs <- err
		})
	}
	giveUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Fatalf("the impatient: %v", err)
	}
	<-asked
	close(answer)
	wg.Wait()
	for range 8 {
		must(t, <-errs)
	}
	if n := f.Calls(fstest.OpGet); n != 2 {
		t.Fatalf("the store was asked %d times, want 2", n)
	}
}

// A disk that others need is left to them; the cache gives way, and still works.
func TestCacheLeavesRoom(t *testing.T) {
	var st unix.Statfs_t
	dir := t.TempDir()
	must(t, unix.Statfs(dir, &st))
	for _, x := range []struct {
		minFree uint64
		keeps   bool
	}{{1, true}, {st.Blocks * uint64(st.Bsize), false}} {
		m := fstest.NewMemory()
		c, err := NewCache(m, CacheConfig{Dir: filepath.Join(dir, "c"), Limit: 1 << 30, MinFree: x.minFree, Log: testLog(t)})
		must(t, err)
		blocks := []icfs.Block{fstest.RawBlock(fstest.Random(100)), fstest.RawBlock(fstest.Random(10000))}
		must(t, c.Put(testContext(t), blocks))
		wantBlocks(t, c, blocks)
		wantBlocks(t, c, blocks)
		if kept := c.Used() > 0; kept != x.keeps {
			t.Errorf("with %d bytes to be left free, %d are used", x.minFree, c.Used())
		}
		must(t, c.Close())
	}
}

// What is small and was written here can be read while the store is away; what is large
// has to be read once.
func TestCacheKeepsWritten(t *testing.T) {
	f := fstest.NewFaulty(fstest.NewMemory())
	dir := t.TempDir()
	open := func() *Cache {
		c, err := NewCache(f, CacheConfig{Dir: dir, Limit: 1 << 20, KeepWritten: 10000, Log: testLog(t)})
		must(t, err)
		return c
	}
	c := open()
	small, large := fstest.RawBlock(fstest.Random(10000)), fstest.RawBlock(fstest.Random(10001))
	must(t, c.Put(testContext(t), []icfs.Block{small, large}))
	must(t, c.lock.Close()) // as a death does
	c = open()
	t.Cleanup(func() { must(t, c.Close()) })
	f.Fail(fstest.OpGet, icfs.ErrUnavailable)
	wantBlocks(t, c, []icfs.Block{small})
	_, err := c.Get(testContext(t), large.CID)
	wantErr(t, "what is large", err, icfs.ErrUnavailable)
	f.Heal()
	must(t, c.Free(testContext(t), []icfs.CID{small.CID}))
	if c.Used() != 0 {
		t.Errorf("%d bytes used after all was freed", c.Used())
	}
}
