package crypt

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
)

// Codec says how the bytes of a block are read: the multicodec of its CID.
type Codec byte

const (
	// Raw is a block of sealed bytes: a leaf of every graph we make.
	Raw Codec = 0x55
	// DagPB is a UnixFS node: it holds links and no secrets.
	DagPB Codec = 0x70
)

// CID names a block: version 1, a codec, and the SHA-256 of the block's bytes.
// The zero CID names nothing.
type CID struct {
	Codec  Codec
	Digest [32]byte
}

// ErrCID is returned for text or bytes that are no CID of the kind we make.
var ErrCID = errors.New("not a CIDv1 of raw or dag-pb with sha2-256")

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// CIDSize is the length in bytes of a binary CID.
const CIDSize = 36

// Sum names the block that holds data.
func Sum(codec Codec, data []byte) CID {
	return CID{codec, sha256.Sum256(data)}
}

// IsZero reports whether c names nothing.
func (c CID) IsZero() bool { return c == CID{} }

// Bytes is the binary CID: 01, codec, 12 20, digest.
func (c CID) Bytes() []byte { return c.Append(make([]byte, 0, CIDSize)) }

// Append adds the binary CID to b.
func (c CID) Append(b []byte) []byte {
	b = append(b, 1, byte(c.Codec), 0x12, 0x20)
	return append(b, c.Digest[:]...)
}

// String is the CID in multibase base32, "bafy…" or "bafk…".
func (c CID) String() string {
	if c.IsZero() {
		return "-"
	}
	return "b" + base32Lower.EncodeToString(c.Bytes())
}

// Verify reports whether data is the block that c names.
func (c CID) Verify(data []byte) bool { return sha256.Sum256(data) == c.Digest }

// CIDFromBytes reads a binary CID.
func CIDFromBytes(b []byte) (CID, error) {
	if len(b) != CIDSize || b[0] != 1 || b[2] != 0x12 || b[3] != 0x20 ||
		(Codec(b[1]) != Raw && Codec(b[1]) != DagPB) {
		return CID{}, fmt.Errorf("%d bytes: %w", len(b), ErrCID)
	}
	c := CID{Codec: Codec(b[1])}
	copy(c.Digest[:], b[4:])
	return c, nil
}

// ParseCID reads the text form that String writes.
func ParseCID(s string) (CID, error) {
	if len(s) < 2 || s[0] != 'b' {
		return CID{}, fmt.Errorf("%q: %w", s, ErrCID)
	}
	b, err := base32Lower.DecodeString(s[1:])
	if err != nil {
		return CID{}, fmt.Errorf("%q: %w", s, ErrCID)
	}
	return CIDFromBytes(b)
}
