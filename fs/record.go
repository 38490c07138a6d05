package fs

import (
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// bodyKind says what follows the attributes in an inode's record.
type bodyKind byte

const (
	bodyNone    bodyKind = 0 // empty files and directories, devices, fifos, sockets
	bodyInline  bodyKind = 1 // the bytes of a small file
	bodyExtents bodyKind = 2 // at most maxInlineExtents extents
	bodyTree    bodyKind = 3 // B-tree of extents
	bodySymlink bodyKind = 4 // link target
	bodyDir     bodyKind = 5 // B-tree of names
	bodyLinked  bodyKind = 6 // only the number and type: the record is in the inode table
)

// fits reports whether an inode of this mode may have such a body.
func (k bodyKind) fits(mode uint32) bool {
	switch k {
	case bodyInline, bodyExtents, bodyTree:
		return mode&ModeType == ModeRegular
	case bodyDir:
		return mode&ModeType == ModeDir
	case bodySymlink:
		return mode&ModeType == ModeSymlink
	}
	return true
}

const (
	// maxInlineExtents extents stand in the record; more go to pages of their own.
	maxInlineExtents = 4
	// inlineMax is the largest file, in bytes, that lives in its directory's page.
	inlineMax = 2 << 10
)

// record is an inode as a commit stores it.
type record struct {
	attr    Attr        // without Blocks
	label   crypt.Label // zeros if it is not needed yet
	xattrs  map[string][]byte
	body    bodyKind
	inline  []byte
	target  string
	extents extents
	salt    crypt.Label // of the file node of several blobs
	root    crypt.PagePointer
	alloc   uint64 // bytes that are no holes, for bodyTree
}

const (
	recordVersion = 2
	// recordWide is the version before: the mode and the times have all their bytes.
	recordWide = 1
)

func (r *record) encode() []byte {
	e := crypt.Encoder{Buf: make([]byte, 0, 128+len(r.inline)+len(r.target)+len(r.extents)*extentSize)}
	e.U8(recordVersion)
	e.U8(byte(r.body))
	a := &r.attr
	e.U64(uint64(a.Ino))
	e.Uvarint(uint64(a.Mode))
	if r.body == bodyLinked {
		return e.Buf
	}
	e.Uvarint(uint64(a.Nlink))
	e.Uvarint(uint64(a.UID))
	e.Uvarint(uint64(a.GID))
	e.Uvarint(uint64(a.Rdev))
	e.Uvarint(a.Size)
	e.I64(a.Btime) // what the others are near to; differences wrap around
	e.Varint(a.Ctime - a.Btime)
	e.Varint(a.Mtime - a.Ctime)
	e.Varint(a.Atime - a.Btime)
	if r.linked() {
		e.Raw(r.label[:])
	}
	e.Uvarint(uint64(len(r.xattrs)))
	for _, name := range sortedKeys(r.xattrs) {
		e.String(name)
		e.Bytes(r.xattrs[name])
	}
	switch r.body {
	case bodyInline:
		e.Bytes(r.inline)
	case bodySymlink:
		e.String(r.target)
	case bodyExtents:
		e.Raw(r.salt[:])
		e.Uvarint(uint64(len(r.extents)))
		for i := range r.extents {
			encodeExtent(&e, &r.extents[i])
		}
	case bodyTree:
		e.Uvarint(r.alloc)
		r.root.Encode(&e)
	case bodyDir:
		r.root.Encode(&e)
	}
	return e.Buf
}

// recordType reads an inode's number and type, which every record begins with.
func recordType(b []byte) (Ino, uint32, error) {
	d := crypt.NewDecoder(b)
	var r record
	r.decodeType(d)
	if err := d.Err(); err != nil {
		return 0, 0, fmt.Errorf("inode record: %w", err)
	}
	return r.attr.Ino, r.attr.Mode & ModeType, nil
}

// decodeType reads what every record begins with, and returns the record's version.
func (r *record) decodeType(d *crypt.Decoder) (version uint8) {
	version = d.U8()
	r.body = bodyKind(d.U8())
	r.attr.Ino = Ino(d.U64())
	switch version {
	case recordVersion:
		r.attr.Mode = d.Uvarint32()
	case recordWide:
		r.attr.Mode = d.U32()
	default:
		d.Fail(fmt.Sprintf("record of version %d, which this program does not know", version))
	}
	return version
}

func decodeRecord(b []byte) (*record, error) {
	r := &record{}
	if err := r.decode(b); err != nil {
		return nil, err
	}
	return r, nil
}

// decode fills in an empty record.
func (r *record) decode(b []byte) error {
	d := crypt.NewDecoder(b)
	version := r.decodeType(d)
	a := &r.attr
	if r.body == bodyLinked {
		if err := d.Close(); err != nil {
			return fmt.Errorf("inode record: %w", err)
		}
		return nil
	}
	a.Nlink = d.Uvarint32()
	a.UID = d.Uvarint32()
	a.GID = d.Uvarint32()
	a.Rdev = d.Uvarint32()
	a.Size = d.Uvarint()
	if version == recordWide {
		a.Atime, a.Mtime, a.Ctime, a.Btime = d.I64(), d.I64(), d.I64(), d.I64()
	} else {
		a.Btime = d.I64()
		a.Ctime = a.Btime + d.Varint()
		a.Mtime = a.Ctime + d.Varint()
		a.Atime = a.Btime + d.Varint()
	}
	if r.linked() || version == recordWide {
		copy(r.label[:], d.Take(crypt.LabelSize))
	}
	n := d.Count(2)
	last := ""
	for k := 0; k < n && d.Err() == nil; k++ {
		name := d.String()
		if name <= last {
			d.Fail("attributes out of order")
		}
		last = name
		if r.xattrs == nil {
			r.xattrs = make(map[string][]byte, n)
		}
		r.xattrs[name] = d.Bytes()
	}
	switch r.body {
	case bodyNone:
	case bodyInline:
		r.inline = d.Bytes()
	case bodySymlink:
		r.target = d.String()
	case bodyExtents:
		copy(r.salt[:], d.Take(crypt.LabelSize))
		n := d.Count(extentSize)
		in := extentReader{}
		for range n {
			x := in.read(d)
			if k := len(r.extents); k > 0 && x.off < r.extents[k-1].end() {
				d.Fail("extents overlap")
			}
			r.extents = append(r.extents, x)
		}
	case bodyTree:
		r.alloc = d.Uvarint()
		r.root = crypt.DecodePagePointer(d)
	case bodyDir:
		r.root = crypt.DecodePagePointer(d)
	default:
		d.Fail("unknown kind of inode body")
	}
	if !r.body.fits(a.Mode) {
		d.Fail("a body of another type of inode")
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("inode record: %w", err)
	}
	return nil
}

// linked reports whether the shadow tree links anything for the inode, by its label.
func (r *record) linked() bool {
	switch r.body {
	case bodyExtents, bodyTree, bodyDir:
		return true
	}
	return r.attr.Mode&ModeType == ModeDir
}

// shadowLink is what the shadow tree links for an inode: nothing, a blob, the node of
// several, or the node of a directory.
func (r *record) shadowLink() ([]Link, error) {
	name := r.label.String()
	switch r.body {
	case bodyExtents:
		b := r.extents.blobs()
		if len(b) == 1 {
			return []Link{{name, b[0].ptr.CID, storedSize(&b[0].ptr)}}, nil
		}
		node := r.fileNode()
		size := uint64(len(node.Data))
		for _, s := range b {
			size += storedSize(&s.ptr)
		}
		return []Link{{name, node.CID, size}}, nil
	case bodyTree:
		return []Link{{name, r.root.Node, r.root.Size}}, nil
	case bodyDir:
		return []Link{{name, r.root.Node, r.root.Size}}, nil
	}
	if r.attr.Mode&ModeType == ModeDir {
		return []Link{{name, emptyDir.CID, uint64(len(emptyDir.Data))}}, nil
	}
	return nil, nil
}

// fileNode is the node of a file whose few extents use several blobs.
func (r *record) fileNode() Block {
	var parts []Link
	var sizes []uint64
	for _, s := range r.extents.blobs() {
		n := storedSize(&s.ptr)
		parts = append(parts, Link{CID: s.ptr.CID, Size: n})
		sizes = append(sizes, n)
	}
	return encodeFile(r.salt.String(), parts, sizes)
}

// linkRecord is the linker of pages that hold inode records.
func linkRecord(value []byte) ([]Link, error) {
	r, err := decodeRecord(value)
	if err != nil {
		return nil, err
	}
	return r.shadowLink()
}

// linkExtent is the linker of pages of extents.
func linkExtent(value []byte) ([]Link, error) {
	d := crypt.NewDecoder(value)
	_, ptr := decodeExtent(d)
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("extent: %w", err)
	}
	return []Link{{CID: ptr.CID, Size: storedSize(&ptr)}}, nil
}

// storedSize is the number of bytes that a blob takes in the store.
func storedSize(p *crypt.Pointer) uint64 { return crypt.SealedBlobSize(int(p.Length)) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
