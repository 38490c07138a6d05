package fs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// memoryPages keeps the pages that a tree is made of, as they are encoded.
type memoryPages struct {
	t     *testing.T
	pages map[CID][]byte
}

func (m *memoryPages) writePage(d *draft, _ linker) (crypt.PagePointer, error) {
	b := d.encode()
	if len(b) > pageTarget+64 && len(d.items) > 1 {
		m.t.Errorf("a page of %d items takes %d bytes", len(d.items), len(b))
	}
	if want := pageSize(d.items, d.leaf); len(b) > want+64 {
		m.t.Errorf("a page of %d items takes %d bytes, counted as %d", len(d.items), len(b), want)
	}
	var p crypt.PagePointer
	p.CID, p.Length = crypt.Sum(crypt.Raw, b), uint32(len(b))
	m.pages[p.CID] = b
	return p, nil
}

func (m *memoryPages) dropPage(old *crypt.PagePointer) { delete(m.pages, old.CID) }

func (m *memoryPages) get(kind crypt.PageKind, p *crypt.PagePointer) (*page, error) {
	return decodePage(kind, m.pages[p.CID])
}

// A tree holds what a map holds, for names that have much in common and names that have
// nothing, and its pages are as full as they are counted.
func TestTreeOfPages(t *testing.T) {
	names := map[string]func(*rand.Rand) string{
		"numbers": func(r *rand.Rand) string { return fmt.Sprintf("entry-%08d", r.IntN(20000)) },
		"random":  func(r *rand.Rand) string { return fmt.Sprintf("%x", r.Uint64()>>44) },
		"nested":  func(r *rand.Rand) string { return strings.Repeat("ab", r.IntN(100)) + strings.Repeat("c", r.IntN(50)) },
		"long":    func(r *rand.Rand) string { return strings.Repeat("n", 240) + fmt.Sprint(r.IntN(5000)) },
		"bytes":   func(r *rand.Rand) string { return string([]byte{0xff, byte(r.IntN(256)), byte(r.IntN(256))}) },
	}
	for name, makeName := range names {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			m := &memoryPages{t, map[CID][]byte{}}
			tree := btree{kind: crypt.PageDirectory, get: m.get}
			want := map[string][]byte{}
			for round := range 30 {
				made := map[string][]byte{}
				for range r.IntN(2000) {
					v := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(80))
					if r.IntN(400) == 0 {
						v = bytes.Repeat(v, 200)
					}
					if r.IntN(3) == 0 || round > 20 && r.IntN(5) > 0 {
						v = nil
					} else if v == nil {
						v = []byte{}
					}
					made[makeName(r)] = v
				}
				if round > 20 { // most of it goes
					for k := range want {
						if r.IntN(3) > 0 {
							made[k] = nil
						}
					}
				}
				var changes []change
				for _, k := range sortedKeys(made) {
					changes = append(changes, change{k, made[k]})
					if made[k] == nil {
						delete(want, k)
					} else {
						want[k] = made[k]
					}
				}
				root, err := tree.apply(changes, m, nil)
				if err != nil {
					t.Fatal(err)
				}
				tree.root = root
				compareTree(t, r, &tree, want, makeName)
			}
			var pages, bytes int
			if err := tree.walk(func(p *crypt.PagePointer) { pages++; bytes += int(p.Length) }); err != nil || pages != len(m.pages) {
				t.Fatalf("%d pages, %d kept: %v", pages, len(m.pages), err)
			}
			if pages > 10 && bytes/pages < pageMin {
				t.Errorf("%d pages have %d bytes", pages, bytes)
			}
		})
	}
}

func compareTree(t *testing.T, r *rand.Rand, tree *btree, want map[string][]byte, makeName func(*rand.Rand) string) {
	t.Helper()
	keys := sortedKeys(want)
	var got []string
	if err := tree.scan("", func(k string, v []byte) bool {
		got = append(got, k)
		if !bytes.Equal(v, want[k]) {
			t.Fatalf("%q has %x, not %x", k, v, want[k])
		}
		return true
	}); err != nil || !slices.Equal(got, keys) {
		t.Fatalf("%d keys, not %d: %v", len(got), len(keys), err)
	}
	for range 200 {
		k := makeName(r)
		switch r.IntN(4) {
		case 0:
			k += "\x00"
		case 1:
			k = k[:r.IntN(len(k)+1)]
		case 2:
			k += "~"
		}
		v, ok, err := tree.lookup(k)
		if w, there := want[k]; err != nil || ok != there || !bytes.Equal(v, w) {
			t.Fatalf("%q: %x, %v, %v", k, v, ok, err)
		}
		from, _ := slices.BinarySearch(keys, k)
		first := ""
		if err := tree.scan(k, func(k string, _ []byte) bool { first = k; return false }); err != nil {
			t.Fatal(err)
		}
		if from < len(keys) && first != keys[from] || from == len(keys) && first != "" {
			t.Fatalf("from %q on comes %q", k, first)
		}
	}
}

// Names that have much in common take little more than what they have not.
func TestPagesOfManyNames(t *testing.T) {
	m := &memoryPages{t, map[CID][]byte{}}
	tree := btree{kind: crypt.PageDirectory, get: m.get}
	const names = 20000
	var changes []change
	for i := range names {
		changes = append(changes, change{fmt.Sprintf("a name that is rather long %08d", i), []byte("value")})
	}
	root, err := tree.apply(changes, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	tree.root = root
	leaves, bytes := 0, 0
	if err := tree.walk(func(p *crypt.PagePointer) {
		if page, err := m.get(tree.kind, p); err == nil && page.leaf {
			leaves++
			bytes += int(p.Length)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if each := bytes / names; each > 12 {
		t.Errorf("a name takes %d bytes", each)
	}
	if bytes/leaves < pageTarget*9/10 {
		t.Errorf("%d pages have %d bytes", leaves, bytes)
	}
}

// What keys have in common is told once, and as much as there is: there is one encoding.
func TestPageOfAnotherEncoding(t *testing.T) {
	two := func(first string, rest ...string) []byte {
		e := crypt.Encoder{}
		e.U8(pageVersion)
		e.U8(1)
		e.Raw(make([]byte, crypt.LabelSize))
		e.Uvarint(uint64(len(rest)))
		e.String(first)
		for _, k := range rest {
			e.String(k)
			e.Bytes([]byte("v"))
		}
		return e.Buf
	}
	for _, x := range []struct {
		b    []byte
		good bool
	}{
		{two("name", "a", "b"), true},
		{two("name", "", "b"), true},
		{two("name", ""), true},
		{two("", "a", "b"), true},
		{two("nam", "ea", "eb"), false},
		{two("", "name"), false},
		{two("name", "b", "a"), false},
		{two("name", "a", "a"), false},
	} {
		p, err := decodePage(crypt.PageDirectory, x.b)
		if (err == nil) != x.good {
			t.Errorf("%q: %v", x.b, err)
		}
		if err == nil && !bytes.Equal(again(p).encode(), x.b) {
			t.Errorf("%q is encoded otherwise", x.b)
		}
	}
}
