package fs

import (
	"encoding/binary"
	"fmt"
)

// POSIX ACLs are kept as the extended attributes that Linux knows them by. The mode's
// permission bits always agree with the access ACL: owner, mask (or group) and others.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func isACL(name string) bool { return name == aclAccess || name == aclDefault }

// Tags of ACL entries, in the order in which they stand.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclVersion   = 2
	aclNoID      = 1<<32 - 1
	aclEntrySize = 8
)

// aclEntry is one line of an ACL.
type aclEntry struct {
	tag, perm uint16
	id        uint32 // for aclUser and aclGroup
}

type acl []aclEntry

// parseACL reads an attribute's value: u32 version 2 and {u16 tag, u16 permissions,
// u32 id}, little-endian. An ACL out of order, incomplete or with doubles is ErrInvalid.
func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || len(b)%aclEntrySize != 4 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fmt.Errorf("ACL of %d bytes: %w", len(b), ErrInvalid)
	}
	var a acl
	seen := map[aclEntry]bool{}
	last, named := uint16(0), false
	tags := uint16(0)
	for b = b[4:]; len(b) > 0; b = b[aclEntrySize:] {
		e := aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		key := aclEntry{tag: e.tag}
		switch e.tag {
		case aclUser, aclGroup:
			key.id, named = e.id, true
			if e.id == aclNoID {
				return nil, fmt.Errorf("ACL entry for nobody: %w", ErrInvalid)
			}
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			e.id = aclNoID
		default:
			return nil, fmt.Errorf("ACL entry with tag %d: %w", e.tag, ErrInvalid)
		}
		if e.tag < last || seen[key] || e.perm > 7 {
			return nil, fmt.Errorf("ACL entries out of order: %w", ErrInvalid)
		}
		last, seen[key] = e.tag, true
		tags |= e.tag
		a = append(a, e)
	}
	need := uint16(aclUserObj | aclGroupObj | aclOther)
	if named {
		need |= aclMask
	}
	if tags&need != need {
		return nil, fmt.Errorf("incomplete ACL: %w", ErrInvalid)
	}
	return a, nil
}

func (a acl) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(a)*aclEntrySize), aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// entry returns the only entry with a tag, or nil.
func (a acl) entry(tag uint16) *aclEntry {
	for i := range a {
		if a[i].tag == tag {
			return &a[i]
		}
	}
	return nil
}

// class returns the entries that the mode's bits of owner, group and others stand for.
func (a acl) class() [3]*aclEntry {
	group := a.entry(aclMask)
	if group == nil {
		group = a.entry(aclGroupObj)
	}
	return [3]*aclEntry{a.entry(aclUserObj), group, a.entry(aclOther)}
}

// mode is the permission bits that agree with the ACL.
func (a acl) mode() uint32 {
	c := a.class()
	return uint32(c[0].perm)<<6 | uint32(c[1].perm)<<3 | uint32(c[2].perm)
}

// minimal reports whether the mode says all that the ACL says.
func (a acl) minimal() bool { return len(a) == 3 }

// chmod makes the ACL agree with a mode.
func (a acl) chmod(mode uint32) {
	for i, e := range a.class() {
		e.perm = uint16(mode>>(6-3*i)) & 7
	}
}

// restrict takes what a new inode's mode does not have from an ACL it inherits, and
// returns the mode without what the ACL does not give.
func (a acl) restrict(mode uint32) uint32 {
	for i, e := range a.class() {
		e.perm &= uint16(mode>>(6-3*i)) & 7
	}
	return mode&^0o777 | a.mode()
}

// setACL is the effect of setting an ACL on an inode that may have it.
func (in *inode) setACL(name string, value []byte, killSetgid bool) error {
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	value = a.encode()
	if name == aclAccess {
		in.attr.Mode = in.attr.Mode&^0o777 | a.mode()
		if killSetgid {
			in.attr.Mode &^= modeSetgid
		}
		if a.minimal() {
			value = nil
		}
	}
	in.setXattr(name, value)
	return nil
}

// chmodACL keeps the access ACL in step with a new mode.
func (in *inode) chmodACL() error {
	value, ok := in.xattrs[aclAccess]
	if !ok {
		return nil
	}
	a, err := parseACL(value)
	if err != nil {
		return fmt.Errorf("%w: stored: %w", ErrIntegrity, err)
	}
	a.chmod(in.attr.Mode)
	in.setXattr(aclAccess, a.encode())
	return nil
}

// defaultACL is what new inodes in dir inherit, or nil.
func (in *inode) defaultACL() (acl, error) {
	value, ok := in.xattrs[aclDefault]
	if !ok {
		return nil, nil
	}
	a, err := parseACL(value)
	if err != nil {
		return nil, fmt.Errorf("%w: stored: %w", ErrIntegrity, err)
	}
	return a, nil
}

// inherit gives a new inode the default ACL of its directory.
func (in *inode) inherit(a acl) {
	value := a.encode()
	in.attr.Mode = a.restrict(in.attr.Mode)
	if !a.minimal() {
		in.setXattr(aclAccess, a.encode())
	}
	if in.isDir() {
		in.setXattr(aclDefault, value)
	}
}

// allowsACL tells why an inode cannot have an ACL, or nil.
func (in *inode) allowsACL(name string) error {
	switch {
	case in.attr.Mode&ModeType == ModeSymlink:
		return ErrNotSupported
	case name == aclDefault && !in.isDir():
		return ErrAccess
	}
	return nil
}
