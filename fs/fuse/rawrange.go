package fuse

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
)

// pageSize is what the kernel keeps and writes back at once of a file that is mapped.
const pageSize = 4096

// Fallocate changes the space of a range. After a hole was punched, or zeros were asked
// for, the kernel clears the range in the pages that it has. Until then another process may
// change such a page, if it has mapped the rest of it, and the kernel may write it back:
// with what was in the hole. So, of the pages that lie in the range only in part:
//
//   - from now on nothing is taken that the kernel writes back to the range;
//   - it has to give the pages up, and with that, to end what it was writing back;
//   - the hole is made, and what is read from now on has it;
//   - it has to give the pages up again, which may have been read before that.
func (r *raw) Fallocate(c <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	ctx, cancel := r.bounded(c)
	defer cancel()
	var edges []uint64
	if in.Mode&(fs.FallocPunchHole|fs.FallocZeroRange) != 0 {
		edges = edgesOf(in.Offset, in.Length)
	}
	if len(edges) > 0 {
		defer r.holes.add(in.NodeId, in.Offset, in.Length)()
	}
	if err := r.giveUp(ctx, in.NodeId, edges); err != nil {
		return r.fail(err)
	}
	if err := r.tree.Fallocate(request{c}, fs.Ino(in.NodeId), in.Offset, in.Length, in.Mode); err != nil {
		return r.fail(err)
	}
	return r.fail(r.giveUp(ctx, in.NodeId, edges))
}

// edgesOf are the pages that lie in a range in part, by their offsets.
func edgesOf(off, n uint64) (pages []uint64) {
	first, last := off/pageSize*pageSize, (off+n)/pageSize*pageSize
	if off != first {
		pages = append(pages, first)
	}
	if off+n != last && (len(pages) == 0 || last != first) {
		pages = append(pages, last)
	}
	return pages
}

// giveUp makes the kernel write back, and forget, some pages.
func (r *raw) giveUp(ctx context.Context, node uint64, pages []uint64) error {
	for _, at := range pages {
		if err := r.clean(ctx, node, at, at+pageSize); err != nil {
			return err
		}
	}
	return nil
}

// holes are the ranges that are being punched.
type holes struct {
	n  atomic.Int32 // of all
	mu sync.Mutex   // guards of
	of map[uint64][]*hole
}

type hole struct{ from, to uint64 }

// add begins to keep a range; end ends it.
func (h *holes) add(node, off, n uint64) (end func()) {
	x := &hole{off, off + n}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[uint64][]*hole{}
	}
	h.of[node] = append(h.of[node], x)
	h.n.Add(1)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.n.Add(-1)
		h.of[node] = slices.DeleteFunc(h.of[node], func(y *hole) bool { return x == y })
		if len(h.of[node]) == 0 {
			delete(h.of, node)
		}
	}
}

// keep clears what the kernel writes back to ranges that are being punched.
func (h *holes) keep(node, off uint64, p []byte) {
	if h.n.Load() == 0 { // as a rule
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	end := off + uint64(len(p))
	for _, x := range h.of[node] {
		if from, to := max(x.from, off), min(x.to, end); from < to {
			clear(p[from-off : to-off])
		}
	}
}

// CopyFileRange shares what is stored. When it is done the kernel drops the pages of the
// range, the first and the last one whole: what another process wrote to the rest of them
// through a mapping meanwhile would be lost. So only whole pages are copied here, and what
// ends the file; for the rest the kernel is told to read and write.
func (r *raw) CopyFileRange(c <-chan struct{}, in *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	if in.Flags != 0 {
		return 0, gofuse.EINVAL
	}
	if in.OffOut%pageSize != 0 {
		return 0, r.fail(fs.ErrNotSupported)
	}
	from, err := r.tree.GetAttr(request{c}, fs.Ino(in.NodeId))
	if err != nil {
		return 0, r.fail(err)
	}
	to, err := r.tree.GetAttr(request{c}, fs.Ino(in.NodeIdOut))
	if err != nil {
		return 0, r.fail(err)
	}
	n := min(in.Len, from.Size-min(from.Size, in.OffIn), 1<<30) // the answer has 32 bits
	if end := in.OffOut + n; n > 0 && end%pageSize != 0 && end < to.Size {
		if n -= min(n, end%pageSize); n == 0 {
			return 0, r.fail(fs.ErrNotSupported)
		}
	}
	n, err = r.tree.CopyRange(request{c}, fs.Ino(in.NodeId), in.OffIn, fs.Ino(in.NodeIdOut), in.OffOut, n)
	return uint32(n), r.fail(err)
}
