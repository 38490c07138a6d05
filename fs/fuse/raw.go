package fuse

import (
	"context"
	"log/slog"
	"math"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/deadline"
)

// Tree is what this package needs of fs.Tree.
type Tree interface {
	Lookup(ctx context.Context, parent fs.Ino, name string) (fs.Attr, error)
	Forget(ino fs.Ino, n uint64)
	GetAttr(ctx context.Context, ino fs.Ino) (fs.Attr, error)
	SetAttr(ctx context.Context, ino fs.Ino, s fs.SetAttr) (fs.Attr, error)
	Mknod(ctx context.Context, parent fs.Ino, name string, mode, rdev uint32, owner fs.Owner) (fs.Attr, error)
	Mkdir(ctx context.Context, parent fs.Ino, name string, mode uint32, owner fs.Owner) (fs.Attr, error)
	Symlink(ctx context.Context, parent fs.Ino, name, target string, owner fs.Owner) (fs.Attr, error)
	Link(ctx context.Context, ino, parent fs.Ino, name string) (fs.Attr, error)
	Unlink(ctx context.Context, parent fs.Ino, name string) error
	Rmdir(ctx context.Context, parent fs.Ino, name string) error
	Rename(ctx context.Context, from fs.Ino, name string, to fs.Ino, newName string, flags uint32) error
	Readlink(ctx context.Context, ino fs.Ino) (string, error)
	Read(ctx context.Context, ino fs.Ino, off uint64, p []byte) (int, error)
	Write(ctx context.Context, ino fs.Ino, off uint64, p []byte) (int, error)
	Fallocate(ctx context.Context, ino fs.Ino, off, size uint64, mode uint32) error
	Seek(ctx context.Context, ino fs.Ino, off uint64, whence uint32) (uint64, error)
	CopyRange(ctx context.Context, from fs.Ino, fromOff uint64, to fs.Ino, toOff, n uint64) (uint64, error)
	GetXattr(ctx context.Context, ino fs.Ino, name string) ([]byte, error)
	SetXattr(ctx context.Context, ino fs.Ino, name string, value []byte, flags uint32) error
	ListXattr(ctx context.Context, ino fs.Ino) ([]string, error)
	RemoveXattr(ctx context.Context, ino fs.Ino, name string) error
	Fsync(ctx context.Context, ino fs.Ino, dataOnly bool) error
	StatFS(ctx context.Context) (fs.StatFS, error)
	OpenDir(ctx context.Context, ino fs.Ino) (*fs.Dir, error)
	Parent(ino fs.Ino) (fs.Ino, bool)
}

var _ Tree = (*fs.Tree)(nil)

// cacheSeconds is how long the kernel may keep names and attributes: the drive has one
// writer, and the kernel sees all it does.
const cacheSeconds = 600

const (
	writeCache         = 1 << 0  // FUSE_WRITE_CACHE: pages that were changed through mappings
	writeKillSuidgid   = 1 << 2  // FUSE_WRITE_KILL_SUIDGID
	setattrKillSuidgid = 1 << 11 // FATTR_KILL_SUIDGID
	openKillSuidgid    = 1 << 0  // FUSE_OPEN_KILL_SUIDGID
	blockSize          = 4096
)

// raw answers the kernel's requests out of a tree. It embeds go-fuse's default, which
// answers ENOSYS to what is not here: locks (the kernel keeps them itself, which is right
// on one machine) and ioctl.
type raw struct {
	gofuse.RawFileSystem
	tree     Tree
	log      *slog.Logger
	deadline time.Duration
	sync     bool // close waits like fsync
	acl      bool
	uid, gid *uint32
	umask    uint32

	// writeBack makes the kernel write back, and forget, what it has of a range of a file, or of
	// a listing.
	writeBack func(ino uint64, off, n int64) error
	writing   chan struct{} // bounds the threads that wait for it
	holes     holes

	listings *listings
	relists  relists
}

func newRaw(t Tree, o *Options) *raw {
	return &raw{RawFileSystem: gofuse.NewDefaultRawFileSystem(), tree: t, log: o.Log, deadline: o.Deadline,
		sync: o.SyncOnClose, acl: o.ACL, uid: o.UID, gid: o.GID, umask: o.Umask, listings: newListings(),
		writing: make(chan struct{}, maxWriteBacks)}
}

func (r *raw) String() string { return "ipfscloud" }

// request is the context of a request: it ends when the kernel interrupts it. Deadlines
// are the tree's own, and bounded's.
type request struct{ cancel <-chan struct{} }

func (c request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c request) Done() <-chan struct{}       { return c.cancel }
func (c request) Value(any) any               { return nil }
func (c request) Err() error {
	select {
	case <-c.cancel:
		return context.Canceled
	default:
		return nil
	}
}

// bounded adds the deadline of a request that waits for the disk or the store.
func (r *raw) bounded(c <-chan struct{}) (context.Context, context.CancelFunc) {
	return deadline.With(request{c}, r.deadline)
}

func (r *raw) fail(err error) gofuse.Status { return errno(r.log, err) }

func split(ns int64) (uint64, uint32) {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return uint64(s), uint32(n)
}

func (r *raw) attr(a *fs.Attr, out *gofuse.Attr) {
	out.Ino, out.Size, out.Blocks = uint64(a.Ino), a.Size, a.Blocks
	out.Mode, out.Nlink, out.Rdev = a.Mode&^r.umask, a.Nlink, a.Rdev
	out.Uid, out.Gid = a.UID, a.GID
	if r.uid != nil {
		out.Uid = *r.uid
	}
	if r.gid != nil {
		out.Gid = *r.gid
	}
	out.Blksize = blockSize
	out.Atime, out.Atimensec = split(a.Atime)
	out.Mtime, out.Mtimensec = split(a.Mtime)
	out.Ctime, out.Ctimensec = split(a.Ctime)
}

func (r *raw) entry(a *fs.Attr, out *gofuse.EntryOut) {
	out.NodeId, out.Generation = uint64(a.Ino), 1
	out.EntryValid, out.AttrValid = cacheSeconds, cacheSeconds
	r.attr(a, &out.Attr)
}

func (r *raw) Lookup(c <-chan struct{}, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	a, err := r.tree.Lookup(request{c}, fs.Ino(h.NodeId), name)
	if err != nil {
		s := r.fail(err)
		if s == gofuse.ENOENT { // the kernel may remember that the name is not there
			*out = gofuse.EntryOut{EntryValid: cacheSeconds}
			return gofuse.OK
		}
		return s
	}
	r.listings.looked(h.NodeId)
	r.entry(&a, out)
	return gofuse.OK
}

func (r *raw) Forget(node, n uint64) {
	r.listings.drop(node)
	r.relists.drop(node)
	r.tree.Forget(fs.Ino(node), n)
}

func (r *raw) GetAttr(c <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	a, err := r.tree.GetAttr(request{c}, fs.Ino(in.NodeId))
	if err != nil {
		return r.fail(err)
	}
	out.AttrValid = cacheSeconds
	r.attr(&a, &out.Attr)
	return gofuse.OK
}

// Access is asked only where the kernel does not check (Options.Unchecked): access(2) and
// chdir(2). Root may do all but execute a file that nobody may execute.
func (r *raw) Access(c <-chan struct{}, in *gofuse.AccessIn) gofuse.Status {
	if in.Mask&unix.X_OK == 0 {
		return gofuse.OK
	}
	a, err := r.tree.GetAttr(request{c}, fs.Ino(in.NodeId))
	if err != nil {
		return r.fail(err)
	}
	if a.Mode&unix.S_IFMT != unix.S_IFDIR && a.Mode&^r.umask&0o111 == 0 {
		return gofuse.EACCES
	}
	return gofuse.OK
}

func (r *raw) SetAttr(c <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	var s fs.SetAttr
	if m, ok := in.GetMode(); ok {
		s.Mode = &m
	}
	if u, ok := in.GetUID(); ok {
		s.UID = &u
	}
	if g, ok := in.GetGID(); ok {
		s.GID = &g
	}
	if n, ok := in.GetSize(); ok {
		s.Size = &n
	}
	if t, ok := in.GetATime(); ok {
		n := nanos(t)
		s.Atime = &n
	}
	if t, ok := in.GetMTime(); ok {
		n := nanos(t)
		s.Mtime = &n
	}
	// A request for nothing is chown(-1, -1), or a change of data that takes the bits away.
	s.Touch = s == fs.SetAttr{}
	s.KillPriv = s.Touch || in.Valid&setattrKillSuidgid != 0 || s.UID != nil || s.GID != nil
	if s.KillPriv {
		if err := r.mayKill(c, &in.InHeader, &s); err != nil {
			return r.fail(err)
		}
	}
	a, err := r.tree.SetAttr(request{c}, fs.Ino(in.NodeId), s)
	if err != nil {
		return r.fail(err)
	}
	out.AttrValid = cacheSeconds
	r.attr(&a, &out.Attr)
	return gofuse.OK
}

// nanos is the nearest time that can be kept.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s > math.MaxInt64/int64(time.Second)-1:
		return math.MaxInt64
	case s < math.MinInt64/int64(time.Second)+1:
		return math.MinInt64
	}
	return t.UnixNano()
}

// Statx tells the time of birth too.
func (r *raw) Statx(c <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	a, err := r.tree.GetAttr(request{c}, fs.Ino(in.NodeId))
	if err != nil {
		return r.fail(err)
	}
	var g gofuse.Attr
	r.attr(&a, &g)
	out.AttrValid = cacheSeconds
	x := &out.Statx
	x.Mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	x.Blksize, x.Nlink, x.Uid, x.Gid, x.Mode = g.Blksize, g.Nlink, g.Uid, g.Gid, uint16(g.Mode)
	x.Ino, x.Size, x.Blocks = g.Ino, g.Size, g.Blocks
	x.Atime.Sec, x.Atime.Nsec = g.Atime, g.Atimensec
	x.Mtime.Sec, x.Mtime.Nsec = g.Mtime, g.Mtimensec
	x.Ctime.Sec, x.Ctime.Nsec = g.Ctime, g.Ctimensec
	x.Btime.Sec, x.Btime.Nsec = split(a.Btime)
	// The kernel's encoding of device numbers in 32 bits.
	x.RdevMajor, x.RdevMinor = (g.Rdev>>8)&0xfff, g.Rdev&0xff|(g.Rdev>>12)&0xfff00
	return gofuse.OK
}

// owner is who makes an inode. With ACLs the umask is the tree's to apply; without, the
// kernel has done it.
func (r *raw) owner(h *gofuse.InHeader, umask uint32) fs.Owner {
	return fs.Owner{UID: h.Uid, GID: h.Gid, Inherit: r.acl, Umask: umask}
}

func (r *raw) made(a fs.Attr, err error, out *gofuse.EntryOut) gofuse.Status {
	if err != nil {
		return r.fail(err)
	}
	r.entry(&a, out)
	return gofuse.OK
}

func (r *raw) Mknod(c <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	a, err := r.tree.Mknod(request{c}, fs.Ino(in.NodeId), name, in.Mode, in.Rdev, r.owner(&in.InHeader, in.Umask))
	return r.made(a, err, out)
}

func (r *raw) Mkdir(c <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	a, err := r.tree.Mkdir(request{c}, fs.Ino(in.NodeId), name, in.Mode, r.owner(&in.InHeader, in.Umask))
	return r.made(a, err, out)
}

func (r *raw) Symlink(c <-chan struct{}, h *gofuse.InHeader, to, name string, out *gofuse.EntryOut) gofuse.Status {
	a, err := r.tree.Symlink(request{c}, fs.Ino(h.NodeId), name, to, r.owner(h, 0))
	return r.made(a, err, out)
}

func (r *raw) Link(c <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	a, err := r.tree.Link(request{c}, fs.Ino(in.Oldnodeid), fs.Ino(in.NodeId), name)
	return r.made(a, err, out)
}

func (r *raw) Unlink(c <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	return r.fail(r.tree.Unlink(request{c}, fs.Ino(h.NodeId), name))
}

func (r *raw) Rmdir(c <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	return r.fail(r.tree.Rmdir(request{c}, fs.Ino(h.NodeId), name))
}

func (r *raw) Rename(c <-chan struct{}, in *gofuse.RenameIn, name, newName string) gofuse.Status {
	return r.fail(r.tree.Rename(request{c}, fs.Ino(in.NodeId), name, fs.Ino(in.Newdir), newName, in.Flags))
}

func (r *raw) Readlink(c <-chan struct{}, h *gofuse.InHeader) ([]byte, gofuse.Status) {
	s, err := r.tree.Readlink(request{c}, fs.Ino(h.NodeId))
	return []byte(s), r.fail(err)
}

// Create and Open are answered once: the kernel then makes files by MKNOD and opens them
// by itself. Nothing is lost by that: permissions are the kernel's, what is unlinked and
// open lives until FORGET, and pages are kept as with FOPEN_KEEP_CACHE.
func (r *raw) Create(<-chan struct{}, *gofuse.CreateIn, string, *gofuse.CreateOut) gofuse.Status {
	return gofuse.ENOSYS
}

func (r *raw) Open(<-chan struct{}, *gofuse.OpenIn, *gofuse.OpenOut) gofuse.Status {
	return gofuse.ENOSYS
}

func (r *raw) Read(c <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	n, err := r.tree.Read(request{c}, fs.Ino(in.NodeId), in.Offset, buf[:min(len(buf), int(in.Size))])
	if err != nil {
		return nil, r.fail(err)
	}
	if in.Offset == 0 {
		r.noteRead(in.NodeId)
	}
	return gofuse.ReadResultData(buf[:n]), gofuse.OK
}

func (r *raw) Write(c <-chan struct{}, in *gofuse.WriteIn, p []byte) (uint32, gofuse.Status) {
	if in.WriteFlags&writeKillSuidgid != 0 {
		if err := r.killPriv(c, &in.InHeader); err != nil {
			return 0, r.fail(err)
		}
	}
	if in.WriteFlags&writeCache != 0 {
		r.holes.keep(in.NodeId, in.Offset, p)
	}
	n, err := r.tree.Write(request{c}, fs.Ino(in.NodeId), in.Offset, p)
	return uint32(n), r.fail(err)
}

// Writev serves a write whose bytes lie in several pieces; ours never do.
func (r *raw) Writev(c <-chan struct{}, in *gofuse.WriteIn, p [][]byte) (uint32, gofuse.Status) {
	if len(p) == 1 {
		return r.Write(c, in, p[0])
	}
	return 0, gofuse.ENOSYS // go-fuse joins them and calls Write
}

// Flush, at each close, waits only if the mount asks for it; else the kernel is told
// once that there is nothing to do.
func (r *raw) Flush(c <-chan struct{}, in *gofuse.FlushIn) gofuse.Status {
	if !r.sync {
		return gofuse.ENOSYS
	}
	return r.fsync(c, in.NodeId, false)
}

func (r *raw) fsync(c <-chan struct{}, node uint64, data bool) gofuse.Status {
	ctx, cancel := r.bounded(c)
	defer cancel()
	return r.fail(r.tree.Fsync(ctx, fs.Ino(node), data))
}

func (r *raw) Fsync(c <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	return r.fsync(c, in.NodeId, in.FsyncFlags&1 != 0)
}

func (r *raw) FsyncDir(c <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	return r.fsync(c, in.NodeId, in.FsyncFlags&1 != 0)
}

func (r *raw) StatFs(c <-chan struct{}, h *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	s, err := r.tree.StatFS(request{c})
	if err != nil {
		return r.fail(err)
	}
	b := uint64(s.BlockSize)
	out.Bsize, out.Frsize, out.NameLen = s.BlockSize, s.FragmentSize, s.NameMax
	out.Blocks, out.Bfree, out.Bavail = (s.Total+b-1)/b, s.Free/b, s.Free/b
	out.Files, out.Ffree = s.Files+s.FilesFree, s.FilesFree
	return gofuse.OK
}
