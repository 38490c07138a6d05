package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// GetAttr returns what stat(2) tells.
func (t *Tree) GetAttr(ctx context.Context, ino Ino) (a Attr, err error) {
	err = t.do(ctx, func() error {
		in, err := t.get(ino)
		if err == nil {
			a = in.stat()
		}
		return err
	})
	return a, err
}

// SetAttr changes the attributes that are not nil and returns all of them.
func (t *Tree) SetAttr(ctx context.Context, ino Ino, s SetAttr) (a Attr, err error) {
	o := &op{kind: opSetAttr, ino: ino}
	if s.Size != nil {
		if *s.Size > FileMax {
			return a, ErrTooLarge
		}
		o.size, o.flags = *s.Size, o.flags|setSize
	}
	if s.UID != nil {
		o.uid, o.flags = *s.UID, o.flags|setUID
	}
	if s.GID != nil {
		o.gid, o.flags = *s.GID, o.flags|setGID
	}
	if s.Atime != nil {
		o.atime, o.flags = *s.Atime, o.flags|setAtime
	}
	if s.Mtime != nil {
		o.mtime, o.flags = *s.Mtime, o.flags|setMtime
	}
	if s.Mode != nil {
		o.mode, o.flags = *s.Mode, o.flags|setMode
	}
	if s.KillPriv && o.flags == 0 && !s.Touch {
		// Each write of an ordinary user asks for this: without the bits it is no change.
		if a, err = t.GetAttr(ctx, ino); err != nil || s.kill(a.Mode) == a.Mode {
			return a, err
		}
	}
	err = t.change(ctx, o, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		if s.Size != nil {
			if in, err = t.loaded(ino); err != nil {
				return err
			}
		}
		if m := s.kill(in.attr.Mode); s.KillPriv && s.Mode == nil && m != in.attr.Mode {
			o.mode, o.flags = m&modePerm, o.flags|setMode
		}
		return nil
	}, func() { a = t.inodes[ino].stat() })
	return a, err
}

// kill is a mode without the bits that a chown, or a write by an ordinary user, takes
// away; directories keep theirs. Setgid without execution by the group is a mark of
// mandatory locks: it stays, unless the user is not of that group.
func (s *SetAttr) kill(mode uint32) uint32 {
	if mode&ModeType == ModeDir {
		return mode
	}
	m := mode &^ modeSetuid
	if m&0o010 != 0 || s.KillSetgid {
		m &^= modeSetgid
	}
	return m
}

const (
	// stateXattr tells where an inode's newest version is; see stateOf.
	stateXattr = "user.ipfscloud.state"

	xattrCreate  = 1
	xattrReplace = 2
	xattrNameMax = 255
)

// GetXattr returns the value of an extended attribute.
func (t *Tree) GetXattr(ctx context.Context, ino Ino, name string) (value []byte, err error) {
	err = t.do(ctx, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		if name == stateXattr {
			value = []byte(t.stateOf(in))
			return nil
		}
		v, ok := in.xattrs[name]
		if !ok {
			return orUnknown(name)
		}
		value = v
		return nil
	})
	return value, err
}

// orUnknown is the error for an attribute that is not there: there may be none of its kind.
func orUnknown(name string) error {
	err := checkXattr(name)
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrNotSupported) && name != capability {
		return err
	}
	return ErrNoAttr
}

// capability is never honoured (nosuid), and a write would have to clear it.
const capability = "security.capability"

func checkXattr(name string) error {
	space, rest, ok := strings.Cut(name, ".")
	switch {
	case isACL(name):
		return nil
	case !ok, name == capability, space != "user" && space != "trusted" && space != "security":
		return ErrNotSupported
	case rest == "" || strings.ContainsRune(name, 0):
		return ErrInvalid
	case len(name) > xattrNameMax:
		return ErrNameTooLong
	case name == stateXattr:
		return ErrPermission
	}
	return nil
}

// SetXattr sets an extended attribute; flags are those of setxattr(2), and XattrKillSetgid.
// An access ACL changes the mode, and is not kept if the mode says as much.
func (t *Tree) SetXattr(ctx context.Context, ino Ino, name string, value []byte, flags uint32) error {
	if err := checkXattr(name); err != nil {
		return err
	}
	o := &op{kind: opSetXattr, ino: ino, name: name, data: value}
	if isACL(name) {
		if _, err := parseACL(value); err != nil {
			return err
		}
		if flags&XattrKillSetgid != 0 {
			o.flags = setKillSetgid
		}
	}
	return t.change(ctx, o, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		if isACL(name) {
			if err := in.allowsACL(name); err != nil {
				return err
			}
		}
		old, ok := in.xattrs[name]
		switch {
		case flags&xattrCreate != 0 && ok:
			return ErrExist
		case flags&xattrReplace != 0 && !ok:
			return ErrNoAttr
		}
		total := len(name) + len(value)
		if ok {
			total -= len(name) + len(old)
		}
		for k, v := range in.xattrs {
			total += len(k) + len(v)
		}
		if total > XattrMax {
			return fmt.Errorf("attributes of one inode above %d bytes: %w", XattrMax, ErrNoSpace)
		}
		return nil
	})
}

// ListXattr returns the names of the extended attributes, sorted.
func (t *Tree) ListXattr(ctx context.Context, ino Ino) (names []string, err error) {
	err = t.do(ctx, func() error {
		in, err := t.get(ino)
		if err == nil {
			names = sortedKeys(in.xattrs)
		}
		return err
	})
	return names, err
}

// RemoveXattr removes an extended attribute. Removing an ACL that is not there is no error.
func (t *Tree) RemoveXattr(ctx context.Context, ino Ino, name string) error {
	if err := checkXattr(name); err != nil && name != capability {
		return err
	}
	o := &op{kind: opRemoveXattr, ino: ino, name: name}
	err := t.change(ctx, o, func() error {
		in, err := t.get(ino)
		if err != nil {
			return err
		}
		if _, ok := in.xattrs[name]; !ok {
			if isACL(name) {
				return errNothingToDo
			}
			return ErrNoAttr
		}
		return nil
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	return err
}

// usageWait is how long StatFS waits for what the store says of its space.
const usageWait = 2 * time.Second

// StatFS tells how large the drive is: the space that its files take in the store, and what
// the store may still take. A sparse file counts with its data: no file takes more than the
// whole store does. (A node that the user runs for other things too holds more than this
// drive, so the sizes of the files are a bound as well.)
func (t *Tree) StatFS(ctx context.Context) (StatFS, error) {
	ctx, cancel := context.WithTimeout(ctx, min(t.cfg.Deadline, usageWait))
	defer cancel()
	used, free, err := t.cfg.Store.Usage(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.used, t.free = used, free
	}
	// Else the last answer counts: df must not hang with the node.
	taken := t.bytes
	if t.used > 0 {
		taken = min(taken, t.used+uint64(max(0, t.pendingBytes)))
	}
	return StatFS{
		Total: taken + t.free, Free: t.free,
		Files: t.files + 1, FilesFree: 1 << 32,
		NameMax: NameMax, BlockSize: 4096, FragmentSize: 4096,
	}, nil
}

// Fsync makes the changes of a file or directory as durable as the tree's setting says.
// It waits for all changes before the call: the journal knows no files.
func (t *Tree) Fsync(ctx context.Context, ino Ino, dataOnly bool) error {
	t.mu.Lock()
	d := t.cfg.Durability
	in := t.inodes[ino]
	t.mu.Unlock()
	if in == nil {
		return ErrStale
	}
	return t.Sync(ctx, d)
}
