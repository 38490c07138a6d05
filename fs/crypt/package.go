package crypt

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

const (
	// PackageSize is the plaintext of each package of a blob but the last.
	PackageSize = 64 << 10

	packageHeader = 16
	packageTag    = 16
	// SealedPackage is what a whole package takes when sealed.
	SealedPackage = packageHeader + PackageSize + packageTag

	dareVersion = 0x20
	dareAES256  = 0x00
	dareFinal   = 0x80
)

// PackageSealer seals a blob one package after the other, while its bytes arrive. The
// result is the same DARE 2.0 stream that SealBlob makes (minio/sio, DARE.md).
type PackageSealer struct {
	key   Key
	nonce [12]byte
	aead  cipher.AEAD
}

// NewPackageSealer draws a key and a nonce.
func NewPackageSealer() *PackageSealer {
	s := &PackageSealer{key: NewKey()}
	rand.Read(s.nonce[:])
	s.nonce[0] &^= dareFinal
	s.aead = s.key.AEAD()
	return s
}

// Key opens the blob.
func (s *PackageSealer) Key() Key { return s.key }

// Seal appends package number n, counted from 0, to dst. All have PackageSize bytes but
// the final one, which has 1 to PackageSize.
//
// A package is sealed once: another plaintext under the same number would break the seal.
func (s *PackageSealer) Seal(dst []byte, n uint32, plain []byte, final bool) []byte {
	at := len(dst)
	dst = append(dst, dareVersion, dareAES256, 0, 0)
	binary.LittleEndian.PutUint16(dst[at+2:], uint16(len(plain)-1))
	dst = append(dst, s.nonce[:]...)
	if final {
		dst[at+4] |= dareFinal
	}
	return s.aead.Seal(dst, packageNonce(dst[at:], n), plain, dst[at:at+4])
}

// packageNonce is the header's nonce with the number of the package in its last bytes.
func packageNonce(header []byte, n uint32) []byte {
	var b [12]byte
	copy(b[:], header[4:packageHeader])
	binary.LittleEndian.PutUint32(b[8:], binary.LittleEndian.Uint32(b[8:])^n)
	return b[:]
}

// OpenPackages appends to dst what lies in whole sealed packages, the first of which has
// the number n, or returns ErrIntegrity. It tells nothing about packages before or behind,
// nor whether packages of the blob were exchanged with each other: Parts does.
func OpenPackages(dst []byte, key Key, n uint32, sealed []byte) ([]byte, error) {
	aead := key.AEAD()
	for ; len(sealed) > 0; n++ {
		if len(sealed) < SealedPackage {
			return nil, fmt.Errorf("package %d of a blob is cut short: %w", n, ErrIntegrity)
		}
		p := sealed[:SealedPackage]
		sealed = sealed[SealedPackage:]
		if p[0] != dareVersion || p[1] != dareAES256 || binary.LittleEndian.Uint16(p[2:]) != PackageSize-1 {
			return nil, fmt.Errorf("header of package %d of a blob: %w", n, ErrIntegrity)
		}
		var err error
		if dst, err = aead.Open(dst, packageNonce(p, n), p[packageHeader:], p[:4]); err != nil {
			return nil, fmt.Errorf("package %d of a blob: %w", n, ErrIntegrity)
		}
	}
	return dst, nil
}
