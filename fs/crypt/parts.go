package crypt

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// packages is how many packages a blob has.
func (p *Pointer) packages() int { return (Padme(int(p.Length)) + PackageSize - 1) / PackageSize }

// LastPackage is the number of the final package of a blob.
func (p *Pointer) LastPackage() uint32 { return uint32(p.packages() - 1) }

// Package tells where package n of a blob lies in its sealed bytes, and how long it is there.
func (p *Pointer) Package(n uint32) (off int64, size int) {
	return int64(n) * SealedPackage, packageHeader + p.packageSize(n) + packageTag
}

// packageSize is the plaintext of package n, with its padding.
func (p *Pointer) packageSize(n uint32) int {
	return min(PackageSize, Padme(int(p.Length))-int(n)*PackageSize)
}

// Parts opens single packages of a blob. The CID of the blob is not checked: who has not the
// blob's key cannot make anything open but what its writer sealed at that place, because
//
//   - the key of a blob seals nothing else;
//   - each package's number goes into its seal, together with a nonce that lies before it
//     and that all packages have in common. A store that exchanges packages must change that
//     nonce; the final package, which is marked as such within its seal, opens at its place
//     with the right one only. So Parts begin with that package, and the others must have
//     its nonce.
type Parts struct {
	ptr   Pointer
	nonce [packageHeader - 4]byte // without the mark of the final package
}

// NewParts verifies the final package of a blob, sealed. It writes over it.
func NewParts(p Pointer, final []byte) (*Parts, error) {
	if p.Length == 0 || p.Length > BlobMax {
		return nil, fmt.Errorf("a blob of %d bytes: %w", p.Length, ErrIntegrity)
	}
	if len(final) < packageHeader {
		return nil, fmt.Errorf("final package of blob %s: %w", p.CID, ErrIntegrity)
	}
	s := &Parts{ptr: p, nonce: [12]byte(final[4:packageHeader])}
	s.nonce[0] &^= dareFinal
	if _, err := s.Open(p.LastPackage(), final); err != nil {
		return nil, err
	}
	return s, nil
}

// Open returns the plaintext of package n, which ends where the blob does, or ErrIntegrity.
// The plaintext lies where the sealed package was.
func (s *Parts) Open(n uint32, sealed []byte) ([]byte, error) {
	last := s.ptr.LastPackage()
	if n > last {
		return nil, fmt.Errorf("package %d of the %d of blob %s: %w", n, last+1, s.ptr.CID, ErrIntegrity)
	}
	size, nonce := s.ptr.packageSize(n), s.nonce
	if n == last {
		nonce[0] |= dareFinal
	}
	if len(sealed) != packageHeader+size+packageTag || sealed[0] != dareVersion || sealed[1] != dareAES256 ||
		int(binary.LittleEndian.Uint16(sealed[2:])) != size-1 || !bytes.Equal(sealed[4:packageHeader], nonce[:]) {
		return nil, fmt.Errorf("header of package %d of blob %s: %w", n, s.ptr.CID, ErrIntegrity)
	}
	body := sealed[packageHeader:]
	plain, err := s.ptr.Key.AEAD().Open(body[:0], packageNonce(sealed, n), body, sealed[:4])
	if err != nil {
		return nil, fmt.Errorf("package %d of blob %s: %w", n, s.ptr.CID, ErrIntegrity)
	}
	return plain[:min(size, int(s.ptr.Length)-int(n)*PackageSize)], nil
}
