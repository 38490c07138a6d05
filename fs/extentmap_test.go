package fs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A map is what a plain slice is after the same changes, whether it has chunks or not, and
// what was taken of it does not change any more.
func TestExtentMap(t *testing.T) {
	for _, size := range []uint64{100, 5000, 1 << 20} { // few extents, some chunks, many
		t.Run(fmt.Sprint(size), func(t *testing.T) { changeMap(t, size) })
	}
}

// changeMap makes random changes to a file of a size, most of them short.
func changeMap(t *testing.T, size uint64) {
	r := rand.New(rand.NewPCG(size, 3))
	in := &inode{fileState: &fileState{}}
	var plain extents
	type view struct{ taken, was extents }
	var views []view
	chunked := false
	for step := range 20000 {
		off := r.Uint64N(size)
		end := off + 1 + r.Uint64N(8)
		if r.IntN(300) == 0 {
			end = off + 1 + r.Uint64N(size)
		}
		var with []extent
		switch k := r.IntN(100); {
		case k < 8: // a hole
		case k == 8: // many at once, as copy_file_range makes them
			for at := off; at < min(end, off+400); at++ {
				with = append(with, extent{off: at, len: 1, at: uint32(r.IntN(99)), src: &source{}})
			}
		default:
			with = []extent{{off: off, len: uint32(end - off), src: &source{}}}
		}
		in.own()
		in.ext.replace(off, end, with...)
		plain = plain.replace(off, end, with...)
		chunked = chunked || in.ext.chunks != nil
		if r.IntN(100) == 0 { // as a freeze does
			v := view{taken: in.ext.flat()}
			in.extShared = in.ext.chunks == nil
			v.was = slices.Clone(v.taken)
			views = append(views, v)
		}
		if r.IntN(500) == 0 { // as a commit that is adopted, or a file that is loaded
			in.ext = extentMap{list: slices.Clone(plain)}
		}
		if step%20 == 0 || size < 1000 {
			sameMap(t, &in.ext, plain, off, end)
		}
	}
	for i, v := range views {
		if !slices.Equal(v.taken, v.was) {
			t.Fatalf("view %d of %d changed", i, len(views))
		}
	}
	if chunked != (size > 1000) {
		t.Fatalf("%d extents, chunked: %v", len(plain), chunked)
	}
	in.own()
	in.ext.replace(0, FileMax+1)
	sameMap(t, &in.ext, nil, 0, size)
}

// sameMap compares what a map says with a plain slice.
func sameMap(t *testing.T, m *extentMap, plain extents, off, end uint64) {
	t.Helper()
	if !slices.Equal(m.flat(), plain) || m.len() != len(plain) || m.allocated() != plain.allocated() {
		t.Fatalf("%d extents, want %d", m.len(), len(plain))
	}
	if m.chunks != nil {
		for k, c := range *m.chunks {
			if len(c) == 0 || len(c) > chunkMax {
				t.Fatalf("chunk %d of %d has %d extents", k, len(*m.chunks), len(c))
			}
		}
	}
	if got, want := m.slice(off, end), plain.slice(off, end); !slices.Equal(got, want) {
		t.Fatalf("[%d, %d): got %v, want %v", off, end, got, want)
	}
	i := plain.find(off)
	before, at := m.around(off)
	if (before == nil) != (i == 0) || before != nil && *before != plain[i-1] {
		t.Fatalf("before %d: got %v, want extent %d", off, before, i-1)
	}
	if (at == nil) != (i == len(plain)) || at != nil && *at != plain[i] {
		t.Fatalf("at %d: got %v, want extent %d", off, at, i)
	}
	for e := range m.from(off) {
		if *e != plain[i] {
			t.Fatalf("from %d on: got %v, want %v", off, *e, plain[i])
		}
		if i++; i%3 == 0 {
			return
		}
	}
	if i != len(plain) {
		t.Fatalf("from %d on %d extents are missing", off, len(plain)-i)
	}
}

// BenchmarkExtentMap splits an extent of a large file with many of them.
func BenchmarkExtentMap(b *testing.B) {
	for _, n := range []uint64{100, 10_000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var m extentMap
			r, s := rand.New(rand.NewPCG(1, 2)), &source{}
			for i := range n {
				m.list = append(m.list, extent{off: i << 14, len: 1 << 14, src: s})
			}
			for b.Loop() {
				off := r.Uint64N(n<<2) << 12
				m.around(off)
				m.replace(off, off+4096, extent{off: off, len: 4096, src: s})
			}
		})
	}
}
