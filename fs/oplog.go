package fs

import (
	"fmt"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// opKind says what a journal record does to the tree. The numbers are part of the
// journal's format.
type opKind byte

const (
	opLocate      opKind = 1 // where an inode that later records speak of is found
	opCreate      opKind = 2
	opUnlink      opKind = 3
	opLink        opKind = 4
	opRename      opKind = 5
	opSetAttr     opKind = 6
	opWrite       opKind = 7
	opFallocate   opKind = 8
	opCopy        opKind = 9
	opSetXattr    opKind = 10
	opRemoveXattr opKind = 11
	opStream      opKind = 12 // opWrite whose bytes lie in the stage
	opWhiteout    opKind = 13 // opRename that leaves a whiteout behind, whose inode is ino
)

// Bits of op.flags for opSetAttr: which fields count.
const (
	setMode = 1 << iota
	setUID
	setGID
	setSize
	setAtime
	setMtime
)

// createInherits in op.flags for opCreate: the directory's default ACL applies.
const createInherits = 1

// setKillSetgid in op.flags for opSetXattr of an access ACL.
const setKillSetgid = 1

// op is a change of the tree, as the journal keeps it. Applying the same ops to the same
// tree always gives the same tree: whatever was drawn or read from a clock stands in it.
type op struct {
	kind    opKind
	ino     Ino
	parent  Ino
	name    string
	parent2 Ino
	name2   string
	ino2    Ino
	mode    uint32
	uid     uint32
	gid     uint32
	rdev    uint32
	flags   uint32
	off     uint64
	off2    uint64
	size    uint64
	time    int64
	atime   int64
	mtime   int64
	label   crypt.Label
	data    []byte // bytes written, link target, value of an attribute; last in the record

	// Of opStream: where in the stage its bytes lie. They are no part of the record.
	stage  stageID
	key    crypt.Key
	at     uint32  // in the blob
	source *source // not in the record
}

// header encodes all but data.
func (o *op) header(buf []byte) []byte {
	e := crypt.Encoder{Buf: append(buf, byte(o.kind))}
	e.Uvarint(uint64(o.ino))
	e.I64(o.time)
	switch o.kind {
	case opWrite:
		e.Uvarint(o.off)
		return e.Buf
	case opStream:
		e.Uvarint(o.off)
		e.Uvarint(o.size)
		e.Raw(o.stage[:])
		e.Raw(o.key[:])
		e.U32(o.at)
		return e.Buf
	case opFallocate, opCopy:
		e.Uvarint(uint64(o.ino2))
		e.U32(o.flags)
		e.Uvarint(o.off)
		e.Uvarint(o.off2)
		e.Uvarint(o.size)
		return e.Buf
	case opSetAttr:
		e.U32(o.flags)
		e.U32(o.mode)
		e.U32(o.uid)
		e.U32(o.gid)
		e.Uvarint(o.size)
		e.I64(o.atime)
		e.I64(o.mtime)
		return e.Buf
	case opCreate, opWhiteout:
		e.U32(o.mode)
		e.U32(o.uid)
		e.U32(o.gid)
		e.U32(o.rdev)
		e.Raw(o.label[:])
	}
	e.Uvarint(uint64(o.parent))
	e.String(o.name)
	e.Uvarint(uint64(o.parent2))
	e.String(o.name2)
	e.U32(o.flags)
	return e.Buf
}

func decodeOp(b []byte) (*op, error) {
	d := crypt.NewDecoder(b)
	o := &op{kind: opKind(d.U8())}
	o.ino = Ino(d.Uvarint())
	o.time = d.I64()
	switch o.kind {
	case opWrite:
		o.off = d.Uvarint()
	case opStream:
		o.off = d.Uvarint()
		o.size = d.Uvarint()
		copy(o.stage[:], d.Take(len(o.stage)))
		copy(o.key[:], d.Take(len(o.key)))
		o.at = d.U32()
		if o.size == 0 || o.size > crypt.BlobMax || o.size%crypt.PackageSize != 0 || o.at%crypt.PackageSize != 0 ||
			uint64(o.at) > o.off || uint64(o.at)+o.size > uint64(streamLimit(o.off-uint64(o.at))) {
			d.Fail("bytes outside their blob")
		}
	case opFallocate, opCopy:
		o.ino2 = Ino(d.Uvarint())
		o.flags = d.U32()
		o.off = d.Uvarint()
		o.off2 = d.Uvarint()
		o.size = d.Uvarint()
	case opSetAttr:
		o.flags = d.U32()
		o.mode = d.U32()
		o.uid = d.U32()
		o.gid = d.U32()
		o.size = d.Uvarint()
		o.atime = d.I64()
		o.mtime = d.I64()
	case opCreate, opLocate, opUnlink, opLink, opRename, opWhiteout, opSetXattr, opRemoveXattr:
		if o.kind == opCreate || o.kind == opWhiteout {
			o.mode = d.U32()
			o.uid = d.U32()
			o.gid = d.U32()
			o.rdev = d.U32()
			copy(o.label[:], d.Take(crypt.LabelSize))
		}
		o.parent = Ino(d.Uvarint())
		o.name = d.String()
		o.parent2 = Ino(d.Uvarint())
		o.name2 = d.String()
		o.flags = d.U32()
	default:
		d.Fail("unknown change")
	}
	o.data = d.Rest()
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("journal record: %w", err)
	}
	return o, nil
}
