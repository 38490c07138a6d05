package crypt

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/minio/sio"
)

const (
	// BlobMax is the most plaintext a blob holds.
	BlobMax = 1 << 20
	// PageStep is what sealed pages are padded to a multiple of.
	PageStep = 4 << 10
	// PageMax bounds the plaintext of a page that is read.
	PageMax = 1 << 20

	pageTag = 16
)

// ErrIntegrity is returned for sealed bytes that do not verify.
var ErrIntegrity = errors.New("does not verify")

// Padme returns the padded size of n bytes: at most 12 percent more, and so few
// different sizes that a size tells O(log log n) bits (PETS 2019, "PURBs").
func Padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<(max(e-s, 0)) - 1
	return (n + mask) &^ mask
}

func blobConfig(k *Key) sio.Config {
	return sio.Config{
		MinVersion:   sio.Version20,
		MaxVersion:   sio.Version20,
		CipherSuites: []byte{sio.AES_256_GCM},
		Key:          k[:],
	}
}

// SealBlob seals 1 to BlobMax bytes as one DARE 2.0 stream under a fresh key, padded
// with zeros to Padme's size. It returns the pointer and the bytes to store.
func SealBlob(plain []byte, birth uint64) (Pointer, []byte, error) {
	if len(plain) == 0 || len(plain) > BlobMax {
		return Pointer{}, nil, fmt.Errorf("a blob of %d bytes: %w", len(plain), ErrFormat)
	}
	padded := Padme(len(plain))
	size, err := sio.EncryptedSize(uint64(padded))
	if err != nil {
		return Pointer{}, nil, fmt.Errorf("size of a sealed blob: %w", err)
	}
	// sio.Encrypt makes the same stream, and twice as much garbage as the stream is long.
	s := NewPackageSealer()
	out := make([]byte, 0, size)
	whole := min((padded-1)/PackageSize, len(plain)/PackageSize) // packages that need no padding; not the last
	for n := range whole {
		out = s.Seal(out, uint32(n), plain[n*PackageSize:(n+1)*PackageSize], false)
	}
	rest := plain[whole*PackageSize:]
	if fill := padded - len(plain); fill > 0 {
		rest = append(append(make([]byte, 0, len(rest)+fill), rest...), make([]byte, fill)...)
	}
	for n := whole; len(rest) > 0; n++ {
		part := rest[:min(len(rest), PackageSize)]
		rest = rest[len(part):]
		out = s.Seal(out, uint32(n), part, len(rest) == 0)
	}
	return Pointer{CID: Sum(Raw, out), Key: s.Key(), Length: uint32(len(plain)), Birth: birth}, out, nil
}

// OpenBlob returns the plaintext of a blob, whole, or ErrIntegrity.
func OpenBlob(p Pointer, sealed []byte) ([]byte, error) {
	padded := Padme(int(p.Length))
	want, err := sio.EncryptedSize(uint64(padded))
	if err != nil || p.Length == 0 || p.Length > BlobMax || uint64(len(sealed)) != want {
		return nil, fmt.Errorf("blob %s has %d bytes, its pointer says %d: %w", p.CID, len(sealed), want, ErrIntegrity)
	}
	plain, err := sio.DecryptBuffer(make([]byte, 0, padded), sealed, blobConfig(&p.Key))
	if err != nil || len(plain) != padded {
		return nil, fmt.Errorf("blob %s: %w", p.CID, ErrIntegrity)
	}
	return plain[:p.Length:p.Length], nil
}

// PageKind is what a page is for; it is bound to the page's seal.
type PageKind byte

// The kinds of pages.
const (
	PageVault     PageKind = 1 // the top of a vault
	PageDirectory PageKind = 2 // names of a directory
	PageExtents   PageKind = 3 // extents of a file
	PageInodes    PageKind = 4 // inodes with several names
	PageRefs      PageKind = 5 // blobs that several files share
	PageDead      PageKind = 6 // what commits made unreachable
)

func (k PageKind) aad() []byte { return append([]byte("ipfscloud/v1/page\x00"), byte(k)) }

// SealPage seals a page under a fresh key with AES-256-GCM, its kind as associated data,
// padded with zeros so that the sealed bytes are a multiple of PageStep.
func SealPage(kind PageKind, plain []byte, birth uint64) (Pointer, []byte) {
	p := Pointer{Key: NewKey(), Length: uint32(len(plain)), Birth: birth}
	size := SealedPageSize(len(plain))
	buf := make([]byte, size-pageTag, size)
	copy(buf, plain)
	sealed := p.Key.AEAD().Seal(buf[:0], zeroNonce[:], buf, kind.aad())
	p.CID = Sum(Raw, sealed)
	return p, sealed
}

// SealedPageSize is the number of bytes that a page of n bytes takes when stored.
func SealedPageSize(n int) int { return (n + pageTag + PageStep - 1) / PageStep * PageStep }

// OpenPage returns the plaintext of a page or ErrIntegrity.
func OpenPage(kind PageKind, p Pointer, sealed []byte) ([]byte, error) {
	if p.Length > PageMax || len(sealed) != SealedPageSize(int(p.Length)) {
		return nil, fmt.Errorf("page %s has %d bytes: %w", p.CID, len(sealed), ErrIntegrity)
	}
	plain, err := p.Key.AEAD().Open(nil, zeroNonce[:], sealed, kind.aad())
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", p.CID, ErrIntegrity)
	}
	return plain[:p.Length:p.Length], nil
}

// SealedBlobSize is the number of bytes that a blob of n bytes takes when stored.
func SealedBlobSize(n int) uint64 {
	size, err := sio.EncryptedSize(uint64(Padme(n)))
	if err != nil {
		return 0 // only beyond 2^48 bytes
	}
	return size
}
