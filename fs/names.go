package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name: %w", ErrInvalid)
	case len(name) > NameMax:
		return ErrNameTooLong
	}
	return nil
}

// Lookup returns the attributes behind a name and takes a reference on the inode.
func (t *Tree) Lookup(ctx context.Context, parent Ino, name string) (a Attr, err error) {
	if len(name) > NameMax {
		return a, ErrNameTooLong
	}
	err = t.do(ctx, func() error {
		dir, err := t.getDir(parent)
		if err != nil {
			return err
		}
		var in *inode
		switch name {
		case ".":
			in = dir
		case "..":
			if in = dir.parent; in == nil {
				in = dir
			}
		default:
			if in, err = t.child(dir, name); err != nil {
				return err
			}
		}
		in.refs++
		a = in.stat()
		return nil
	})
	return a, err
}

// Mknod makes a regular file, fifo, socket or device and takes a reference on it.
func (t *Tree) Mknod(ctx context.Context, parent Ino, name string, mode, rdev uint32, owner Owner) (Attr, error) {
	switch mode & ModeType {
	case ModeRegular, ModeFIFO, ModeSocket, ModeChar, ModeBlock:
	case 0:
		mode |= ModeRegular
	default:
		return Attr{}, ErrInvalid
	}
	return t.create(ctx, &op{parent: parent, name: name, mode: mode, rdev: rdev}, owner)
}

// Mkdir makes a directory and takes a reference on it.
func (t *Tree) Mkdir(ctx context.Context, parent Ino, name string, mode uint32, owner Owner) (Attr, error) {
	return t.create(ctx, &op{parent: parent, name: name, mode: mode&modePerm | ModeDir}, owner)
}

// Symlink makes a symbolic link and takes a reference on it. The target is any bytes.
func (t *Tree) Symlink(ctx context.Context, parent Ino, name, target string, owner Owner) (Attr, error) {
	if target == "" || strings.ContainsRune(target, 0) {
		return Attr{}, ErrInvalid
	}
	if len(target) > SymlinkMax {
		return Attr{}, ErrNameTooLong
	}
	owner.Inherit = false
	return t.create(ctx, &op{parent: parent, name: name, mode: ModeSymlink | 0o777, data: []byte(target)}, owner)
}

func (t *Tree) create(ctx context.Context, o *op, owner Owner) (a Attr, err error) {
	if err := checkName(o.name); err != nil {
		return a, err
	}
	o.kind, o.uid, o.gid = opCreate, owner.UID, owner.GID
	o.label = crypt.NewLabel()
	o.mode &= ModeType | modePerm
	err = t.change(ctx, o, func() error {
		dir, err := t.liveDir(o.parent)
		if err != nil {
			return err
		}
		if err := t.absent(dir, o.name); err != nil {
			return err
		}
		if owner.Inherit {
			switch d, err := dir.defaultACL(); {
			case err != nil:
				return err
			case d != nil:
				o.flags |= createInherits
			default:
				o.mode &^= owner.Umask & 0o777
			}
		}
		if dir.attr.Mode&modeSetgid != 0 {
			o.gid = dir.attr.GID
			if o.mode&ModeType == ModeDir {
				o.mode |= modeSetgid
			}
		}
		if o.ino == 0 {
			o.ino = t.newIno()
		}
		return nil
	}, func() { a = t.refer(o.ino) })
	return a, err
}

// refer takes a reference on an inode that is loaded.
func (t *Tree) refer(ino Ino) Attr {
	in := t.inodes[ino]
	in.refs++
	return in.stat()
}

// liveDir returns a directory that still has a name.
func (t *Tree) liveDir(ino Ino) (*inode, error) {
	dir, err := t.getDir(ino)
	if err == nil && dir.orphan {
		err = ErrNotFound
	}
	return dir, err
}

func (t *Tree) absent(dir *inode, name string) error {
	switch _, err := t.child(dir, name); {
	case err == nil:
		return ErrExist
	case isNotFound(err):
		return nil
	default:
		return err
	}
}

// Link gives an inode another name and takes a reference on it.
func (t *Tree) Link(ctx context.Context, ino, parent Ino, name string) (a Attr, err error) {
	if err := checkName(name); err != nil {
		return a, err
	}
	o := &op{kind: opLink, ino: ino, parent: parent, name: name}
	err = t.change(ctx, o, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		switch {
		case in.isDir():
			return ErrPermission
		case in.orphan:
			return ErrNotFound
		case in.attr.Nlink >= LinkMax:
			return ErrTooManyLinks
		}
		dir, err := t.liveDir(parent)
		if err != nil {
			return err
		}
		return t.absent(dir, name)
	}, func() { a = t.refer(ino) })
	return a, err
}

// Unlink takes a name away. The inode stays usable while it is referred to.
func (t *Tree) Unlink(ctx context.Context, parent Ino, name string) error {
	return t.remove(ctx, parent, name, func(in *inode) error {
		if in.isDir() {
			return ErrIsDir
		}
		return nil
	})
}

// Rmdir takes away the name of an empty directory.
func (t *Tree) Rmdir(ctx context.Context, parent Ino, name string) error {
	if name == "." {
		return ErrInvalid
	}
	return t.remove(ctx, parent, name, func(in *inode) error {
		if !in.isDir() {
			return ErrNotDir
		}
		if in.attr.Size != 0 {
			return ErrNotEmpty
		}
		return nil
	})
}

func (t *Tree) remove(ctx context.Context, parent Ino, name string, allowed func(*inode) error) error {
	if len(name) > NameMax {
		return ErrNameTooLong
	}
	o := &op{kind: opUnlink, parent: parent, name: name}
	return t.change(ctx, o, func() error {
		dir, err := t.getDir(parent)
		if err != nil {
			return err
		}
		in, err := t.child(dir, name)
		if err != nil {
			return err
		}
		return allowed(in)
	})
}

// Rename moves a name; flags are RenameNoReplace, RenameExchange and RenameWhiteout, which
// leaves a character device 0:0 in the old place, as overlayfs wants it. It belongs to the
// owner of the directory.
func (t *Tree) Rename(ctx context.Context, from Ino, name string, to Ino, newName string, flags uint32) error {
	if flags&^(RenameNoReplace|RenameExchange|RenameWhiteout) != 0 || flags&RenameExchange != 0 && flags != RenameExchange {
		return ErrInvalid
	}
	if err := checkName(newName); err != nil {
		return err
	}
	o := &op{kind: opRename, parent: from, name: name, parent2: to, name2: newName, flags: flags}
	if flags&RenameWhiteout != 0 {
		o.kind, o.mode, o.label = opWhiteout, ModeChar, crypt.NewLabel()
	}
	same := false
	err := t.change(ctx, o, func() (err error) {
		same, err = t.checkRename(o)
		if err == nil && same {
			return errNothingToDo
		}
		if err == nil && o.kind == opWhiteout {
			dir, err := t.getDir(from)
			if err != nil {
				return err
			}
			o.uid, o.gid = dir.attr.UID, dir.attr.GID
			if o.ino == 0 {
				o.ino = t.newIno()
			}
		}
		return err
	})
	if same && errors.Is(err, errNothingToDo) {
		return nil
	}
	return err
}

// errNothingToDo ends a change that POSIX says has no effect.
var errNothingToDo = errors.New("nothing to do")

// checkRename reports whether both names stand for one inode, so that nothing happens.
func (t *Tree) checkRename(o *op) (same bool, err error) {
	from, err := t.getDir(o.parent)
	if err != nil {
		return false, err
	}
	to, err := t.liveDir(o.parent2)
	if err != nil {
		return false, err
	}
	in, err := t.child(from, o.name)
	if err != nil {
		return false, err
	}
	old, err := t.child(to, o.name2)
	if err != nil && !isNotFound(err) {
		return false, err
	}
	if in.isDir() && within(to, in) {
		return false, ErrInvalid
	}
	if o.flags&RenameExchange != 0 {
		if old == nil {
			return false, ErrNotFound
		}
		if old.isDir() && within(from, old) {
			return false, ErrInvalid
		}
		return old == in, nil
	}
	if old == nil {
		return false, nil
	}
	switch {
	case o.flags&RenameNoReplace != 0:
		return false, ErrExist
	case old == in:
		return true, nil
	case in.isDir() && !old.isDir():
		return false, ErrNotDir
	case !in.isDir() && old.isDir():
		return false, ErrIsDir
	case old.isDir() && old.attr.Size != 0:
		return false, ErrNotEmpty
	}
	return false, nil
}

// within reports whether dir is top or lies below it.
func within(dir, top *inode) bool {
	for ; dir != nil; dir = dir.parent {
		if dir == top {
			return true
		}
	}
	return false
}

// Readlink returns the target of a symbolic link.
func (t *Tree) Readlink(ctx context.Context, ino Ino) (target string, err error) {
	err = t.do(ctx, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		if in.attr.Mode&ModeType != ModeSymlink {
			return ErrInvalid
		}
		target = in.target
		return nil
	})
	return target, err
}
