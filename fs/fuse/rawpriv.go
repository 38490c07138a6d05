package fuse

import (
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
// which it has not looked at: where nobody but the owner may write, it is the latter.
func (r *raw) mayKill(c <-chan struct{}, h *gofuse.InHeader, s *fs.SetAttr) error {
	a, err := r.tree.GetAttr(request{c}, fs.Ino(h.NodeId))
	if err != nil || a.Mode&setidBits == 0 || a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	s.KillSetgid = losesSetgid(h, &a)
	if s.Touch && h.Uid != 0 && h.Uid != a.UID && a.Mode&0o022 == 0 {
		return fs.ErrPermission
	}
	return nil
}

// losesSetgid tells whether a file loses setgid though its group may not execute it: who
// changes it is not of the group. What /proc does not tell counts as not.
func losesSetgid(h *gofuse.InHeader, a *fs.Attr) bool {
	if a.Mode&(unix.S_ISGID|unix.S_IXGRP) != unix.S_ISGID || h.Uid == 0 || h.Gid == a.GID {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(h.Pid), 10) + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
			return !slices.Contains(strings.Fields(groups), strconv.FormatUint(uint64(a.GID), 10))
		}
	}
	return true
}
