package fuse

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

const setidBits = unix.S_ISUID | unix.S_ISGID

// killPriv takes away what a write by an ordinary user takes away.
func (r *raw) killPriv(c <-chan struct{}, h *gofuse.InHeader) error {
	s := fs.SetAttr{KillPriv: true}
	a, err := r.tree.GetAttr(request{c}, fs.Ino(h.NodeId))
	if err != nil || a.Mode&setidBits == 0 { // as a rule
		return err
	}
	s.KillSetgid = losesSetgid(h, &a)
	_, err = r.tree.SetAttr(request{c}, fs.Ino(h.NodeId), s)
	return err
}

// mayKill completes a change of attributes that takes setuid and setgid away. A request
// for nothing else is a change of data, which the kernel has allowed, or chown(-1, -1),
// which it has not looked at: of what has no data, and of a file that its caller may not
// write to, it is the latter.
func (r *raw) mayKill(c <-chan struct{}, h *gofuse.InHeader, s *fs.SetAttr) error {
	a, err := r.tree.GetAttr(request{c}, fs.Ino(h.NodeId))
	if err != nil || a.Mode&setidBits == 0 || a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	s.KillSetgid = losesSetgid(h, &a)
	if !s.Touch || h.Uid == 0 || h.Uid == a.UID {
		return nil
	}
	if a.Mode&unix.S_ISUID == 0 && a.Mode&unix.S_IXGRP == 0 && !s.KillSetgid { // nothing goes
		return nil
	}
	if a.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrPermission
	}
	acl := false
	if r.acl {
		_, err := r.tree.GetXattr(request{c}, fs.Ino(h.NodeId), accessACL)
		if err != nil && !errors.Is(err, fs.ErrNoAttr) {
			return err
		}
		acl = err == nil
	}
	if !mayWrite(h, &a, acl) {
		return fs.ErrPermission
	}
	return nil
}

// accessACL is the attribute with a file's access ACL.
const accessACL = "system.posix_acl_access"

// mayWrite tells whether a user who is not the owner may write. With an ACL the bits of the
// group are the most that it gives anybody.
func mayWrite(h *gofuse.InHeader, a *fs.Attr, acl bool) bool {
	switch {
	case a.Mode&0o022 == 0:
		return false
	case acl:
		return true
	case inGroup(h, a.GID):
		return a.Mode&0o020 != 0
	}
	return a.Mode&0o002 != 0
}

// losesSetgid tells whether a file loses setgid though its group may not execute it: who
// changes it is not of the group.
func losesSetgid(h *gofuse.InHeader, a *fs.Attr) bool {
	return a.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID && h.Uid != 0 && !inGroup(h, a.GID)
}

// inGroup tells whether who asks is of a group. What /proc does not tell counts as not.
func inGroup(h *gofuse.InHeader, gid uint32) bool {
	if h.Gid == gid {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(h.Pid), 10) + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
			return slices.Contains(strings.Fields(groups), strconv.FormatUint(uint64(gid), 10))
		}
	}
	return false
}
