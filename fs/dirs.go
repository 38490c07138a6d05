package fs

import (
	"context"
	"errors"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// listing is the names of a directory in the order in which they are given out: sorted,
// and as far as anybody has read. A cookie is the listing's generation and an index.
//
// All that began to list a directory in the same state share one listing, and those that
// began after a change have another one: so an index means the same name to all of them,
// nothing is skipped or doubled, whatever is made or removed in between. The kernel
// depends on it: it caches listings, and may go on with the cookies of one open directory
// in another. A listing of an unchanged directory is the same when it is made anew.
type listing struct {
	gen   uint64
	over  []string // names of the overlays when the listing began, sorted
	names []string // the cookie after a name is its index plus 3
	done  bool     // all names are there
}

const (
	cookieBits = 32 // of the index
	genMask    = 1<<31 - 1

	// keptNames bounds the listings of earlier states that are kept for a directory.
	keptNames = 1 << 18
)

func (l *listing) cookie(index uint64) uint64 { return l.gen&genMask<<cookieBits | index }

// Dir is an open directory. It serves one caller at a time.
type Dir struct {
	t      *Tree
	in     *inode
	closed bool

	// What was looked at beyond what the last caller had room for, while nothing changes.
	ahead []DirEntry
	from  uint64 // the cookie before ahead
	gen   uint64
}

// OpenDir begins a listing.
func (t *Tree) OpenDir(ctx context.Context, ino Ino) (*Dir, error) {
	d := &Dir{t: t}
	err := t.do(ctx, func() (err error) {
		if d.in, err = t.getDir(ino); err == nil {
			d.in.lists.open++
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close ends the listing.
func (d *Dir) Close() {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	if l := &d.in.lists; l.open > 1 {
		l.open--
	} else {
		*l = listings{gen: l.gen}
	}
}

// listings are what a loaded directory keeps of its listings, while anybody lists it.
type listings struct {
	gen  uint64     // counts changes of names
	open int        // Dirs
	made []*listing // the newest last
}

// at returns the listing that a cookie is of: the current one for a cookie of 0, and if
// there is no better one.
func (ls *listings) at(dir *inode, cookie uint64) *listing {
	if cookie != 0 {
		for _, l := range ls.made {
			if l.cookie(0) == cookie>>cookieBits<<cookieBits {
				return l
			}
		}
	}
	if n := len(ls.made); n > 0 && ls.made[n-1].gen == ls.gen {
		return ls.made[n-1]
	}
	l := &listing{gen: ls.gen, over: sortedKeys(dir.over)}
	if len(dir.frozen) > 0 {
		l.over = append(l.over, sortedKeys(dir.frozen)...)
		slices.Sort(l.over)
		l.over = slices.Compact(l.over)
	}
	ls.made = append(ls.made, l)
	kept := 0
	for i := len(ls.made) - 2; i >= 0; i-- {
		if kept += len(ls.made[i].names); kept > keptNames {
			ls.made = slices.Delete(ls.made, 0, i+1)
			break
		}
	}
	return l
}

// dirBatch is how many names are looked at under one hold of the tree's lock.
const dirBatch = 512

// Read calls fn for each name from a cookie on, 0 being the start, until it returns
// false. next is the cookie of the entry after e.
func (d *Dir) Read(ctx context.Context, cookie uint64, fn func(e DirEntry, next uint64) bool) error {
	for {
		var batch []DirEntry
		var first uint64
		var more bool
		err := d.t.do(ctx, func() (err error) {
			batch, first, more, err = d.batch(cookie)
			return err
		})
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if len(batch) > 0 {
			cookie = first
		}
		for _, e := range batch {
			cookie++
			if e.Name != "" && !fn(e, cookie) {
				return nil
			}
		}
	}
}

// batch returns the entries from a cookie on, the cookie as it is in their listing, and
// whether there may be more. An entry that was given out before and is gone now has no
// name. It runs under the tree's lock.
func (d *Dir) batch(cookie uint64) (out []DirEntry, first uint64, more bool, err error) {
	dir, err := d.t.getDir(d.in.attr.Ino)
	if err != nil {
		return nil, 0, false, err
	}
	l := dir.lists.at(dir, cookie)
	if n := cookie - d.from; cookie != 0 && cookie > d.from && n < uint64(len(d.ahead)) && d.gen == dir.lists.gen {
		return d.ahead[n:], cookie, true, nil
	}
	defer func() {
		d.ahead = nil
		if err == nil && l.gen == dir.lists.gen {
			d.ahead, d.from, d.gen = out, first, l.gen
		}
	}()
	index := cookie & (1<<cookieBits - 1)
	first = l.cookie(index)
	if index == 0 && cookie != 0 {
		return nil, 0, false, nil // never given out
	}
	if int(index)-2 > len(l.names) { // made anew, and not read as far yet
		if l.done {
			return nil, 0, false, nil
		}
		_, err := d.t.extend(dir, l, dirBatch)
		return nil, 0, true, err
	}
	if index == 0 {
		out = append(out, DirEntry{".", dir.attr.Ino, ModeDir})
		index++
	}
	if index == 1 {
		up := dir.parent
		if up == nil {
			up = dir
		}
		out = append(out, DirEntry{"..", up.attr.Ino, ModeDir})
		index++
	}
	for i := int(index) - 2; i < len(l.names) && len(out) < dirBatch; i++ {
		e, err := d.t.entry(dir, l.names[i])
		if err != nil && !isNotFound(err) {
			return nil, 0, false, err
		}
		out = append(out, e)
	}
	if l.done || len(out) >= dirBatch {
		return out, first, len(out) > 0, nil
	}
	new, err := d.t.extend(dir, l, dirBatch-len(out))
	out = append(out, new...)
	return out, first, len(out) > 0, err
}

// extend adds up to n names to a listing and returns them.
func (t *Tree) extend(dir *inode, l *listing, n int) ([]DirEntry, error) {
	more, done, err := t.namesAfter(dir, l, n)
	if err != nil {
		return nil, err
	}
	for _, e := range more {
		l.names = append(l.names, e.Name)
	}
	if l.done = done; done {
		l.over = nil
	}
	return more, nil
}

// namesAfter merges the committed names with those of the overlays, after the last one
// of a listing.
func (t *Tree) namesAfter(dir *inode, l *listing, n int) (out []DirEntry, done bool, err error) {
	from := ""
	if k := len(l.names); k > 0 {
		from = l.names[k-1] + "\x00"
	}
	i, _ := slices.BinarySearch(l.over, from)
	over := l.over[i:]
	add := func(name string) bool {
		e, err2 := t.entry(dir, name)
		if err2 == nil {
			out = append(out, e)
		} else if !isNotFound(err2) {
			err = err2
		}
		return err == nil && len(out) < n
	}
	out = make([]DirEntry, 0, min(n, int(dir.attr.Size)))
	scan := t.btree(crypt.PageDirectory, dir.base).scan(from, func(key string, value []byte) bool {
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
		e, err2 := entryOf(key, value)
		if err2 != nil {
			err = err2
			return false
		}
		if e.Mode == ModeDir {
			t.ahead.dir(value)
		}
		out = append(out, e)
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
	return entryOf(name, b)
}

// entryOf reads of a record only what a listing tells.
func entryOf(name string, record []byte) (DirEntry, error) {
	ino, mode, err := recordType(record)
	if err != nil {
		return DirEntry{}, errors.Join(ErrIntegrity, err)
	}
	return DirEntry{name, ino, mode}, nil
}

func orMissing(err error) error {
	if err == nil {
		return ErrNotFound
	}
	return err
}
