package fs

import (
	"container/list"
	"context"
	"sync"
)

// lru is a bounded map from blocks, or parts of them, to what they decrypt to. It fetches a
// missing value once, however many ask for it.
//
// It takes no more memory than is of use: its limit begins at the least, grows when what
// is fetched was driven out before, as when a few large files are read here and there, and
// shrinks when what comes in is new to it, as when many are read once or written, and with
// time. Memory that it does not take is room for garbage, and Go's collector runs less often.
type lru[K comparable, V any] struct {
	mu          sync.Mutex // guards all below
	least, most int64      // bytes
	limit       int64      // between them
	regained    bool       // what was driven out was fetched again, since age was called
	used        int64
	order       *list.List // of *lruEntry[K, V], most recently used first
	byKey       map[K]*list.Element
	flight      map[K]*flight[V]

	gone     *list.List // of ghost: what was fetched and driven out, the latest first
	goneSize int64      // of them together, at most most; and there are at most goneMax
	goneKey  map[K]*list.Element
}

// goneMax bounds what is remembered of small values; each takes some 200 bytes.
const goneMax = 1 << 14

type lruEntry[K comparable, V any] struct {
	key     K
	v       V
	size    int64
	fetched bool
}

type ghost[K comparable] struct {
	key  K
	size int64
}

type flight[V any] struct {
	done chan struct{}
	v    V
	err  error
}

func newLRU[K comparable, V any](least, most int64) *lru[K, V] {
	return &lru[K, V]{least: least, most: most, limit: least, order: list.New(), byKey: map[K]*list.Element{},
		flight: map[K]*flight[V]{}, gone: list.New(), goneKey: map[K]*list.Element{}}
}

func (c *lru[K, V]) peek(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).v, true
}

// has reports whether a value is there, or on its way.
func (c *lru[K, V]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, there := c.byKey[key]
	_, coming := c.flight[key]
	return there || coming
}

func (c *lru[K, V]) put(key K, v V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learn(key, size)
	c.putLocked(&lruEntry[K, V]{key, v, size, false})
}

func (c *lru[K, V]) putLocked(e *lruEntry[K, V]) {
	if _, ok := c.byKey[e.key]; ok {
		return
	}
	c.byKey[e.key] = c.order.PushFront(e)
	c.used += e.size
	c.shrink()
}

// drop forgets values that are not read any more.
func (c *lru[K, V]) drop(keys []K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if e, ok := c.byKey[key]; ok {
			c.used -= c.order.Remove(e).(*lruEntry[K, V]).size
			delete(c.byKey, key)
		}
	}
}

// learn moves the limit when something comes in.
func (c *lru[K, V]) learn(key K, size int64) {
	if g, ok := c.goneKey[key]; ok {
		c.bury(g)
		c.limit, c.regained = min(c.limit+size, c.most), true
	} else {
		c.limit = max(c.limit-size/2, min(c.least, c.most))
	}
}

// age takes a quarter of what the limit has grown by, unless that was of use since the last
// call. Who still reads here and there has it back at once, for little.
func (c *lru[K, V]) age() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.regained {
		c.limit -= (c.limit - min(c.least, c.limit)) / 4
		c.shrink()
	}
	c.regained = false
}

// bury forgets what was driven out.
func (c *lru[K, V]) bury(e *list.Element) {
	g := c.gone.Remove(e).(ghost[K])
	delete(c.goneKey, g.key)
	c.goneSize -= g.size
}

// resize changes the most that may be used.
func (c *lru[K, V]) resize(most int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = most
	c.limit = min(max(c.limit, c.least), most)
	c.shrink()
}

func (c *lru[K, V]) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// room is how many bytes may be fetched ahead without driving out what is in use.
func (c *lru[K, V]) room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(min(c.most/4, c.limit/2, 1<<30))
}

func (c *lru[K, V]) shrink() {
	for c.used > c.limit && c.order.Len() > 1 {
		e := c.order.Remove(c.order.Back()).(*lruEntry[K, V])
		delete(c.byKey, e.key)
		c.used -= e.size
		if e.fetched && c.least < c.most {
			c.goneKey[e.key] = c.gone.PushFront(ghost[K]{e.key, e.size})
			c.goneSize += e.size
		}
	}
	for c.goneSize > c.most || c.gone.Len() > goneMax {
		c.bury(c.gone.Back())
	}
}

// get returns the value of key, from fetch if it is not there. fetch runs with the
// context of the first who asks; others wait for it no longer than their own.
func (c *lru[K, V]) get(ctx context.Context, key K, fetch func() (V, int64, error)) (V, error) {
	c.mu.Lock()
	if e, ok := c.byKey[key]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*lruEntry[K, V]).v, nil
	}
	if f, ok := c.flight[key]; ok {
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
	c.flight[key] = f
	c.mu.Unlock()

	v, size, err := fetch()
	f.v, f.err = v, err
	c.mu.Lock()
	delete(c.flight, key)
	if err == nil {
		c.learn(key, size)
		c.putLocked(&lruEntry[K, V]{key, v, size, true})
	}
	c.mu.Unlock()
	close(f.done)
	return v, err
}
