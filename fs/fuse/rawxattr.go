package fuse

import (
	"errors"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// labelXattr is what `ls -l` asks each file for. Where a file has none, it is told that
// there are none here: it then asks no other file. What somebody has set is kept.
const labelXattr = "security.selinux"

// aclPrefix is the namespace that only ACLs are in.
const aclPrefix = "system."

// hidden tells whether attributes of a name are not to be spoken of with this mount.
func (r *raw) hidden(name string) bool { return !r.acl && strings.HasPrefix(name, aclPrefix) }

// GetXAttr answers the size alone when the kernel offers no room.
func (r *raw) GetXAttr(c <-chan struct{}, h *gofuse.InHeader, name string, dest []byte) (uint32, gofuse.Status) {
	if r.hidden(name) {
		return 0, gofuse.Status(unix.EOPNOTSUPP)
	}
	v, err := r.tree.GetXattr(request{c}, fs.Ino(h.NodeId), name)
	if errors.Is(err, fs.ErrNoAttr) && name == labelXattr {
		return 0, gofuse.Status(unix.EOPNOTSUPP)
	}
	if err != nil {
		return 0, r.fail(err)
	}
	return fill(dest, v)
}

func fill(dest, v []byte) (uint32, gofuse.Status) {
	if len(dest) == 0 {
		return uint32(len(v)), gofuse.OK
	}
	if len(v) > len(dest) {
		return uint32(len(v)), gofuse.ERANGE
	}
	return uint32(copy(dest, v)), gofuse.OK
}

func (r *raw) ListXAttr(c <-chan struct{}, h *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	names, err := r.tree.ListXattr(request{c}, fs.Ino(h.NodeId))
	if err != nil {
		return 0, r.fail(err)
	}
	var b []byte
	for _, n := range names {
		if r.hidden(n) || h.Uid != 0 && strings.HasPrefix(n, "trusted.") {
			continue
		}
		b = append(append(b, n...), 0)
	}
	return fill(dest, b)
}

func (r *raw) SetXAttr(c <-chan struct{}, in *gofuse.SetXAttrIn, name string, data []byte) gofuse.Status {
	if r.hidden(name) {
		return gofuse.Status(unix.EOPNOTSUPP)
	}
	flags := in.Flags
	if r.acl && in.SetXAttrFlags&gofuse.SETXATTR_ACL_KILL_SGID != 0 {
		flags |= fs.XattrKillSetgid
	}
	return r.fail(r.tree.SetXattr(request{c}, fs.Ino(in.NodeId), name, data, flags))
}

func (r *raw) RemoveXAttr(c <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	if r.hidden(name) {
		return gofuse.Status(unix.EOPNOTSUPP)
	}
	return r.fail(r.tree.RemoveXattr(request{c}, fs.Ino(h.NodeId), name))
}
