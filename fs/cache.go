package fs

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// lru is a bounded map from blocks to what they decrypt to. It fetches a missing value
// once, however many ask for it.
//
// It takes no more memory than is of use: its limit begins at the least, grows when what
// is fetched was driven out before, as when a few large files are read here and there, and
// shrinks when what is fetched is new to it, as when many are read once. Memory that it
// does not take is room for garbage, and Go's collector runs less often.
type lru[V any] struct {
	mu          sync.Mutex // guards all below
	least, most int64      // bytes
	limit       int64      // between them
	used        int64
	order       *list.List // of *lruEntry[V], most recently used first
	byCID       map[CID]*list.Element
	flight      map[CID]*flight[V]

	gone     *list.List // of ghost: what was fetched and driven out, the latest first
	goneSize int64      // of them together, at most most
	goneCID  map[CID]*list.Element
}

type lruEntry[V any] struct {
	cid     CID
	v       V
	size    int64
	fetched bool
}

type ghost struct {
	cid  CID
	size int64
}

type flight[V any] struct {
	done chan struct{}
	v    V
	err  error
}

func newLRU[V any](least, most int64) *lru[V] {
	return &lru[V]{least: least, most: most, limit: least, order: list.New(), byCID: map[CID]*list.Element{},
		flight: map[CID]*flight[V]{}, gone: list.New(), goneCID: map[CID]*list.Element{}}
}

func (c *lru[V]) peek(cid CID) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byCID[cid]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[V]).v, true
}

// has reports whether a value is there, or on its way.
func (c *lru[V]) has(cid CID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, there := c.byCID[cid]
	_, coming := c.flight[cid]
	return there || coming
}

func (c *lru[V]) put(cid CID, v V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(&lruEntry[V]{cid, v, size, false})
}

func (c *lru[V]) putLocked(e *lruEntry[V]) {
	if _, ok := c.byCID[e.cid]; ok {
		return
	}
	c.byCID[e.cid] = c.order.PushFront(e)
	c.used += e.size
	c.shrink()
}

// learn moves the limit after a fetch.
func (c *lru[V]) learn(cid CID, size int64) {
	if g, ok := c.goneCID[cid]; ok {
		c.bury(g)
		c.limit = min(c.limit+size, c.most)
	} else {
		c.limit = max(c.limit-size/2, min(c.least, c.most))
	}
}

// bury forgets what was driven out.
func (c *lru[V]) bury(e *list.Element) {
	g := c.gone.Remove(e).(ghost)
	delete(c.goneCID, g.cid)
	c.goneSize -= g.size
}

// resize changes the most that may be used.
func (c *lru[V]) resize(most int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = most
	c.limit = min(max(c.limit, c.least), most)
	c.shrink()
}

func (c *lru[V]) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// room is how many bytes may be fetched ahead without driving out what is in use.
func (c *lru[V]) room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(min(c.most/4, c.limit/2, 1<<30))
}

func (c *lru[V]) shrink() {
	for c.used > c.limit && c.order.Len() > 1 {
		e := c.order.Remove(c.order.Back()).(*lruEntry[V])
		delete(c.byCID, e.cid)
		c.used -= e.size
		if e.fetched {
			c.goneCID[e.cid] = c.gone.PushFront(ghost{e.cid, e.size})
			c.goneSize += e.size
		}
	}
	for c.goneSize > c.most {
		c.bury(c.gone.Back())
	}
}

// get returns the value of cid, from fetch if it is not there. fetch runs with the
// context of the first who asks; others wait for it no longer than their own.
func (c *lru[V]) get(ctx context.Context, cid CID, fetch func() (V, int64, error)) (V, error) {
	c.mu.Lock()
	if e, ok := c.byCID[cid]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*lruEntry[V]).v, nil
	}
	if f, ok := c.flight[cid]; ok {
		c.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil && context.Cause(ctx) == nil { // it may have failed for its asker's reasons
				v, _, err := fetch()
				return v, err
			}
			return f.v, f.err
		case <-ctx.Done():
			var zero V
			return zero, ctx.Err()
		}
	}
	f := &flight[V]{done: make(chan struct{})}
	c.flight[cid] = f
	c.mu.Unlock()

	v, size, err := fetch()
	f.v, f.err = v, err
	c.mu.Lock()
	delete(c.flight, cid)
	if err == nil {
		c.learn(cid, size)
		c.putLocked(&lruEntry[V]{cid, v, size, true})
	}
	c.mu.Unlock()
	close(f.done)
	return v, err
}

// reader fetches, verifies and opens blocks. It knows no tree.
type reader struct {
	store Store
	pages *lru[*page]
	blobs *lru[[]byte]
}

func newReader(s Store, memory int64) *reader {
	return &reader{store: s, pages: newLRU[*page](memory/8, memory/8), blobs: newLRU[[]byte](memory/8, memory/2)}
}

func (r *reader) page(ctx context.Context, kind crypt.PageKind, ptr *crypt.PagePointer) (*page, error) {
	return r.pages.get(ctx, ptr.CID, func() (*page, int64, error) {
		sealed, err := r.fetch(ctx, ptr.CID)
		if err != nil {
			return nil, 0, err
		}
		plain, err := crypt.OpenPage(kind, ptr.Pointer, sealed)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrIntegrity, err)
		}
		p, err := decodePage(kind, plain)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: page %s: %w", ErrIntegrity, ptr.CID, err)
		}
		return p, p.memory(), nil
	})
}

// memory is about what a decoded page takes, with its place in the cache.
func (p *page) memory() int64 {
	each := 64
	if !p.leaf {
		each += crypt.PointerSize + 128
	}
	return int64(p.bytes + len(p.items)*each + 256)
}

func (r *reader) blob(ctx context.Context, ptr crypt.Pointer) ([]byte, error) {
	return r.blobs.get(ctx, ptr.CID, func() ([]byte, int64, error) {
		sealed, err := r.fetch(ctx, ptr.CID)
		if err != nil {
			return nil, 0, err
		}
		b, err := crypt.OpenBlob(ptr, sealed)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrIntegrity, err)
		}
		return b, blobMemory(b), nil
	})
}

// blobMemory is about what a blob takes, with its place in the cache.
func blobMemory(b []byte) int64 { return int64(cap(b)) + 256 }

// errBlockMissing: the store does not have a block that the tree needs. That is no
// ErrNotFound: a name behind it must never seem not to exist.
var errBlockMissing = errors.New("the store does not have it")

// fetch gets a block and names the one that is missing or damaged.
func (r *reader) fetch(ctx context.Context, cid CID) ([]byte, error) {
	b, err := r.store.Get(ctx, cid)
	if isNotFound(err) {
		return nil, fmt.Errorf("%w: block %s: %w", ErrIntegrity, cid, errBlockMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", cid, err)
	}
	return b, nil
}
