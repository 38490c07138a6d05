package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// page is one page of a copy-on-write B-tree: its encoding, and where its items begin. It is
// never changed once made. It keeps no pointers to single items: there are many pages, and
// Go's collector looks at each pointer.
type page struct {
	kind  crypt.PageKind
	label crypt.Label // of the link to the sealed page, for the page's life
	leaf  bool
	data  []byte   // the encoding
	first []byte   // what all keys of a leaf begin with, a part of data; items have the rest
	at    []uint32 // where each item begins in data
	down  []branch // of an interior page: what the items lead to
}

// branch leads to a page below; it is never changed once its page is made.
type branch struct {
	child crypt.PagePointer
	label crypt.Label // of the link to child
}

// item is one entry of a page that is made from others. In an interior page key is the least
// key that may stand below down; the first item's key is empty.
type item struct {
	key   string
	value []byte  // leaf
	down  *branch // interior
}

// draft is a page that is to be sealed. Its items are sorted.
type draft struct {
	kind  crypt.PageKind
	label crypt.Label
	leaf  bool
	items []item
}

const (
	pageTarget  = 16<<10 - 64 // bytes a page may have before it is split
	pageMin     = pageTarget / 4
	pageVersion = 2
	// pageWhole is the version before: each item of a leaf has its whole key.
	pageWhole = 1
)

// size is what an item takes in an encoded page, with all of its key; of an interior page, a
// few bytes more.
func (i *item) size(leaf bool) int {
	key := lengthSize(len(i.key)) + len(i.key)
	if leaf {
		return key + lengthSize(len(i.value)) + len(i.value)
	}
	return key + crypt.PointerSize + 32 + 6 + crypt.LabelSize
}

// lengthSize is what the length of n bytes takes.
func lengthSize(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

func (p *page) len() int { return len(p.at) }

// field returns what lies at an offset of data behind its length, and where it ends.
func (p *page) field(off int) (b []byte, end int) {
	n, w := binary.Uvarint(p.data[off:])
	off += w
	end = off + int(n)
	return p.data[off:end:end], end
}

// rest returns the key of item i without what all begin with, a part of the page.
func (p *page) rest(i int) []byte {
	k, _ := p.field(int(p.at[i]))
	return k
}

// value returns the value of item i of a leaf, a part of the page.
func (p *page) value(i int) []byte {
	_, end := p.field(int(p.at[i]))
	v, _ := p.field(end)
	return v
}

// keys returns the keys from item i on, as parts of one string that keeps nothing else of the
// page in memory.
func (p *page) keys(i int) []string {
	size := 0
	for k := i; k < p.len(); k++ {
		size += len(p.first) + len(p.rest(k))
	}
	var all strings.Builder
	all.Grow(size)
	for k := i; k < p.len(); k++ {
		all.Write(p.first)
		all.Write(p.rest(k))
	}
	out, left := make([]string, 0, p.len()-i), all.String()
	for k := i; k < p.len(); k++ {
		n := len(p.first) + len(p.rest(k))
		out = append(out, left[:n])
		left = left[n:]
	}
	return out
}

// items returns all items. Their values are parts of the page.
func (p *page) items() []item {
	out := make([]item, p.len())
	for i, key := range p.keys(0) {
		out[i].key = key
		if p.leaf {
			out[i].value = p.value(i)
		} else {
			out[i].down = &p.down[i]
		}
	}
	return out
}

// search returns the index of the first item whose key is not less than key.
func (p *page) search(key string) (int, bool) {
	n := len(p.first)
	if len(key) < n || key[:n] != string(p.first) {
		if key < string(p.first) {
			return 0, false
		}
		return p.len(), false
	}
	rest := key[n:]
	lo, hi := 0, p.len()
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if string(p.rest(mid)) < rest {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < p.len() && string(p.rest(lo)) == rest
}

// childFor returns the index of the child below which key belongs.
func (p *page) childFor(key string) int {
	i, found := p.search(key)
	if !found {
		i--
	}
	return max(i, 0)
}

// memory is about what a page takes, with its place in the cache. It was opened with its
// padding.
func (p *page) memory() int64 {
	return int64(crypt.SealedPageSize(len(p.data))) + int64(cap(p.at))*4 + int64(cap(p.down))*int64(unsafe.Sizeof(branch{})) + 512
}

// pageSize is about what items take as one page.
func pageSize(items []item, leaf bool) int {
	whole := 0
	for i := range items {
		whole += items[i].size(leaf)
	}
	return packed(whole, items, leaf)
}

// packed is pageSize, from what the items take with all of their keys.
func packed(whole int, items []item, leaf bool) int {
	if !leaf {
		return whole
	}
	n := common(items)
	return whole - n*(len(items)-1)
}

// common is how many bytes the keys of sorted items all begin with.
func common(items []item) int {
	if len(items) == 0 {
		return 0
	}
	return commonLen(items[0].key, items[len(items)-1].key)
}

func commonLen[A, B string | []byte](a A, b B) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (d *draft) encode() []byte {
	e := crypt.Encoder{Buf: make([]byte, 0, 64+pageSize(d.items, d.leaf))}
	e.U8(pageVersion)
	if d.leaf {
		e.U8(1)
	} else {
		e.U8(0)
	}
	e.Raw(d.label[:])
	e.Uvarint(uint64(len(d.items)))
	n := 0
	if d.leaf {
		if n = common(d.items); len(d.items) > 0 {
			e.String(d.items[0].key[:n])
		}
	}
	for i := range d.items {
		it := &d.items[i]
		e.String(it.key[n:])
		if d.leaf {
			e.Bytes(it.value)
			continue
		}
		it.down.child.Encode(&e)
		e.Raw(it.down.label[:])
	}
	return e.Buf
}

// decodePage checks the encoding of a page, which the page keeps.
func decodePage(kind crypt.PageKind, b []byte) (*page, error) {
	d := crypt.NewDecoder(b)
	p := &page{kind: kind, data: b}
	version := d.U8()
	if version != pageVersion && version != pageWhole {
		d.Fail(fmt.Sprintf("page of version %d, which this program does not know", version))
	}
	switch d.U8() {
	case 0:
	case 1:
		p.leaf = true
	default:
		d.Fail("unknown page level")
	}
	copy(p.label[:], d.Take(crypt.LabelSize))
	n := d.Count(2)
	if n == 0 && !p.leaf {
		d.Fail("page without items")
	}
	p.at = make([]uint32, 0, n)
	if !p.leaf {
		p.down = make([]branch, 0, min(n, len(b)/crypt.PointerSize))
	}
	if p.leaf && n > 0 && version != pageWhole {
		p.first = d.Bytes()
	}
	var last []byte
	for k := 0; k < n && d.Err() == nil; k++ {
		p.at = append(p.at, uint32(len(b)-len(d.Rest())))
		key := d.Bytes()
		if k > 0 && bytes.Compare(key, last) <= 0 {
			d.Fail("keys out of order")
		}
		last = key
		if p.leaf {
			d.Bytes()
			continue
		}
		down := branch{child: crypt.DecodePagePointer(d)}
		copy(down.label[:], d.Take(crypt.LabelSize))
		p.down = append(p.down, down)
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	if p.leaf && n > 0 && version != pageWhole && commonLen(p.rest(0), last) > 0 {
		return nil, fmt.Errorf("page: keys have more in common than it says: %w", crypt.ErrFormat)
	}
	return p, nil
}

// linker says what the shadow tree links for a leaf's value; nil for nothing.
type linker func(value []byte) ([]Link, error)

// shadow makes the node of a page: a directory, or for extents a piece of a file.
func (d *draft) shadow(sealed CID, size uint64, link linker) (Block, uint64, error) {
	links := append(make([]Link, 0, 1+len(d.items)), Link{d.label.String(), sealed, size})
	total := size
	for i := range d.items {
		it := &d.items[i]
		if !d.leaf {
			links = append(links, Link{it.down.label.String(), it.down.child.Node, it.down.child.Size})
			total += it.down.child.Size
			continue
		}
		if link == nil {
			continue
		}
		more, err := link(it.value)
		if err != nil {
			return Block{}, 0, err
		}
		for _, l := range more {
			links = append(links, l)
			total += l.Size
		}
	}
	var b Block
	if d.kind == crypt.PageExtents {
		// Blobs stand in the order of the file; one that several extents share, once.
		seen := make(map[CID]bool, len(links))
		links = slices.DeleteFunc(links, func(l Link) bool {
			dup := seen[l.CID]
			seen[l.CID] = true
			return dup
		})
		sizes := make([]uint64, len(links))
		for i := range links {
			links[i].Name = ""
			sizes[i] = links[i].Size
		}
		b = encodeFile("", links, sizes)
	} else {
		slices.SortFunc(links, func(a, b Link) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		b = EncodeDir(links)
	}
	return b, total + uint64(len(b.Data)), nil
}
