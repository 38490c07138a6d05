package fuse

import "os"

// kernelCache follows how the kernel's cache of a listing grows, a reader's request after
// the other. Linux (6.18 and those before it) that looks in a complete cache for a place
// which is not in it, for a reader that began before it was made, takes a full last page
// for the directory's end: that reader would miss all that follows. So a listing that ends
// with a page, or of which that cannot be told, must not be kept.
type kernelCache struct {
	next uint64 // cookie from which it goes on
	size int    // bytes, in pages
	torn bool   // it was read in another order since its beginning
}

// read is told that the listing is read from a cookie on.
func (c *kernelCache) read(cookie uint64) {
	switch cookie {
	case 0:
		*c = kernelCache{}
	case c.next:
	default:
		c.torn = true
	}
}

// add is told of an entry and the cookie of the one after it.
func (c *kernelCache) add(name string, next uint64) {
	n := (24 + len(name) + 7) &^ 7 // struct fuse_dirent
	page := os.Getpagesize()
	if c.size%page+n > page { // no entry lies in two of them
		c.size += page - c.size%page
	}
	c.size += n
	c.next = next
}

// unfit reports whether the kernel must not keep the listing.
func (c *kernelCache) unfit() bool { return c.torn || c.size%os.Getpagesize() == 0 }
