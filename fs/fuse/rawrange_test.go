package fuse

import (
	"bytes"
	"slices"
	"testing"
)

// The pages of a range that lie in it only in part are those of its ends.
func TestEdgesOf(t *testing.T) {
	for _, x := range []struct {
		off, n uint64
		want   []uint64
	}{
		{0, 4096, nil}, {8192, 8192, nil},
		{1, 4095, []uint64{0}}, {4095, 1, []uint64{0}}, {0, 1, []uint64{0}}, {5000, 10, []uint64{4096}},
		{100, 5000, []uint64{0, 4096}}, {4096, 5000, []uint64{8192}}, {100, 1 << 20, []uint64{0, 1 << 20}},
	} {
		if got := edgesOf(x.off, x.n); !slices.Equal(got, x.want) {
			t.Errorf("%d bytes at %d: %d, want %d", x.n, x.off, got, x.want)
		}
	}
}

// What the kernel writes back to a hole that is being made is cleared, there and in that
// file alone, and until the end.
func TestHolesKeep(t *testing.T) {
	var h holes
	page := func(node, off uint64) string {
		p := bytes.Repeat([]byte("x"), 10)
		h.keep(node, off, p)
		return string(bytes.ReplaceAll(p, []byte{0}, []byte(".")))
	}
	first, second := h.add(7, 105, 3), h.add(7, 118, 100)
	for _, x := range []struct {
		node, off uint64
		want      string
	}{{7, 100, "xxxxx...xx"}, {7, 106, "..xxxxxxxx"}, {7, 110, "xxxxxxxx.."}, {7, 150, ".........."}, {7, 218, "xxxxxxxxxx"}, {8, 100, "xxxxxxxxxx"}} {
		if got := page(x.node, x.off); got != x.want {
			t.Errorf("file %d at %d: %s, want %s", x.node, x.off, got, x.want)
		}
	}
	first()
	if got := page(7, 100); got != "xxxxxxxxxx" {
		t.Errorf("after its end: %s", got)
	}
	if second(); h.n.Load() != 0 || len(h.of) != 0 {
		t.Errorf("%d are left", h.n.Load())
	}
}
