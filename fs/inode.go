package fs

import (
	"maps"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// inode is a loaded inode. All fields are guarded by Tree.mu.
type inode struct {
	attr   Attr // Size of a directory is the number of its names; Blocks is not kept
	label  crypt.Label
	xattrs map[string][]byte // never changed, only replaced
	target string

	parent *inode // nil for the root, for inodes with several names, and without any
	name   string
	linked bool // lives in the inode table, from link(2) on
	orphan bool // no name is left

	refs    uint64 // of the kernel
	kids    int    // loaded inodes whose parent this is
	holders int    // overlays that hold it
	marked  uint64 // epoch in which it was put in the overlay of its parent
	located uint64 // epoch in which the journal says how to find it
	since   uint64 // a commit that has its newest version, if holders is 0; not always the first

	// Directories: the committed names and two layers of changes over them.
	base   crypt.PagePointer
	over   map[string]*inode // changed since the freeze; nil for a name that is gone
	frozen map[string]*inode // what the running commit writes
	lists  listings

	// Files.
	ext       extents
	extShared bool              // a commit reads ext: copy it before a change
	tree      crypt.PagePointer // extents not loaded yet, if unloaded
	unloaded  bool
	stream    *stream // open on this file, or nil
	lastEnd   uint64  // where the last write ended

	// What the newest commit has of this inode; what it no longer uses is dead.
	committed committedBody
}

// committedBody is what an inode's content takes in the store.
type committedBody struct {
	dir  bool // tree holds names, not extents
	ext  extents
	tree crypt.PagePointer
	salt crypt.Label
	node CID // node of few extents over several blobs
}

func (in *inode) isDir() bool     { return in.attr.Mode&ModeType == ModeDir }
func (in *inode) isRegular() bool { return in.attr.Mode&ModeType == ModeRegular }

// stat is the inode's attributes with the space it takes.
func (in *inode) stat() Attr {
	a := in.attr
	switch {
	case in.isRegular() && !in.unloaded:
		a.Blocks = (in.ext.allocated() + 511) / 512
	case in.isDir():
		a.Size = max(4096, a.Size*32)
		a.Blocks = a.Size / 512
	}
	return a
}

// own makes the extents safe to change.
func (in *inode) own() {
	if in.extShared {
		in.ext = slices.Clone(in.ext)
		in.extShared = false
	}
}

// setXattr replaces the attributes by a copy with one changed.
func (in *inode) setXattr(name string, value []byte) {
	m := maps.Clone(in.xattrs)
	if m == nil {
		m = map[string][]byte{}
	}
	if value == nil {
		delete(m, name)
	} else {
		m[name] = value
	}
	in.xattrs = m
}

// inodeOf makes an inode out of a record.
func inodeOf(r *record) *inode {
	in := &inode{attr: r.attr, label: r.label, xattrs: r.xattrs, target: r.target}
	switch r.body {
	case bodyDir:
		in.base = r.root
	case bodyInline:
		if len(r.inline) > 0 {
			in.ext = extents{{len: uint32(len(r.inline)), src: &source{data: r.inline, frozen: true}}}
		}
	case bodyExtents:
		in.ext = r.extents
		in.committed = committedBody{ext: slices.Clone(r.extents), salt: r.salt}
		if len(r.extents.blobs()) > 1 {
			in.committed.node = r.fileNode().CID
		}
	case bodyTree:
		in.tree, in.unloaded = r.root, true
		in.committed.tree = r.root
		in.attr.Blocks = (r.alloc + 511) / 512
	}
	return in
}
