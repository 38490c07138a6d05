package fs

import (
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// source is where bytes of a file come from: a stored blob, or memory until it is sealed.
// Several extents, also of several files, may share one source.
type source struct {
	ptr crypt.Pointer // set once sealed and never changed after that

	// Below: guarded by Tree.mu.
	data   []byte      // plaintext; nil once the blob is stored
	blob   *stagedBlob // has data sealed already; nil for what is in the journal
	frozen bool        // the committer reads data: bytes already there must not change

	taken bool // a commit sealed data, or parts of it; the committer's own
}

func (s *source) stored() bool { return !s.ptr.IsZero() }

// extent is a run of bytes of a file. What no extent covers is a hole and reads as zeros.
type extent struct {
	off uint64 // in the file
	len uint32
	at  uint32 // in the source
	src *source
}

func (e *extent) end() uint64 { return e.off + uint64(e.len) }

// extents is the map of a file: sorted by offset, without overlaps, none empty.
type extents []extent

// find returns the index of the first extent that ends after off.
func (x extents) find(off uint64) int {
	i, _ := slices.BinarySearchFunc(x, off, func(e extent, o uint64) int {
		if e.end() <= o {
			return -1
		}
		return 1
	})
	return i
}

// replace returns x with [off, end) given to the extents in with, which lie inside that
// range; nil makes a hole. It changes x's memory.
func (x extents) replace(off, end uint64, with ...extent) extents {
	i := x.find(off)
	j := i
	var left, right extent
	for j < len(x) && x[j].off < end {
		if x[j].off < off {
			left = x[j]
			left.len = uint32(off - left.off)
		}
		if x[j].end() > end {
			right = x[j]
			cut := uint32(end - right.off)
			right.off, right.at, right.len = end, right.at+cut, right.len-cut
		}
		j++
	}
	var mid [4]extent
	put := mid[:0]
	if left.len > 0 {
		put = append(put, left)
	}
	put = append(put, with...)
	if right.len > 0 {
		put = append(put, right)
	}
	if j-i == len(put) {
		copy(x[i:j], put)
		return x
	}
	return slices.Replace(x, i, j, put...)
}

// slice returns the extents that cover [off, end), cut to it. It shares no memory with x.
func (x extents) slice(off, end uint64) extents {
	var out extents
	for i := x.find(off); i < len(x) && x[i].off < end; i++ {
		e := x[i]
		if e.off < off {
			cut := uint32(off - e.off)
			e.off, e.at, e.len = off, e.at+cut, e.len-cut
		}
		if e.end() > end {
			e.len = uint32(end - e.off)
		}
		out = append(out, e)
	}
	return out
}

// SpaceUnit is the granularity, in bytes, at which data and holes are told apart: st_blocks,
// SEEK_DATA and SEEK_HOLE all answer in whole units, as ext4 does. Programs that copy with
// O_DIRECT (qemu-img among them) fail when a hole begins in the middle of a block.
const SpaceUnit = 4096

func unitDown(off uint64) uint64 { return off &^ (SpaceUnit - 1) }
func unitUp(off uint64) uint64   { return unitDown(off + SpaceUnit - 1) }

// allocated is the number of bytes in the units that hold any data.
func (x extents) allocated() uint64 {
	n, _ := x.allocatedAfter(0)
	return n
}

// allocatedAfter is allocated without the units before covered; end is where the units end
// that have been counted then.
func (x extents) allocatedAfter(covered uint64) (n, end uint64) {
	for i := range x {
		from, to := max(unitDown(x[i].off), covered), unitUp(x[i].end())
		if to > from {
			n += to - from
			covered = to
		}
	}
	return n, covered
}

// blobs returns the distinct stored blobs that x uses, in the order of first use.
func (x extents) blobs() []*source {
	seen := map[CID]bool{} // a blob may have hundreds of extents
	var out []*source
	var last *source
	for i := range x {
		s := x[i].src
		if s == last {
			continue
		}
		last = s
		if s.stored() && !seen[s.ptr.CID] {
			seen[s.ptr.CID] = true
			out = append(out, s)
		}
	}
	return out
}

// join merges neighbours that continue each other in one blob.
func (x extents) join() extents {
	out := x[:0]
	for _, e := range x {
		if n := len(out); n > 0 {
			l := &out[n-1]
			if l.src == e.src && l.end() == e.off && l.at+l.len == e.at {
				l.len += e.len
				continue
			}
		}
		out = append(out, e)
	}
	return out
}

const extentSize = 8 + 4 + 4 + crypt.PointerSize

func encodeExtent(e *crypt.Encoder, x *extent) {
	e.U64(x.off)
	e.U32(x.len)
	e.U32(x.at)
	x.src.ptr.Encode(e)
}

// decodeExtent returns an extent without its source, and the pointer to that.
func decodeExtent(d *crypt.Decoder) (extent, crypt.Pointer) {
	x := extent{off: d.U64(), len: d.U32(), at: d.U32()}
	ptr := crypt.DecodePointer(d)
	if x.len == 0 || uint64(x.at)+uint64(x.len) > uint64(ptr.Length) || x.off > FileMax {
		d.Fail("extent outside its blob")
	}
	return x, ptr
}

// extentReader decodes extents and gives those that use one blob one source.
type extentReader map[CID]*source

func (r extentReader) read(d *crypt.Decoder) extent {
	x, ptr := decodeExtent(d)
	if d.Err() != nil {
		return extent{src: &source{}}
	}
	s := r[ptr.CID]
	if s == nil {
		s = &source{ptr: ptr}
		r[ptr.CID] = s
	}
	x.src = s
	return x
}
