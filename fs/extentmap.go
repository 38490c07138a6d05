package fs

import (
	"iter"
	"slices"
	"sort"
)

// chunkMax is the most extents that stand in one chunk.
const chunkMax = 128

// extentMap is the map of a loaded file. That of most files is one slice with hardly
// anything in it. A large file that is written here and there has hundreds of thousands of
// extents: the first change of so many puts them into chunks, so that a change in their midst
// moves few of them. Chunks are never shared; the slice may be, see fileState.extShared.
type extentMap struct {
	list   extents
	chunks *[]extents // in order, none empty, instead of the list; or nil
}

// parts is the number of slices that the map stands in.
func (m *extentMap) parts() int {
	if m.chunks != nil {
		return len(*m.chunks)
	}
	return 1
}

func (m *extentMap) part(k int) extents {
	if m.chunks != nil {
		return (*m.chunks)[k]
	}
	return m.list
}

// find returns the part and the index in it of the first extent that ends after off. If
// there is none, the part is one that is not there.
func (m *extentMap) find(off uint64) (k, i int) {
	k = sort.Search(m.parts(), func(k int) bool {
		x := m.part(k)
		return len(x) > 0 && x[len(x)-1].end() > off
	})
	if k < m.parts() {
		i = m.part(k).find(off)
	}
	return k, i
}

// from goes through the extents that end after off. They may be changed, the map may not.
func (m *extentMap) from(off uint64) iter.Seq[*extent] {
	return func(yield func(*extent) bool) {
		k, i := m.find(off)
		for ; k < m.parts(); k, i = k+1, 0 {
			for x := m.part(k); i < len(x); i++ {
				if !yield(&x[i]) {
					return
				}
			}
		}
	}
}

func (m *extentMap) all() iter.Seq[*extent] { return m.from(0) }

// around returns the last extent that ends at off or before, and the one that follows it;
// nil for one that is not there. They may be changed until the map is.
func (m *extentMap) around(off uint64) (before, at *extent) {
	k, i := m.find(off)
	if k < m.parts() {
		at = &m.part(k)[i]
	}
	if i == 0 {
		if k--; k < 0 {
			return nil, at
		}
		i = len(m.part(k))
	}
	if i > 0 {
		before = &m.part(k)[i-1]
	}
	return before, at
}

// replace gives [off, end) to the extents in with, which lie inside that range; nil makes a
// hole.
func (m *extentMap) replace(off, end uint64, with ...extent) {
	if m.chunks == nil {
		if len(m.list) <= chunkMax {
			m.list = m.list.replace(off, end, with...)
			return
		}
		m.split()
	}
	c := *m.chunks
	first, _ := m.find(off)
	last, _ := m.find(end - 1)
	first, last = min(first, len(c)-1), min(last, len(c)-1)
	x := c[first]
	if first < last {
		x = slices.Concat(c[first : last+1]...)
	}
	x = x.replace(off, end, with...)
	if first == last && 0 < len(x) && len(x) <= chunkMax {
		c[first] = x
		return
	}
	switch c = slices.Replace(c, first, last+1, cut(x)...); len(c) {
	case 0:
		m.list, m.chunks = nil, nil
	case 1:
		m.list, m.chunks = c[0], nil
	default:
		*m.chunks = c
	}
}

// split puts the list into chunks.
func (m *extentMap) split() {
	c := cut(m.list)
	m.list, m.chunks = nil, &c
}

// unshare makes the list safe to change.
func (m *extentMap) unshare() {
	if len(m.list) > chunkMax {
		m.split()
		return
	}
	m.list = slices.Clone(m.list)
}

// cut makes chunks of about the same length, somewhat below the most. It shares no memory
// with x.
func cut(x extents) []extents {
	n := (len(x) + chunkMax*3/4 - 1) / (chunkMax * 3 / 4)
	out := make([]extents, n)
	for k := range out {
		out[k] = slices.Clone(x[k*len(x)/n : (k+1)*len(x)/n])
	}
	return out
}

// slice is that of extents.
func (m *extentMap) slice(off, end uint64) extents {
	var out extents
	for k, _ := m.find(off); k < m.parts() && m.part(k)[0].off < end; k++ {
		out = append(out, m.part(k).slice(off, end)...)
	}
	return out
}

// flat returns all extents as one slice, which the map shares unless it has chunks.
func (m *extentMap) flat() extents {
	if m.chunks == nil {
		return m.list
	}
	return slices.Concat(*m.chunks...)
}

func (m *extentMap) len() (n int) {
	for k := range m.parts() {
		n += len(m.part(k))
	}
	return n
}

// allocated is the number of bytes in the units (see SpaceUnit) that hold any data.
func (m *extentMap) allocated() (n uint64) {
	covered := uint64(0)
	for k := range m.parts() {
		var more uint64
		more, covered = m.part(k).allocatedAfter(covered)
		n += more
	}
	return n
}
