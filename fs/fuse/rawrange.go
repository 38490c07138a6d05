package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
)

// pageSize is what the kernel keeps and writes back at once of a file that is mapped.
const pageSize = 4096

// Fallocate changes the space of a range. The kernel has written back what it has of the
// range, keeps others from faulting pages in until the answer, and then clears the range
// in those that are there. But a page that another process has mapped stays open to it:
// changed at the one end and written back too late, it would bring back at the other what
// was punched. So the kernel has to give up the pages that lie in the range only in part.
func (r *raw) Fallocate(c <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	ctx, cancel := r.bounded(c)
	defer cancel()
	if in.Mode&(fs.FallocPunchHole|fs.FallocZeroRange) != 0 {
		end := in.Offset + in.Length
		for _, at := range [...]uint64{in.Offset, end} {
			if at%pageSize == 0 || at < in.Offset {
				continue
			}
			page := at / pageSize * pageSize
			if err := r.clean(ctx, in.NodeId, page, page+pageSize); err != nil {
				return r.fail(err)
			}
		}
	}
	return r.fail(r.tree.Fallocate(request{c}, fs.Ino(in.NodeId), in.Offset, in.Length, in.Mode))
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
