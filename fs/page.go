package fs

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// page is one decoded page of a copy-on-write B-tree; it is never changed once made.
type page struct {
	kind  crypt.PageKind
	label crypt.Label // of the link to the sealed page, for the page's life
	leaf  bool
	items []item
	bytes int // encoded size
}

// item is one entry of a page. In an interior page key is the least key that may stand
// below child; the first item's key is empty.
type item struct {
	key   string
	value []byte  // leaf
	down  *branch // interior
}

// branch leads to a page below; it is never changed once its page is made.
type branch struct {
	child crypt.PagePointer
	label crypt.Label // of the link to child
}

const (
	pageTarget  = 16<<10 - 64 // bytes a page may have before it is split
	pageMin     = pageTarget / 4
	pageVersion = 1
)

func (i *item) size(leaf bool) int {
	if leaf {
		return 2 + len(i.key) + 3 + len(i.value)
	}
	return 2 + len(i.key) + crypt.PointerSize + 32 + 6 + crypt.LabelSize
}

// search returns the index of the first item whose key is not less than key.
func (p *page) search(key string) (int, bool) {
	return slices.BinarySearchFunc(p.items, key, func(i item, k string) int {
		return compare(i.key, k)
	})
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// childFor returns the index of the child below which key belongs.
func (p *page) childFor(key string) int {
	i, found := p.search(key)
	if !found {
		i--
	}
	return max(i, 0)
}

func (p *page) encode() []byte {
	var e crypt.Encoder
	e.Buf = make([]byte, 0, p.bytes+64)
	e.U8(pageVersion)
	if p.leaf {
		e.U8(1)
	} else {
		e.U8(0)
	}
	e.Raw(p.label[:])
	e.Uvarint(uint64(len(p.items)))
	for i := range p.items {
		it := &p.items[i]
		e.String(it.key)
		if p.leaf {
			e.Bytes(it.value)
			continue
		}
		it.down.child.Encode(&e)
		e.Raw(it.down.label[:])
	}
	return e.Buf
}

// settle makes the values of a leaf parts of its encoding b, so that the page keeps in
// memory what it holds and nothing of the pages that it came from.
func (p *page) settle(b []byte) error {
	if !p.leaf {
		return nil
	}
	again, err := decodePage(p.kind, b)
	if err != nil {
		return err
	}
	p.items = again.items
	return nil
}

func decodePage(kind crypt.PageKind, b []byte) (*page, error) {
	d := crypt.NewDecoder(b)
	p := &page{kind: kind, bytes: len(b)}
	if v := d.U8(); v != pageVersion {
		d.Fail("unknown page version")
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
	p.items = make([]item, 0, n)
	keys := make([]byte, 0, min(n*24, len(b))) // all keys are one string
	ends := make([]int, 0, n)
	for k := 0; k < n && d.Err() == nil; k++ {
		keys = append(keys, d.Bytes()...)
		ends = append(ends, len(keys))
		if p.leaf {
			p.items = append(p.items, item{value: d.Bytes()})
			continue
		}
		down := &branch{child: crypt.DecodePagePointer(d)}
		copy(down.label[:], d.Take(crypt.LabelSize))
		p.items = append(p.items, item{down: down})
	}
	all, start := string(keys), 0
	for k := range p.items {
		p.items[k].key = all[start:ends[k]]
		start = ends[k]
		if k > 0 && p.items[k].key <= p.items[k-1].key {
			d.Fail("keys out of order")
		}
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return p, nil
}

// linker says what the shadow tree links for a leaf's value; nil for nothing.
type linker func(value []byte) ([]Link, error)

// shadow makes the node of a page: a directory, or for extents a piece of a file.
func (p *page) shadow(sealed CID, size uint64, link linker) (Block, uint64, error) {
	links := append(make([]Link, 0, 1+len(p.items)), Link{p.label.String(), sealed, size})
	total := size
	for i := range p.items {
		it := &p.items[i]
		if !p.leaf {
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
	if p.kind == crypt.PageExtents {
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
