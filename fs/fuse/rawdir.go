package fuse

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/deadline"
)

// The kernel is told once that there is nothing to open in a directory (Linux 5.1 and
// later go on without). It keeps what was listed, and asks for nothing when it has all;
// but nobody says any more when a listing begins or ends. So the listings that were read
// last are kept, and those that are long are given up a while after their end.
const (
	listingsKept = 1024
	entriesKept  = 1 << 17 // of all together
	plusFirst    = 256     // entries that attributes are given of, whether they are wanted or not
	longListing  = 4096    // entries
	longIdle     = 30 * time.Second
)

// listing is the open listing of a directory, for all who read it.
type listing struct {
	node uint64
	dir  *fs.Dir

	mu     sync.Mutex // one reader at a time; guards dir and those below, but for looked
	closed bool
	given  int         // entries, since it was read from the beginning
	looked atomic.Bool // names in it were looked up since then
	cached kernelCache // what the kernel keeps of it

	// Guarded by mu of listings.
	used  time.Time // last
	size  int       // entries that it counts for
	place *list.Element
}

// read gives entries from a cookie on, and returns how many it has given since the
// beginning, -1 if the listing was given up meanwhile; and whether this is its end, and the
// kernel must not keep it.
func (l *listing) read(ctx context.Context, cookie uint64, add func(*listing, fs.DirEntry, uint64) bool) (given int, unfit bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return -1, false, nil
	}
	if cookie == 0 {
		l.given = 0
		l.looked.Store(false)
	}
	l.cached.read(cookie)
	end := true
	err = l.dir.Read(ctx, cookie, func(e fs.DirEntry, next uint64) bool {
		end = false
		ok := add(l, e, next)
		if ok {
			l.given++
			l.cached.add(e.Name, next)
		}
		return ok
	})
	return l.given, end && err == nil && l.cached.unfit(), err
}

func (l *listing) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.dir.Close()
	}
}

// listings are those that are kept. Lock order: a listing's mu goes before mu, and none of
// them is closed with mu held. The timers end with the process; what they hold is small.
type listings struct {
	mu      sync.Mutex // guards all below
	of      map[uint64]*listing
	order   *list.List // of *listing, the one used last in front
	entries int
}

func newListings() *listings { return &listings{of: map[uint64]*listing{}, order: list.New()} }

// get returns the listing of a directory, and makes one if there is none.
func (ls *listings) get(ctx context.Context, t Tree, node uint64) (*listing, error) {
	ls.mu.Lock()
	l := ls.of[node]
	if l != nil {
		l.used = time.Now()
		ls.order.MoveToFront(l.place)
	}
	ls.mu.Unlock()
	if l != nil {
		return l, nil
	}
	d, err := t.OpenDir(ctx, fs.Ino(node))
	if err != nil {
		return nil, err
	}
	l = &listing{node: node, dir: d, used: time.Now()}
	ls.mu.Lock()
	if other := ls.of[node]; other != nil { // made meanwhile
		ls.mu.Unlock()
		l.close()
		return other, nil
	}
	ls.of[node], l.place = l, ls.order.PushFront(l)
	ls.mu.Unlock()
	return l, nil
}

// looked is told that a name in a directory was looked up.
func (ls *listings) looked(node uint64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.of[node]; l != nil {
		l.looked.Store(true)
	}
}

// grown counts the entries of a listing, and gives up those that were not read for longest
// while there are too many.
func (ls *listings) grown(l *listing, entries int) {
	var out []*listing
	ls.mu.Lock()
	if ls.of[l.node] == l && l.size <= longListing && entries > longListing {
		time.AfterFunc(longIdle, func() { ls.tire(l) })
	}
	if ls.of[l.node] == l && entries > l.size {
		ls.entries += entries - l.size
		l.size = entries
	}
	for len(ls.of) > listingsKept || ls.entries > entriesKept && len(ls.of) > 1 {
		oldest := ls.order.Back().Value.(*listing)
		if oldest == l {
			break
		}
		ls.remove(oldest)
		out = append(out, oldest)
	}
	ls.mu.Unlock()
	for _, o := range out {
		o.close()
	}
}

// remove is called with mu held; the caller closes the listing.
func (ls *listings) remove(l *listing) {
	delete(ls.of, l.node)
	ls.order.Remove(l.place)
	ls.entries -= l.size
}

// tire gives up a long listing that nobody has read for a while, and looks again later
// after one that somebody has.
func (ls *listings) tire(l *listing) {
	ls.mu.Lock()
	if ls.of[l.node] != l {
		ls.mu.Unlock()
		return
	}
	if left := longIdle - time.Since(l.used); left > 0 {
		time.AfterFunc(left, func() { ls.tire(l) })
		ls.mu.Unlock()
		return
	}
	ls.remove(l)
	ls.mu.Unlock()
	l.close()
}

// drop gives up the listing of a directory that the kernel has forgotten.
func (ls *listings) drop(node uint64) {
	ls.mu.Lock()
	l := ls.of[node]
	if l != nil {
		ls.remove(l)
	}
	ls.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// OpenDir is answered once.
func (r *raw) OpenDir(<-chan struct{}, *gofuse.OpenIn, *gofuse.OpenOut) gofuse.Status {
	return gofuse.ENOSYS
}

func (r *raw) ReadDir(c <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return r.readDir(c, in, func(_ *listing, e fs.DirEntry, next uint64) bool {
		return out.AddDirEntry(gofuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Mode, Off: next})
	})
}

// ReadDirPlus gives attributes too, and takes a reference on each inode it tells of. Of the
// many names of a large directory it gives them only to who looks names up: else a listing
// of names alone would load all its inodes. (The kernel can choose between this and ReadDir,
// but knows the names alone of all that follows upon the first 32 KiB, until it looks one up.)
func (r *raw) ReadDirPlus(c <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	plus, end := 0, true
	defer func() { r.relists.listed(in.NodeId, in.Offset == 0, plus, end) }()
	return r.readDir(c, in, func(l *listing, e fs.DirEntry, next uint64) bool {
		end = false
		o := out.AddDirLookupEntry(gofuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Mode, Off: next})
		if o == nil {
			return false
		}
		*o = gofuse.EntryOut{} // node 0: the kernel asks when it needs to know
		if e.Name == "." || e.Name == ".." || l.given >= plusFirst && !l.looked.Load() {
			return true
		}
		if a, err := r.tree.Lookup(request{c}, fs.Ino(in.NodeId), e.Name); err == nil {
			r.entry(&a, o)
			plus++
		}
		return true
	})
}

func (r *raw) readDir(c <-chan struct{}, in *gofuse.ReadIn, add func(*listing, fs.DirEntry, uint64) bool) gofuse.Status {
	for {
		l, err := r.listings.get(request{c}, r.tree, in.NodeId)
		if err != nil {
			return r.fail(err)
		}
		given, unfit, err := l.read(request{c}, in.Offset, add)
		if given < 0 {
			continue
		}
		if unfit {
			r.unkeep(c, in.NodeId)
		}
		r.listings.grown(l, given)
		return r.fail(err)
	}
}

// unkeepMost is how long the end of a listing waits at most for the kernel to forget it.
// Some process may hold a page of it; then a reader of an older listing may miss names.
const unkeepMost = time.Second

// unkeep makes the kernel forget a listing before it learns that it has all of it.
func (r *raw) unkeep(c <-chan struct{}, node uint64) {
	ctx, cancel := deadline.With(request{c}, unkeepMost)
	defer cancel()
	if err := r.clean(ctx, node, 0, 0); err != nil {
		r.log.Debug("making the kernel forget a listing", "error", err)
	}
}
