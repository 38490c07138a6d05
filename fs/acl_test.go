package fs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// makeACL encodes entries of {tag, permissions, id}.
func makeACL(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

const none = 1<<32 - 1

// fullACL gives the user 7 the permissions p.
func fullACL(p, mask uint32) []byte {
	return makeACL([3]uint32{1, 7, none}, [3]uint32{2, p, 7}, [3]uint32{4, 5, none}, [3]uint32{16, mask, none}, [3]uint32{32, 0, none})
}

// What ACLs do to modes and new inodes is the same after a replay and after a commit.
func TestACLSurvives(t *testing.T) {
	v := newVault(t, nil)
	tree := v.tree
	must := func(a fs.Attr, err error) fs.Attr {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	d := must(tree.Mkdir(ctx, fs.RootIno, "d", 0o755, fs.Owner{}))
	if err := tree.SetXattr(ctx, d.Ino, defaultACL, fullACL(7, 7), 0); err != nil {
		t.Fatal(err)
	}
	maker := fs.Owner{UID: 5, Inherit: true, Umask: 0o77}
	must(tree.Mknod(ctx, d.Ino, "file", fs.ModeRegular|0o666, 0, maker))
	must(tree.Mkdir(ctx, d.Ino, "sub", 0o777, maker))
	must(tree.Mknod(ctx, d.Ino, "fifo", fs.ModeFIFO|0o640, 0, maker))
	must(tree.Mknod(ctx, d.Ino, "plain", fs.ModeRegular|0o666, 0, fs.Owner{}))
	f := must(tree.Mknod(ctx, fs.RootIno, "top", fs.ModeRegular|0o666, 0, maker))
	if f.Mode != fs.ModeRegular|0o600 {
		t.Errorf("without a default ACL the mode is %o", f.Mode)
	}
	g := must(tree.Mknod(ctx, fs.RootIno, "set", fs.ModeRegular|0o2750, 0, fs.Owner{}))
	if err := tree.SetXattr(ctx, g.Ino, accessACL, fullACL(6, 6), fs.XattrKillSetgid); err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o704)
	h := must(tree.Mknod(ctx, fs.RootIno, "chmod", fs.ModeRegular|0o600, 0, fs.Owner{}))
	if err := tree.SetXattr(ctx, h.Ino, accessACL, fullACL(6, 6), 0); err != nil {
		t.Fatal(err)
	}
	must(tree.SetAttr(ctx, h.Ino, fs.SetAttr{Mode: &mode}))

	want := map[string]string{
		"d/file":  fmt.Sprintf("100660 %x ", makeACL([3]uint32{1, 6, none}, [3]uint32{2, 7, 7}, [3]uint32{4, 5, none}, [3]uint32{16, 6, none}, [3]uint32{32, 0, none})),
		"d/sub":   fmt.Sprintf("40770 %x %x", fullACL(7, 7), fullACL(7, 7)),
		"d/fifo":  fmt.Sprintf("10640 %x ", makeACL([3]uint32{1, 6, none}, [3]uint32{2, 7, 7}, [3]uint32{4, 5, none}, [3]uint32{16, 4, none}, [3]uint32{32, 0, none})),
		"d/plain": "100666  ",
		"/set":    fmt.Sprintf("100760 %x ", fullACL(6, 6)),
		"/chmod": fmt.Sprintf("100704 %x ", makeACL([3]uint32{1, 7, none}, [3]uint32{2, 6, 7}, [3]uint32{4, 5, none},
			[3]uint32{16, 0, none}, [3]uint32{32, 4, none})),
	}
	check := func(when string) {
		t.Helper()
		dir := must(v.tree.Lookup(ctx, fs.RootIno, "d"))
		for path, w := range want {
			parent, name := dir.Ino, path[2:]
			if path[0] == '/' {
				parent, name = fs.RootIno, path[1:]
			}
			a := must(v.tree.Lookup(ctx, parent, name))
			access, _ := v.tree.GetXattr(ctx, a.Ino, accessACL)
			def, _ := v.tree.GetXattr(ctx, a.Ino, defaultACL)
			if got := fmt.Sprintf("%o %x %x", a.Mode, access, def); got != w {
				t.Errorf("%s: %s is %s, want %s", when, path, got, w)
			}
			v.tree.Forget(a.Ino, 1)
		}
		v.tree.Forget(dir.Ino, 1)
	}
	check("at once")
	v.kill()
	check("after a replay")
	v.commit()
	v.kill()
	check("after a commit")
	v.wipe()
	check("on another machine")
}

func TestBadACLs(t *testing.T) {
	v := newVault(t, nil)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|0o640, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	u, g, o := [3]uint32{1, 6, none}, [3]uint32{4, 4, none}, [3]uint32{32, 0, none}
	m, named := [3]uint32{16, 7, none}, [3]uint32{2, 7, 9}
	for what, b := range map[string][]byte{
		"nothing":          nil,
		"no entry":         makeACL(),
		"another version":  append([]byte{1}, makeACL(u, g, o)[1:]...),
		"half an entry":    makeACL(u, g, o)[:25],
		"no owner":         makeACL(g, o),
		"no group":         makeACL(u, o),
		"no others":        makeACL(u, g),
		"two owners":       makeACL(u, u, g, o),
		"no mask":          makeACL(u, named, g, o),
		"out of order":     makeACL(u, g, named, m, o),
		"a user twice":     makeACL(u, named, named, g, m, o),
		"a name of nobody": makeACL(u, [3]uint32{2, 7, none}, g, m, o),
		"a wrong tag":      makeACL(u, g, [3]uint32{5, 1, none}, o),
		"a wrong right":    makeACL(u, [3]uint32{4, 8, none}, o),
	} {
		if err := v.tree.SetXattr(ctx, a.Ino, accessACL, b, 0); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := v.tree.SetXattr(ctx, a.Ino, defaultACL, makeACL(u, g, o), 0); !errors.Is(err, fs.ErrAccess) {
		t.Errorf("a default ACL of a file: %v", err)
	}
	if x, err := v.tree.GetAttr(ctx, a.Ino); err != nil || x.Mode != a.Mode || x.Ctime != a.Ctime {
		t.Errorf("refused ACLs changed %+v to %+v, %v", a, x, err)
	}
	if err := v.tree.SetXattr(ctx, a.Ino, accessACL, makeACL(u, named, g, m, o), 0); err != nil {
		t.Fatal(err)
	}
	if b, err := v.tree.GetXattr(ctx, a.Ino, accessACL); err != nil || !bytes.Equal(b, makeACL(u, named, g, m, o)) {
		t.Errorf("%x, %v", b, err)
	}
}
