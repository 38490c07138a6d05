package fs

import (
	"fmt"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// apply changes the tree as the op says. The op was checked, now or before it was
// journaled; what a replay finds otherwise is an error, and nothing is changed.
func (t *Tree) apply(o *op) error {
	switch o.kind {
	case opLocate:
		return t.applyLocate(o)
	case opCreate:
		return t.applyCreate(o)
	case opUnlink:
		return t.applyUnlink(o)
	case opLink:
		return t.applyLink(o)
	case opRename, opWhiteout:
		return t.applyRename(o)
	case opSetAttr:
		return t.applySetAttr(o)
	case opWrite:
		return t.applyWrite(o)
	case opStream:
		return t.applyStream(o)
	case opFallocate:
		return t.applyFallocate(o)
	case opCopy:
		return t.applyCopy(o)
	case opSetXattr, opRemoveXattr:
		in, err := t.get(o.ino)
		if err != nil {
			return err
		}
		switch {
		case o.kind == opRemoveXattr:
			in.setXattr(o.name, nil)
		case isACL(o.name):
			if err := in.setACL(o.name, o.data, o.flags&setKillSetgid != 0); err != nil {
				return err
			}
		default:
			in.setXattr(o.name, append([]byte{}, o.data...)) // never nil, also if empty
		}
		in.attr.Ctime = o.time
		t.mark(in)
		return nil
	}
	return fmt.Errorf("change of kind %d: %w", o.kind, ErrInvalid)
}

func (t *Tree) applyLocate(o *op) error {
	if o.parent == 0 {
		_, err := t.linkedInode(o.ino)
		return err
	}
	dir, err := t.getDir(o.parent)
	if err != nil {
		return err
	}
	in, err := t.child(dir, o.name)
	if err == nil && in.attr.Ino != o.ino {
		err = fmt.Errorf("the journal's inode %d is %d in the tree: %w", o.ino, in.attr.Ino, ErrIntegrity)
	}
	return err
}

func (t *Tree) applyCreate(o *op) error {
	dir, err := t.getDir(o.parent)
	if err != nil {
		return err
	}
	in := t.inodeFor(o, dir)
	if o.flags&createInherits != 0 {
		d, err := dir.defaultACL()
		if err != nil {
			return err
		}
		if d != nil {
			in.inherit(d)
		}
	}
	switch o.mode & ModeType {
	case ModeDir:
		in.attr.Nlink = 2
		dir.attr.Nlink++
	case ModeSymlink:
		in.target = string(o.data)
		in.attr.Size = uint64(len(o.data))
	}
	t.add(in)
	t.touchDir(dir, o.time, +1)
	return nil
}

// inodeFor makes the inode that a change creates under a name in a directory.
func (t *Tree) inodeFor(o *op, dir *inode) *inode {
	in := newInode(Attr{
		Ino: o.ino, Mode: o.mode, Nlink: 1, UID: o.uid, GID: o.gid, Rdev: o.rdev,
		Atime: o.time, Mtime: o.time, Ctime: o.time, Btime: o.time,
	})
	in.label, in.parent, in.name, in.located = o.label, dir, o.name, t.epoch
	return in
}

// add puts a new inode into the tree, in the place that it names.
func (t *Tree) add(in *inode) {
	t.keep(in)
	t.files++
	in.parent.kids++
	in.marked = t.epoch
	t.setName(in.parent, in.name, in)
}

// touchDir notes that a directory gained or lost names.
func (t *Tree) touchDir(dir *inode, now int64, names int) {
	dir.attr.Mtime, dir.attr.Ctime = now, now
	dir.attr.Size = uint64(int64(dir.attr.Size) + int64(names))
	t.mark(dir)
}

func (t *Tree) applyUnlink(o *op) error {
	dir, err := t.getDir(o.parent)
	if err != nil {
		return err
	}
	in, err := t.child(dir, o.name)
	if err != nil {
		return err
	}
	t.dropName(dir, o.name, in, o.time)
	t.touchDir(dir, o.time, -1)
	t.evict(in)
	return nil
}

// dropName takes a name from an inode. The directory's own times are the caller's.
func (t *Tree) dropName(dir *inode, name string, in *inode, now int64) {
	t.setName(dir, name, nil)
	in.attr.Ctime = now
	if in.isDir() {
		dir.attr.Nlink--
		in.attr.Nlink = 0
	} else {
		in.attr.Nlink--
	}
	if in.attr.Nlink > 0 {
		t.mark(in)
		return
	}
	t.files--
	if in.isRegular() {
		t.bytes -= in.attr.Size
	}
	if in.linked {
		put(&t.links, in.attr.Ino, nil)
	}
	if in.parent != nil {
		in.parent.kids--
		in.parent = nil
	}
	if in.isDir() && !in.base.IsZero() {
		root := in.base
		in.committed = &committedBody{dir: true, tree: &root}
	}
	in.orphan = true
	t.orphans[in] = struct{}{}
}

func (t *Tree) applyLink(o *op) error {
	in, err := t.get(o.ino)
	if err != nil {
		return err
	}
	dir, err := t.getDir(o.parent)
	if err != nil {
		return err
	}
	if !in.linked { // its record moves to the inode table; its first name only points there
		p := in.parent
		in.linked, in.parent, in.marked = true, nil, 0
		p.kids--
		t.setName(p, in.name, in)
	}
	in.attr.Nlink++
	in.attr.Ctime = o.time
	in.located = t.epoch
	t.mark(in)
	t.setName(dir, o.name, in)
	t.touchDir(dir, o.time, +1)
	return nil
}

func (t *Tree) applyRename(o *op) error {
	from, err := t.getDir(o.parent)
	if err != nil {
		return err
	}
	to, err := t.getDir(o.parent2)
	if err != nil {
		return err
	}
	in, err := t.child(from, o.name)
	if err != nil {
		return err
	}
	old, err := t.child(to, o.name2)
	if err != nil && !isNotFound(err) {
		return err
	}
	if o.flags&RenameExchange != 0 {
		t.place(in, from, to, o.name2, o.time)
		t.place(old, to, from, o.name, o.time)
		t.touchDir(from, o.time, 0)
		t.touchDir(to, o.time, 0)
		return nil
	}
	if old != nil {
		t.dropName(to, o.name2, old, o.time)
		t.touchDir(to, o.time, -1)
	}
	t.setName(from, o.name, nil)
	t.place(in, from, to, o.name2, o.time)
	t.touchDir(from, o.time, -1)
	t.touchDir(to, o.time, +1)
	if old != nil {
		t.evict(old)
	}
	if o.kind == opWhiteout {
		w := t.inodeFor(o, from)
		t.add(w)
		t.touchDir(from, o.time, +1)
		t.evict(w)
	}
	return nil
}

// place makes name in dir to stand for in, which stood in dir from.
func (t *Tree) place(in, from, to *inode, name string, now int64) {
	if in.isDir() && from != to {
		from.attr.Nlink--
		to.attr.Nlink++
	}
	in.attr.Ctime = now
	if !in.linked {
		from.kids--
		to.kids++
		in.parent, in.name = to, name
		in.marked = t.epoch
		in.located = t.epoch
	} else {
		t.mark(in)
	}
	t.setName(to, name, in)
}

func (t *Tree) applySetAttr(o *op) error {
	in, err := t.get(o.ino)
	if err != nil {
		return err
	}
	if o.flags&setSize != 0 && in.unloaded {
		if err := t.loadExtents(in); err != nil {
			return err
		}
	}
	a := &in.attr
	if o.flags&setMode != 0 {
		old := a.Mode
		a.Mode = a.Mode&ModeType | o.mode&modePerm
		if err := in.chmodACL(); err != nil {
			a.Mode = old
			return err
		}
	}
	if o.flags&setUID != 0 {
		a.UID = o.uid
	}
	if o.flags&setGID != 0 {
		a.GID = o.gid
	}
	if o.flags&setSize != 0 {
		if o.size < a.Size {
			in.own()
			in.ext.replace(o.size, FileMax+1)
		}
		t.resize(in, o.size)
		a.Mtime = o.time
	}
	if o.flags&setAtime != 0 {
		a.Atime = o.atime
	}
	if o.flags&setMtime != 0 {
		a.Mtime = o.mtime
	}
	a.Ctime = o.time
	t.mark(in)
	return nil
}

func (t *Tree) resize(in *inode, size uint64) {
	if !in.orphan {
		t.bytes += size - in.attr.Size
	}
	in.attr.Size = size
}

// loadExtents makes the extents of a file, for which it may have to read pages.
func (t *Tree) loadExtents(in *inode) error {
	if in.small != nil {
		in.unpack()
		t.weigh(in)
		return nil
	}
	b := t.btree(crypt.PageExtents, *in.tree)
	// Get all pages first: without that, each that is missing would begin it all again.
	if err := b.walk(func(*crypt.PagePointer) {}); err != nil {
		return err
	}
	x, err := readExtents(b)
	if err != nil {
		return err
	}
	in.ext, in.extShared, in.unloaded, in.tree = extentMap{list: x}, true, false, nil
	if in.committed != nil { // else it is on a dead list already
		c := *in.committed
		c.ext = x
		in.committed = &c
	}
	t.weigh(in)
	return nil
}

// readExtents returns all extents of a tree.
func readExtents(b *btree) (extents, error) {
	var x extents
	var bad error
	in := extentReader{}
	err := b.scan("", func(_ string, v []byte) bool {
		d := crypt.NewDecoder(v)
		e := in.read(d)
		if bad = d.Close(); bad != nil {
			return false
		}
		if n := len(x); n > 0 && e.off < x[n-1].end() {
			bad = fmt.Errorf("extents overlap: %w", crypt.ErrFormat)
			return false
		}
		x = append(x, e)
		return true
	})
	if err == nil && bad != nil {
		err = fmt.Errorf("%w: %w", ErrIntegrity, bad)
	}
	return x, err
}
