package crypt

// Pointer is all that is needed to read a sealed blob or page, and the proof that it is
// the right one: whoever holds the pointer holds the key.
type Pointer struct {
	CID    CID    // of the sealed bytes, always Raw
	Key    Key    // used for this one object only
	Length uint32 // bytes of plaintext, without padding
	Birth  uint64 // sequence of the commit that wrote it
}

// PointerSize is the encoded length of a Pointer.
const PointerSize = 32 + 32 + 4 + 8

// IsZero reports whether p points nowhere.
func (p *Pointer) IsZero() bool { return p.CID.IsZero() }

// Encode appends digest, key, length and birth.
func (p *Pointer) Encode(e *Encoder) {
	e.Raw(p.CID.Digest[:])
	e.Raw(p.Key[:])
	e.U32(p.Length)
	e.U64(p.Birth)
}

// DecodePointer reads a Pointer.
func DecodePointer(d *Decoder) Pointer {
	var p Pointer
	p.CID.Codec = Raw
	copy(p.CID.Digest[:], d.Take(32))
	copy(p.Key[:], d.Take(32))
	p.Length = d.U32()
	p.Birth = d.U64()
	return p
}

// PagePointer points to a page and to its node in the shadow tree.
type PagePointer struct {
	Pointer
	Node CID    // DagPB: the node that links the page and all below it
	Size uint64 // bytes of all blocks under Node, what dag-pb calls Tsize
}

// Encode appends the pointer, the node's digest and the size.
func (p *PagePointer) Encode(e *Encoder) {
	p.Pointer.Encode(e)
	e.Raw(p.Node.Digest[:])
	e.Uvarint(p.Size)
}

// DecodePagePointer reads a PagePointer.
func DecodePagePointer(d *Decoder) PagePointer {
	var p PagePointer
	p.Pointer = DecodePointer(d)
	p.Node.Codec = DagPB
	copy(p.Node.Digest[:], d.Take(32))
	p.Size = d.Uvarint()
	return p
}
