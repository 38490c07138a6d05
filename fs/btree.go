package fs

import (
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// pageSource gives the page a pointer leads to.
type pageSource func(kind crypt.PageKind, p *crypt.PagePointer) (*page, error)

// btree is a copy-on-write B-tree of sealed pages. The zero root is the empty tree.
type btree struct {
	kind crypt.PageKind
	root crypt.PagePointer
	get  pageSource
	// ahead is told which pages a scan comes to soon, if not nil.
	ahead func(kind crypt.PageKind, next []branch)
}

// lookup returns the value of key.
func (t *btree) lookup(key string) ([]byte, bool, error) {
	if t.root.IsZero() {
		return nil, false, nil
	}
	ptr := &t.root
	for {
		p, err := t.get(t.kind, ptr)
		if err != nil {
			return nil, false, err
		}
		if p.leaf {
			if i, ok := p.search(key); ok {
				return p.value(i), true, nil
			}
			return nil, false, nil
		}
		ptr = &p.down[p.childFor(key)].child
	}
}

// scan calls fn for each entry from key on, in order, until it returns false.
func (t *btree) scan(from string, fn func(key string, value []byte) bool) error {
	if t.root.IsZero() {
		return nil
	}
	_, err := t.scanPage(&t.root, from, fn)
	return err
}

func (t *btree) scanPage(ptr *crypt.PagePointer, from string, fn func(string, []byte) bool) (bool, error) {
	p, err := t.get(t.kind, ptr)
	if err != nil {
		return false, err
	}
	if p.leaf {
		first, _ := p.search(from)
		for i, key := range p.keys(first) {
			if !fn(key, p.value(first+i)) {
				return false, nil
			}
		}
		return true, nil
	}
	for i := p.childFor(from); i < len(p.down); i++ {
		if t.ahead != nil {
			t.ahead(t.kind, p.down[i+1:])
		}
		if more, err := t.scanPage(&p.down[i].child, from, fn); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// walk calls fn with the pointer of every page, parents first.
func (t *btree) walk(fn func(*crypt.PagePointer)) error {
	if t.root.IsZero() {
		return nil
	}
	return t.walkPage(&t.root, fn)
}

func (t *btree) walkPage(ptr *crypt.PagePointer, fn func(*crypt.PagePointer)) error {
	p, err := t.get(t.kind, ptr)
	if err != nil {
		return err
	}
	fn(ptr)
	if p.leaf {
		return nil
	}
	for i := range p.down {
		if t.ahead != nil {
			t.ahead(t.kind, p.down[i+1:])
		}
		if err := t.walkPage(&p.down[i].child, fn); err != nil {
			return err
		}
	}
	return nil
}

// change is one change of a tree: a new value, or nil to delete the key.
type change struct {
	key   string
	value []byte
}

// pageWriter seals a page and keeps it until it is put; it returns its pointer.
type pageWriter interface {
	writePage(d *draft, link linker) (crypt.PagePointer, error)
	dropPage(old *crypt.PagePointer)
}

// apply makes the changes, which must be sorted by key without doubles, and returns the
// new root. Pages that are replaced go to w.dropPage.
func (t *btree) apply(changes []change, w pageWriter, link linker) (crypt.PagePointer, error) {
	if len(changes) == 0 {
		return t.root, nil
	}
	u := update{t: t, w: w, link: link}
	var nodes []item
	var err error
	if t.root.IsZero() {
		nodes, err = u.leaf(crypt.NewLabel(), nil, changes)
	} else {
		nodes, err = u.page(&t.root, changes)
	}
	if err != nil {
		return crypt.PagePointer{}, err
	}
	for len(nodes) > 1 {
		if nodes, err = u.interior(crypt.NewLabel(), nodes); err != nil {
			return crypt.PagePointer{}, err
		}
	}
	if len(nodes) == 0 {
		return crypt.PagePointer{}, nil
	}
	root := nodes[0].down.child
	for { // a root with one child is not needed
		p, err := u.fetch(&root)
		if err != nil {
			return crypt.PagePointer{}, err
		}
		if p.leaf || p.len() > 1 {
			return root, nil
		}
		w.dropPage(&root)
		root = p.down[0].child
	}
}

type update struct {
	t    *btree
	w    pageWriter
	link linker
}

func (u *update) fetch(ptr *crypt.PagePointer) (*page, error) { return u.t.get(u.t.kind, ptr) }

// page applies changes below ptr and returns the items that stand for it now: none,
// one, or several after a split.
func (u *update) page(ptr *crypt.PagePointer, changes []change) ([]item, error) {
	p, err := u.fetch(ptr)
	if err != nil {
		return nil, err
	}
	u.w.dropPage(ptr)
	old := p.items()
	if p.leaf {
		return u.leaf(p.label, old, changes)
	}
	items := make([]item, 0, len(old)+1)
	for i, it := range old {
		n := len(changes)
		if i+1 < len(old) {
			n = 0
			for n < len(changes) && changes[n].key < old[i+1].key {
				n++
			}
		}
		mine := changes[:n]
		changes = changes[n:]
		if len(mine) == 0 {
			items = append(items, it)
			continue
		}
		kids, err := u.page(&it.down.child, mine)
		if err != nil {
			return nil, err
		}
		for k := range kids {
			if k == 0 {
				kids[k].key, kids[k].down.label = it.key, it.down.label
			}
			items = append(items, kids[k])
		}
	}
	if items, err = u.merge(items); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, nil
	}
	return u.interior(p.label, items)
}

// merge joins neighbours that have become small, when both are at hand for little.
func (u *update) merge(items []item) ([]item, error) {
	for i := 0; i+1 < len(items); i++ {
		a, b := &items[i], &items[i+1]
		la, lb := int(a.down.child.Length), int(b.down.child.Length)
		if la+lb > pageTarget || min(la, lb) > pageMin {
			continue
		}
		pa, err := u.fetch(&a.down.child)
		if err != nil {
			return nil, err
		}
		pb, err := u.fetch(&b.down.child)
		if err != nil {
			return nil, err
		}
		if pa.leaf != pb.leaf {
			continue
		}
		joined := append(pa.items(), pb.items()...)
		if !pa.leaf { // its first key was implied by the parent
			joined[pa.len()].key = b.key
		}
		if pageSize(joined, pa.leaf) > pageTarget { // their keys have less in common
			continue
		}
		ptr, err := u.w.writePage(&draft{pa.kind, pa.label, pa.leaf, joined}, u.link)
		if err != nil {
			return nil, err
		}
		u.w.dropPage(&a.down.child)
		u.w.dropPage(&b.down.child)
		a.down = &branch{ptr, a.down.label}
		items = append(items[:i+1], items[i+2:]...)
		i--
	}
	return items, nil
}

// leaf makes the changes of a leaf's old items.
func (u *update) leaf(label crypt.Label, old []item, changes []change) ([]item, error) {
	items := make([]item, 0, len(old)+len(changes))
	for _, c := range changes {
		for len(old) > 0 && old[0].key < c.key {
			items = append(items, old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].key == c.key {
			old = old[1:]
		}
		if c.value != nil {
			items = append(items, item{key: c.key, value: c.value})
		}
	}
	return u.split(label, true, append(items, old...))
}

func (u *update) interior(label crypt.Label, items []item) ([]item, error) {
	items[0].key = ""
	return u.split(label, false, items)
}

// split writes items as as many pages as they need, of about the same size.
func (u *update) split(label crypt.Label, leaf bool, items []item) ([]item, error) {
	if len(items) == 0 {
		return nil, nil
	}
	total := pageSize(items, leaf)
	parts := (total + pageTarget - 1) / pageTarget
	target := total/parts + 1
	var out []item
	for start := 0; start < len(items); {
		end, whole := start+1, items[start].size(leaf)
		for size := whole; end < len(items) && size < target; end++ {
			whole += items[end].size(leaf)
			if size = packed(whole, items[start:end+1], leaf); size > pageTarget {
				break
			}
		}
		d := &draft{u.t.kind, label, leaf, items[start:end:end]}
		key := d.items[0].key
		if !leaf {
			d.items[0].key = ""
		}
		ptr, err := u.w.writePage(d, u.link)
		if err != nil {
			return nil, err
		}
		out = append(out, item{key: key, down: &branch{ptr, crypt.NewLabel()}})
		label = crypt.NewLabel()
		start = end
	}
	return out, nil
}
