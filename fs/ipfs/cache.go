package ipfs

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	icfs "github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// CacheConfig says where the cache lies and how large it may grow.
type CacheConfig struct {
	Dir   string // belongs to this cache alone
	Limit uint64 // bytes on disk, files rounded up to 4 KiB
	// MinFree bytes are left to others on the disk, as far as the cache can give way.
	MinFree uint64
	// KeepWritten is the size of the largest blocks that are kept when they are put, as if
	// they had been read: pages of metadata, so that what was written here can be listed
	// while the node is away. 0 keeps none.
	KeepWritten int
	Log         *slog.Logger
}

// Cache is a Store before another one that keeps blocks it has read on local disk, as
// they are: sealed. The least recently read go first. It verifies what it reads back, and
// what does not verify it drops and reads anew; so it never syncs. A cache that fails is
// slower, and nothing else.
type Cache struct {
	icfs.Store
	conf CacheConfig
	lock *os.File

	hits, misses atomic.Uint64

	mu     sync.Mutex
	files  map[[32]byte]*list.Element // of *cached
	recent *list.List                 // the most recently read first
	used   uint64
	free   uint64             // on the disk, when last asked; 0 before that
	asked  uint64             // used then
	reads  map[[32]byte]*read // under way, so that a block is read once for all who wait
}

type cached struct {
	digest  [32]byte
	size    uint64
	touched time.Time // as its file shows it; the order of the next start
}

type read struct {
	done chan none
	data []byte
	err  error
}

const (
	cachePage = 4096
	// touchAfter is how old the time of a file may be before a read renews it.
	touchAfter = time.Hour
	cacheTmp   = ".tmp"
	askFree    = 1 << 20
)

var _ icfs.Store = (*Cache)(nil)

// NewCache opens the cache in front of store. Its errors wrap fs.ErrBusy when another
// cache has the directory. Closing the cache closes the store.
func NewCache(store icfs.Store, conf CacheConfig) (_ *Cache, err error) {
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		Store: store, conf: conf,
		files: make(map[[32]byte]*list.Element), recent: list.New(), reads: make(map[[32]byte]*read),
	}
	if err := safefile.MakeDir(conf.Dir); err != nil {
		return nil, meaning(err)
	}
	if c.lock, err = lockDir(conf.Dir, "cache directory"); err != nil {
		return nil, meaning(err)
	}
	if err := c.scan(); err != nil {
		return nil, meaning(errors.Join(err, c.lock.Close()))
	}
	return c, nil
}

// scan takes in what an earlier process left, by the times of the files.
func (c *Cache) scan() error {
	var found []*cached
	err := filepath.WalkDir(c.conf.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		id, err := crypt.ParseCID(d.Name())
		if err != nil {
			if strings.HasSuffix(path, cacheTmp) {
				return os.Remove(path)
			}
			return nil // not ours
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found = append(found, &cached{id.Digest, onDisk(info.Size()), info.ModTime()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b *cached) int { return a.touched.Compare(b.touched) })
	for _, f := range found {
		c.files[f.digest] = c.recent.PushFront(f)
		c.used += f.size
	}
	c.evict()
	return nil
}

func onDisk(size int64) uint64 { return (uint64(size) + cachePage - 1) / cachePage * cachePage }

// path is the file of a block. Its name is the CID of the bytes as raw.
func (c *Cache) path(digest [32]byte) string {
	return filepath.Join(c.conf.Dir, name(digest))
}

// name is where a block lies below the directory.
func name(digest [32]byte) string {
	return filepath.Join(fmt.Sprintf("%02x", digest[0]), icfs.CID{Codec: crypt.Raw, Digest: digest}.String())
}

// Get implements fs.Store.
func (c *Cache) Get(ctx context.Context, id icfs.CID) ([]byte, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if data, ok := c.load(id); ok {
			c.hits.Add(1)
			return data, nil
		}
		c.mu.Lock()
		r, waiting := c.reads[id.Digest]
		if !waiting {
			r = &read{done: make(chan none)}
			c.reads[id.Digest] = r
		}
		c.mu.Unlock()
		if !waiting {
			c.misses.Add(1)
			return c.fetch(ctx, id, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, meaning(ctx.Err())
		}
		if r.err == nil {
			return slices.Clone(r.data), nil
		}
		if !errors.Is(r.err, context.Canceled) && !errors.Is(r.err, context.DeadlineExceeded) {
			return nil, r.err
		}
		// Who read for all gave up; that is no reason for the others.
	}
}

// Put implements fs.Store.
func (c *Cache) Put(ctx context.Context, blocks []icfs.Block) error {
	if err := c.Store.Put(ctx, blocks); err != nil {
		return err
	}
	for _, b := range blocks {
		if len(b.Data) > c.conf.KeepWritten || ctx.Err() != nil {
			continue
		}
		if err := c.keep(b.CID.Digest, b.Data); err != nil {
			c.conf.Log.Debug("a block is not cached", "cid", b.CID, "error", err)
		}
	}
	return nil
}

func (c *Cache) fetch(ctx context.Context, id icfs.CID, r *read) ([]byte, error) {
	r.data, r.err = c.Store.Get(ctx, id)
	if r.err == nil {
		if err := c.keep(id.Digest, r.data); err != nil {
			c.conf.Log.Debug("a block is not cached", "cid", id, "error", err)
		}
	}
	c.mu.Lock()
	delete(c.reads, id.Digest)
	c.mu.Unlock()
	close(r.done)
	if r.err != nil {
		return nil, r.err
	}
	return slices.Clone(r.data), nil // others may hold r.data
}

// load reads a block from the cache, if it is there and whole.
func (c *Cache) load(id icfs.CID) ([]byte, bool) {
	c.mu.Lock()
	e, ok := c.files[id.Digest]
	stale := false
	now := time.Now()
	if ok {
		c.recent.MoveToFront(e)
		f := e.Value.(*cached)
		if stale = now.Sub(f.touched) > touchAfter; stale {
			f.touched = now
		}
	}
	c.mu.Unlock()
	if !ok {
		return nil, false
	}
	path := c.path(id.Digest)
	data, err := safefile.ReadIn(c.lock, name(id.Digest))
	if err != nil || !id.Verify(data) {
		c.conf.Log.Warn("a cached block is damaged; reading it anew", "cid", id, "error", err)
		c.drop(id.Digest)
		return nil, false
	}
	if stale {
		if err := os.Chtimes(path, now, now); err != nil {
			c.conf.Log.Debug("cannot note the use of a cached block", "error", err)
		}
	}
	return data, true
}

// keep writes a block to the cache and makes room for it.
func (c *Cache) keep(digest [32]byte, data []byte) error {
	size := onDisk(int64(len(data)))
	if size > c.conf.Limit {
		return nil
	}
	path := c.path(digest)
	if err := safefile.MkdirIn(c.lock, filepath.Dir(name(digest))); err != nil {
		return err
	}
	f, err := safefile.OpenIn(c.lock, name(digest)+"-"+rand.Text()+cacheTmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if old, ok := c.files[digest]; ok {
		c.used -= c.recent.Remove(old).(*cached).size
	}
	c.files[digest] = c.recent.PushFront(&cached{digest, size, time.Now()})
	c.used += size
	c.evict()
	return nil
}

// evict removes the least recently read until the cache is within its limit, and the disk
// has room for others.
func (c *Cache) evict() {
	limit := c.conf.Limit
	if over := c.scarce(); over > 0 {
		limit = min(limit, c.used-min(c.used, over))
	}
	for c.used > limit {
		c.remove(c.recent.Back().Value.(*cached).digest)
	}
}

// scarce is how many bytes the disk lacks of those to be left free. It asks the disk
// again when a MiB more may have been taken.
func (c *Cache) scarce() uint64 {
	if c.conf.MinFree == 0 {
		return 0
	}
	if c.free == 0 || c.used > c.asked+askFree || c.used < c.asked {
		var st unix.Statfs_t
		if err := unix.Statfs(c.conf.Dir, &st); err != nil {
			c.conf.Log.Warn("asking for the space beside the cache", "error", err)
			return 0
		}
		c.free, c.asked = max(1, st.Bavail*uint64(st.Bsize)), c.used
	}
	if free := c.free - min(c.free, c.used-c.asked); free < c.conf.MinFree {
		return c.conf.MinFree - free
	}
	return 0
}

func (c *Cache) drop(digest [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(digest)
}

func (c *Cache) remove(digest [32]byte) {
	e, ok := c.files[digest]
	if !ok {
		return
	}
	delete(c.files, digest)
	c.used -= c.recent.Remove(e).(*cached).size
	if err := os.Remove(c.path(digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.conf.Log.Warn("cannot remove a cached block", "error", err)
	}
}

// Free implements fs.Store.
func (c *Cache) Free(ctx context.Context, ids []icfs.CID) error {
	for _, id := range ids {
		c.drop(id.Digest)
	}
	return c.Store.Free(ctx, ids)
}

// Used returns the bytes that the cache takes on disk.
func (c *Cache) Used() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// CacheStats are how often a block was in the cache or not, since it was opened, and the
// bytes that it takes and may take.
type CacheStats struct {
	Hits, Misses uint64
	Used, Limit  uint64
}

// Stats returns at once.
func (c *Cache) Stats() CacheStats {
	return CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Used: c.Used(), Limit: c.conf.Limit}
}

// Close implements fs.Store.
func (c *Cache) Close() error {
	err := c.Store.Close()
	if lockErr := c.lock.Close(); !errors.Is(lockErr, os.ErrClosed) {
		err = errors.Join(err, lockErr)
	}
	return err
}
