package fs

import (
	"context"
	"errors"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Dir is an open directory. It serves one caller at a time.
//
// A cookie is a position in the sorted list of names, and the Dir keeps the list as far as
// it was read: so nothing is skipped or doubled, whatever is made or removed in between.
// Two Dirs of an unchanged directory agree on their cookies: the kernel, which caches
// listings, may begin to read a Dir where another one stopped.
type Dir struct {
	t     *Tree
	ino   Ino
	begun bool
	over  []string // names of the overlays when the listing began, sorted
	out   []string // names given out; the cookie after a name is its index plus 3
	done  bool
}

// OpenDir begins a listing.
func (t *Tree) OpenDir(ctx context.Context, ino Ino) (*Dir, error) {
	err := t.do(ctx, func() error {
		_, err := t.getDir(ino)
		return err
	})
	if err != nil {
		return nil, err
	}
	d := &Dir{t: t, ino: ino}
	return d, nil
}

// Close ends the listing.
func (d *Dir) Close() { d.over, d.out = nil, nil }

// dirBatch is how many names are looked at under one hold of the tree's lock.
const dirBatch = 512

// Read calls fn for each name from a cookie on, 0 being the start, until it returns
// false. next is the cookie of the entry after e.
func (d *Dir) Read(ctx context.Context, cookie uint64, fn func(e DirEntry, next uint64) bool) error {
	if cookie == 0 || !d.begun { // rewinddir sees the directory as it is now
		if err := d.begin(ctx); err != nil {
			return err
		}
		for int(cookie)-2 > len(d.out) && !d.done {
			if err := d.t.do(ctx, d.skip); err != nil {
				return err
			}
		}
	}
	for {
		var batch []DirEntry
		err := d.t.do(ctx, func() (err error) {
			batch, err = d.batch(cookie)
			return err
		})
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		for _, e := range batch {
			cookie++
			if e.Name != "" && !fn(e, cookie) {
				return nil
			}
		}
	}
}

// begin starts the list.
func (d *Dir) begin(ctx context.Context) error {
	d.out, d.done = nil, false
	return d.t.do(ctx, func() error {
		in, err := d.t.getDir(d.ino)
		if err != nil {
			return err
		}
		d.over = sortedKeys(in.over)
		if len(in.frozen) > 0 {
			d.over = append(d.over, sortedKeys(in.frozen)...)
			slices.Sort(d.over)
			d.over = slices.Compact(d.over)
		}
		d.begun = true
		return nil
	})
}

// skip adds names to the list that nobody asked this Dir for. It runs under the tree's lock.
func (d *Dir) skip() error {
	dir, err := d.t.getDir(d.ino)
	if err != nil {
		return err
	}
	_, err = d.more(dir, dirBatch)
	return err
}

// batch returns the entries from a cookie on. An entry that was given out before and is
// gone now has no name. It runs under the tree's lock.
func (d *Dir) batch(cookie uint64) ([]DirEntry, error) {
	dir, err := d.t.getDir(d.ino)
	if err != nil {
		return nil, err
	}
	var out []DirEntry
	if cookie == 0 {
		out = append(out, DirEntry{".", d.ino, ModeDir})
		cookie++
	}
	if cookie == 1 {
		up := dir.parent
		if up == nil {
			up = dir
		}
		out = append(out, DirEntry{"..", up.attr.Ino, ModeDir})
		cookie++
	}
	for i := int(cookie) - 2; i < len(d.out) && len(out) < dirBatch; i++ {
		e, err := d.t.entry(dir, d.out[i])
		if err != nil && !isNotFound(err) {
			return nil, err
		}
		out = append(out, e)
	}
	if d.done || len(out) >= dirBatch || int(cookie)-2 > len(d.out) {
		return out, nil
	}
	more, err := d.more(dir, dirBatch-len(out))
	return append(out, more...), err
}

// more adds up to n names to the list and returns them.
func (d *Dir) more(dir *inode, n int) ([]DirEntry, error) {
	more, done, err := d.extend(dir, n)
	if err != nil {
		return nil, err
	}
	for _, e := range more {
		d.out = append(d.out, e.Name)
	}
	d.done = done
	return more, nil
}

// extend merges the committed names with those of the overlays, after the last one given.
func (d *Dir) extend(dir *inode, n int) (out []DirEntry, done bool, err error) {
	from := ""
	if k := len(d.out); k > 0 {
		from = d.out[k-1] + "\x00"
	}
	i, _ := slices.BinarySearch(d.over, from)
	over := d.over[i:]
	add := func(name string) bool {
		e, err2 := d.t.entry(dir, name)
		if err2 == nil {
			out = append(out, e)
		} else if !isNotFound(err2) {
			err = err2
		}
		return err == nil && len(out) < n
	}
	scan := d.t.btree(crypt.PageDirectory, dir.base).scan(from, func(key string, value []byte) bool {
		for len(over) > 0 && over[0] < key {
			name := over[0]
			over = over[1:]
			if !add(name) {
				return false
			}
		}
		if len(over) > 0 && over[0] == key {
			over = over[1:]
		}
		if _, ok := dir.over[key]; ok {
			return add(key)
		}
		if _, ok := dir.frozen[key]; ok {
			return add(key)
		}
		r, err2 := decodeRecord(value)
		if err2 != nil {
			err = errors.Join(ErrIntegrity, err2)
			return false
		}
		out = append(out, DirEntry{key, r.attr.Ino, r.attr.Mode & ModeType})
		return len(out) < n
	})
	if err == nil {
		err = scan
	}
	for err == nil && len(over) > 0 && len(out) < n {
		name := over[0]
		over = over[1:]
		add(name)
	}
	return out, err == nil && len(out) < n, err
}

// entry is what a directory says about a name, without loading the inode.
func (t *Tree) entry(dir *inode, name string) (DirEntry, error) {
	in, ok := dir.over[name]
	if !ok {
		in, ok = dir.frozen[name]
	}
	if ok {
		if in == nil {
			return DirEntry{}, ErrNotFound
		}
		return DirEntry{name, in.attr.Ino, in.attr.Mode & ModeType}, nil
	}
	b, ok, err := t.btree(crypt.PageDirectory, dir.base).lookup(name)
	if err != nil || !ok {
		return DirEntry{}, orMissing(err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return DirEntry{}, errors.Join(ErrIntegrity, err)
	}
	return DirEntry{name, r.attr.Ino, r.attr.Mode & ModeType}, nil
}

func orMissing(err error) error {
	if err == nil {
		return ErrNotFound
	}
	return err
}
