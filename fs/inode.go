package fs

import (
	"bytes"
	"maps"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// inode is a loaded inode. All fields are guarded by Tree.mu. There may be hundreds of
// thousands: what only some kinds of inodes need stands apart.
type inode struct {
	attr   Attr // Size of a directory is the number of its names; Blocks is not kept
	label  crypt.Label
	xattrs map[string][]byte // never changed, only replaced
	target string

	parent *inode // nil for the root, for inodes with several names, and without any
	name   string

	refs    uint64 // of the kernel
	marked  uint64 // epoch in which it was put in the overlay of its parent
	located uint64 // epoch in which the journal says how to find it
	since   uint64 // a commit that has its newest version, if holders is 0; not always the first
	kids    int32  // loaded inodes whose parent this is
	holders int32  // overlays that hold it
	weight  int32  // bytes of memory that it counts for
	linked  bool   // lives in the inode table, from link(2) on
	orphan  bool   // no name is left

	newer, older *inode // in the order of loading; nil if not loaded

	*dirState  // of directories, else nil
	*fileState // of regular files, else nil

	// What the newest commit has of this inode; what it no longer uses is dead. It is never
	// changed, only replaced.
	committed *committedBody
}

// dirState is the committed names of a directory and two layers of changes over them.
type dirState struct {
	base   crypt.PagePointer
	over   map[string]*inode // changed since the freeze; nil for a name that is gone
	frozen map[string]*inode // what the running commit writes
	lists  listings
}

// fileState is the content of a regular file.
type fileState struct {
	ext       extentMap
	unloaded  bool               // ext is not there yet: it is made of tree, or of small
	extShared bool               // somebody else reads ext.list: copy it before a change
	tree      *crypt.PagePointer // pages of extents
	small     []byte             // all bytes of a file that lives in its record
	stream    *stream            // open on this file, or nil
	lastEnd   uint64             // where the last write ended
	readEnd   uint64             // as far as it was read in order
}

// pack keeps the bytes of a small file as they are, instead of extents over sources.
func (in *inode) pack() {
	if len(in.ext.list) != 1 || in.stream != nil {
		return
	}
	e := &in.ext.list[0]
	if e.src.stored() || e.off != 0 || uint64(e.len) != in.attr.Size || e.len > inlineMax {
		return
	}
	in.attr.Blocks = in.stat().Blocks
	in.small, in.unloaded = bytes.Clone(e.src.data[e.at:e.at+e.len]), true
	in.ext, in.extShared = extentMap{}, false
}

// unpack makes extents again.
func (in *inode) unpack() {
	in.ext.list = extents{{len: uint32(len(in.small)), src: &source{data: in.small, frozen: true}}}
	in.small, in.unloaded = nil, false
}

// committedBody is what an inode's content takes in the store; nil is nothing.
type committedBody struct {
	dir  bool // tree holds names, not extents
	ext  extents
	tree *crypt.PagePointer // nil if there are no pages
	salt crypt.Label
	node CID // node of few extents over several blobs
}

// root is the pointer to the pages, or zero.
func (b *committedBody) root() crypt.PagePointer {
	if b == nil || b.tree == nil {
		return crypt.PagePointer{}
	}
	return *b.tree
}

// value is the body, which is not there for nil.
func (b *committedBody) value() committedBody {
	if b == nil {
		return committedBody{}
	}
	return *b
}

func (b *committedBody) isZero() bool { return b == nil || len(b.ext) == 0 && b.tree == nil }

// newInode makes an inode of a type of st_mode's.
func newInode(a Attr) *inode {
	in := &inode{attr: a}
	switch a.Mode & ModeType {
	case ModeDir:
		in.dirState = &dirState{}
	case ModeRegular:
		in.fileState = &fileState{}
	}
	return in
}

func (in *inode) isDir() bool     { return in.attr.Mode&ModeType == ModeDir }
func (in *inode) isRegular() bool { return in.attr.Mode&ModeType == ModeRegular }

// stat is the inode's attributes with the space it takes.
func (in *inode) stat() Attr {
	a := in.attr
	switch {
	case in.isRegular() && !in.unloaded:
		a.Blocks = in.ext.allocated() / 512
		fallthrough
	case in.isRegular():
		// Bytes that a program has written through a mapping are unknown here until the kernel
		// writes them back, and tar -S archives a file without blocks as zeros, unread.
		if a.Size > 0 {
			a.Blocks = max(a.Blocks, SpaceUnit/512)
		}
	case in.isDir():
		a.Size = max(4096, a.Size*32)
		a.Blocks = a.Size / 512
	}
	return a
}

// own makes the extents safe to change.
func (in *inode) own() {
	if in.extShared {
		in.ext.unshare()
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

// inodeOf makes an inode out of a record, whose page it does not keep in memory.
func inodeOf(r *record) *inode {
	in := newInode(r.attr)
	in.label, in.target = r.label, r.target
	if r.xattrs != nil {
		in.xattrs = make(map[string][]byte, len(r.xattrs))
		for name, v := range r.xattrs {
			in.xattrs[name] = append([]byte{}, v...) // never nil
		}
	}
	switch r.body {
	case bodyDir:
		in.base = r.root
	case bodyInline:
		if len(r.inline) > 0 {
			in.small, in.unloaded = bytes.Clone(r.inline), true
			in.attr.Blocks = unitUp(uint64(len(r.inline))) / 512
		}
	case bodyExtents:
		in.ext.list, in.extShared = r.extents, true
		in.committed = &committedBody{ext: r.extents, salt: r.salt}
		if len(r.extents.blobs()) > 1 {
			in.committed.node = r.fileNode().CID
		}
	case bodyTree:
		root := r.root // without the rest of the record
		in.tree, in.unloaded = &root, true
		in.committed = &committedBody{tree: &root}
		in.attr.Blocks = (r.alloc + 511) / 512
	}
	return in
}
