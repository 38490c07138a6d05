package fs

import (
	"context"
	"testing"
)

// unit is the size of a value.
const unit = 8

// cached is an lru with room for so many values, and counts what it fetches.
type cached struct {
	*lru[int, int]
	fetched int
}

func newCached(least, most int64) *cached {
	return &cached{lru: newLRU[int, int](least*unit, most*unit)}
}

func (c *cached) read(t *testing.T, i int) {
	t.Helper()
	v, err := c.get(context.Background(), i, func() (int, int64, error) { c.fetched++; return i, unit, nil })
	if v != i || err != nil {
		t.Fatalf("value %d is %d, %v", i, v, err)
	}
}

// pass reads the values from begin to end once and returns how many had to be fetched.
func (c *cached) pass(t *testing.T, begin, end int) int {
	t.Helper()
	before := c.fetched
	for i := begin; i < end; i++ {
		c.read(t, i)
	}
	return c.fetched - before
}

// TestCacheGrowsWithUse: what is read again and again gets all the memory there is; what
// is read once does not.
func TestCacheGrowsWithUse(t *testing.T) {
	c := newCached(10, 100)
	c.pass(t, 0, 1000)
	if c.size() > 10*unit {
		t.Errorf("after reading once, %d of 10 are used", c.size()/unit)
	}
	for range 3 {
		c.pass(t, 2000, 2080)
	}
	if n := c.pass(t, 2000, 2080); n != 0 {
		t.Errorf("%d of 80 values that were read before had to be fetched, with room for 100", n)
	}
	c.pass(t, 3000, 4000)
	if c.size() > 10*unit {
		t.Errorf("after reading others once, %d are used, 10 are enough", c.size()/unit)
	}
}

// TestCacheBounded: neither the values nor what is remembered of those that are gone
// outgrows the bound, also when the bound shrinks.
func TestCacheBounded(t *testing.T) {
	c := newCached(10, 100)
	for _, most := range []int64{100, 50, 5, 100} {
		most *= unit
		c.resize(most)
		for range 4 {
			c.pass(t, 0, 90)
			if c.size() > most || c.goneSize > most || len(c.goneKey) != c.gone.Len() || int64(c.gone.Len())*unit != c.goneSize {
				t.Fatalf("%d bytes used, %d remembered in %d and %d entries; at most %d", c.size(), c.goneSize, len(c.goneKey), c.gone.Len(), most)
			}
		}
	}
	if n := c.pass(t, 0, 90); n != 0 {
		t.Errorf("%d of 90 had to be fetched after the bound was 100 again", n)
	}
}

// TestCachePutIsNoUse: what a commit puts there, and nobody reads, makes it no larger, and
// smaller if it was large.
func TestCachePutIsNoUse(t *testing.T) {
	c := newCached(10, 100)
	for range 3 {
		c.pass(t, 2000, 2080)
	}
	for i := range 1000 {
		c.put(i, i, unit)
	}
	if c.size() > 10*unit {
		t.Errorf("%d are used after the puts, 10 are enough", c.size()/unit)
	}
	c.pass(t, 900, 990) // driven out, but never fetched before
	if c.size() > 10*unit {
		t.Errorf("%d are used after reading once what was put, 10 are enough", c.size()/unit)
	}
}

// TestCacheAges: what nobody reads any more gives its memory back; what is read keeps it.
func TestCacheAges(t *testing.T) {
	c := newCached(10, 100)
	grow := func() {
		for range 4 {
			c.pass(t, 0, 80)
		}
	}
	grow()
	if n := c.pass(t, 0, 80); n != 0 {
		t.Fatalf("%d of 80 values had to be fetched", n)
	}
	fetched := 0
	for range 20 {
		c.age()
		fetched += c.pass(t, 0, 80)
	}
	if c.size() < 80*unit || fetched > 20*80/2 {
		t.Errorf("in use, %d of 80 values stay, and %d were fetched again in 20 passes", c.size()/unit, fetched)
	}
	for range 20 {
		c.age()
	}
	if c.size() > 11*unit {
		t.Errorf("not in use, %d values stay, 10 are enough", c.size()/unit)
	}
	grow()
	if n := c.pass(t, 0, 80); n != 0 {
		t.Errorf("in use again, %d of 80 values had to be fetched", n)
	}
}

// What was dropped is not there any more, takes no room, and is fetched as new.
func TestCacheDrops(t *testing.T) {
	c := newCached(10, 100)
	c.pass(t, 0, 10)
	c.drop([]int{2, 3, 77})
	if c.size() != 8*unit || c.has(2) || !c.has(4) {
		t.Errorf("%d values of 8 are used, 2 is there: %v, 4 is: %v", c.size()/unit, c.has(2), c.has(4))
	}
	if n := c.pass(t, 0, 10); n != 2 {
		t.Errorf("%d of 2 values had to be fetched", n)
	}
	if c.size() != 10*unit {
		t.Errorf("%d values of 10 are used", c.size()/unit)
	}
}

// The caches share what the rest of the tree leaves of half of the limit.
func TestBalance(t *testing.T) {
	const limit = 1 << 20
	for _, x := range []struct {
		name          string
		weight, dirty int64
		pages, blobs  int // bytes that they have
		wantPages     int64
		wantBlobs     int64
	}{
		{"nothing", 0, 0, 0, 0, limit * 3 / 16, limit / 2},
		{"pages", 0, 0, limit * 3 / 16, 0, limit * 3 / 16, limit * 5 / 16},
		{"blobs", 0, 0, 0, limit / 2, limit / 8, limit / 2},
		{"blobs and pages", 0, 0, limit / 8, limit * 3 / 8, limit / 8, limit * 3 / 8},
		{"inodes", limit / 5, 0, 0, 0, limit * 3 / 16, limit/2 - limit/5},
		{"inodes and writes", limit / 5, limit / 4, limit * 3 / 16, limit / 2, limit / 8, limit / 32},
	} {
		tree := &Tree{reader: newReader(nil, limit)}
		tree.cfg.MemoryLimit = limit
		tree.weight, tree.dirty = x.weight, x.dirty
		r := tree.reader
		r.pages.limit, r.blobs.limit, r.blobs.most = limit, limit, limit
		r.pages.put(CID{}, nil, int64(x.pages))
		r.blobs.put(blobPart{}, nil, int64(x.blobs))
		tree.balance()
		if r.pages.most != x.wantPages || r.blobs.most != x.wantBlobs {
			t.Errorf("%s: pages may have %d and blobs %d of %d, not %d and %d", x.name, r.pages.most, r.blobs.most, limit, x.wantPages, x.wantBlobs)
		}
	}
}
