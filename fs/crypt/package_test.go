package crypt

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/minio/sio"
)

// A blob sealed by packages is a DARE 2.0 stream like any other: sio opens it.
func TestPackagesAreDARE(t *testing.T) {
	for _, size := range []int{1, PackageSize - 1, PackageSize, PackageSize + 1, 3 * PackageSize, BlobMax} {
		plain := make([]byte, size)
		rand.Read(plain)
		s := NewPackageSealer()
		var sealed []byte
		for n := 0; n*PackageSize < size; n++ {
			end := min((n+1)*PackageSize, size)
			sealed = s.Seal(sealed, uint32(n), plain[n*PackageSize:end], end == size)
		}
		key := s.Key()
		got, err := sio.DecryptBuffer(nil, sealed, blobConfig(&key))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: sio opens %d bytes: %v", size, len(got), err)
		}
		if Padme(size) == size { // and OpenBlob does
			p := Pointer{CID: Sum(Raw, sealed), Key: key, Length: uint32(size)}
			if got, err := OpenBlob(p, sealed); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes: OpenBlob: %v", size, err)
			}
		}
	}
}

// A stretch of a blob opens by itself; nothing else does.
func TestOpenPackages(t *testing.T) {
	plain := make([]byte, 4*PackageSize)
	rand.Read(plain)
	p, sealed, err := SealBlob(plain, 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenPackages(nil, p.Key, 1, sealed[SealedPackage:3*SealedPackage])
	if err != nil || !bytes.Equal(got, plain[PackageSize:3*PackageSize]) {
		t.Fatal(err)
	}
	got, err = OpenPackages([]byte("x"), p.Key, 3, sealed[3*SealedPackage:])
	if err != nil || !bytes.Equal(got[1:], plain[3*PackageSize:]) {
		t.Fatal(err)
	}
	bad := func(why string, key Key, n uint32, b []byte) {
		t.Helper()
		if _, err := OpenPackages(nil, key, n, b); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v", why, err)
		}
	}
	bad("another number", p.Key, 2, sealed[SealedPackage:2*SealedPackage])
	bad("another key", NewKey(), 1, sealed[SealedPackage:2*SealedPackage])
	bad("cut", p.Key, 1, sealed[SealedPackage:2*SealedPackage-1])
	bad("swapped", p.Key, 1, append(bytes.Clone(sealed[2*SealedPackage:3*SealedPackage]), sealed[SealedPackage:2*SealedPackage]...))
	for _, at := range []int{0, 1, 2, 3, 4, 8, 15, 16, 100, SealedPackage - 1} {
		b := bytes.Clone(sealed[:SealedPackage])
		b[at] ^= 1
		bad("flipped", p.Key, 0, b)
	}
}
