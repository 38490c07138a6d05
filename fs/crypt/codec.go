package crypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrFormat is returned for bytes that are not what the format says.
var ErrFormat = errors.New("malformed record")

// Encoder appends values in the format's own encoding: integers big-endian or as
// minimal uvarints, byte strings with a uvarint length before them.
type Encoder struct{ Buf []byte }

// U8 appends one byte.
func (e *Encoder) U8(v uint8) { e.Buf = append(e.Buf, v) }

// U16 appends two bytes.
func (e *Encoder) U16(v uint16) { e.Buf = binary.BigEndian.AppendUint16(e.Buf, v) }

// U32 appends four bytes.
func (e *Encoder) U32(v uint32) { e.Buf = binary.BigEndian.AppendUint32(e.Buf, v) }

// U64 appends eight bytes.
func (e *Encoder) U64(v uint64) { e.Buf = binary.BigEndian.AppendUint64(e.Buf, v) }

// I64 appends eight bytes, two's complement.
func (e *Encoder) I64(v int64) { e.U64(uint64(v)) }

// Uvarint appends an integer in one to ten bytes.
func (e *Encoder) Uvarint(v uint64) { e.Buf = binary.AppendUvarint(e.Buf, v) }

// Varint appends a signed integer in one to ten bytes: zigzag, then as Uvarint.
func (e *Encoder) Varint(v int64) { e.Buf = binary.AppendVarint(e.Buf, v) }

// Raw appends bytes as they are.
func (e *Encoder) Raw(b []byte) { e.Buf = append(e.Buf, b...) }

// Bytes appends a uvarint length and the bytes.
func (e *Encoder) Bytes(b []byte) {
	e.Uvarint(uint64(len(b)))
	e.Buf = append(e.Buf, b...)
}

// String appends a uvarint length and the bytes of s.
func (e *Encoder) String(s string) {
	e.Uvarint(uint64(len(s)))
	e.Buf = append(e.Buf, s...)
}

// Decoder reads what an Encoder wrote. The first error sticks; values read after it
// are zero. It accepts one encoding of each value only.
type Decoder struct {
	buf []byte
	err error
}

// NewDecoder reads from b, which it does not copy.
func NewDecoder(b []byte) *Decoder { return &Decoder{buf: b} }

func (d *Decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrFormat)
	}
	d.buf = nil
}

// Take returns the next n bytes; they share memory with the input.
func (d *Decoder) Take(n int) []byte {
	if n < 0 || n > len(d.buf) {
		d.fail("cut short")
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

// U8 reads one byte.
func (d *Decoder) U8() uint8 {
	if b := d.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes.
func (d *Decoder) U16() uint16 {
	if b := d.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (d *Decoder) U32() uint32 {
	if b := d.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (d *Decoder) U64() uint64 {
	if b := d.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// I64 reads eight bytes, two's complement.
func (d *Decoder) I64() int64 { return int64(d.U64()) }

// Uvarint reads an integer; a longer form than needed is an error.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.buf)
	if n <= 0 || (n > 1 && d.buf[n-1] == 0) {
		d.fail("bad uvarint")
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

// Uvarint32 reads an integer of at most 32 bits.
func (d *Decoder) Uvarint32() uint32 {
	v := d.Uvarint()
	if v > math.MaxUint32 {
		d.fail("more than 32 bits")
		return 0
	}
	return uint32(v)
}

// Varint reads a signed integer; a longer form than needed is an error.
func (d *Decoder) Varint() int64 {
	u := d.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Count reads a uvarint that counts things of at least size bytes each.
func (d *Decoder) Count(size int) int {
	v := d.Uvarint()
	if v > uint64(len(d.buf)/max(size, 1)) {
		d.fail("count too large")
		return 0
	}
	return int(v)
}

// Bytes reads a length and that many bytes; they share memory with the input.
func (d *Decoder) Bytes() []byte { return d.Take(d.Count(1)) }

// String reads a length and that many bytes.
func (d *Decoder) String() string { return string(d.Bytes()) }

// Expect reads len(want) bytes and fails unless they are want.
func (d *Decoder) Expect(want string) {
	if string(d.Take(len(want))) != want {
		d.fail("wrong magic")
	}
}

// Fail makes the decoder fail with a reason of the caller's.
func (d *Decoder) Fail(what string) { d.fail(what) }

// Rest returns what is left unread.
func (d *Decoder) Rest() []byte { return d.buf }

// Err is the first error so far.
func (d *Decoder) Err() error { return d.err }

// Close returns the first error, or ErrFormat if bytes are left.
func (d *Decoder) Close() error {
	if d.err == nil && len(d.buf) != 0 {
		d.fail(fmt.Sprintf("%d bytes left over", len(d.buf)))
	}
	return d.err
}
