package crypt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const whole = crypt.PackageSize

// sealedBlob is a blob of n random bytes.
func sealedBlob(t *testing.T, n int) (plain []byte, p crypt.Pointer, sealed []byte) {
	t.Helper()
	plain = make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(plain)
	p, sealed, err := crypt.SealBlob(plain, 1)
	if err != nil {
		t.Fatal(err)
	}
	return plain, p, sealed
}

// cut is package n as it lies in the sealed bytes.
func cut(p crypt.Pointer, sealed []byte, n uint32) []byte {
	off, size := p.Package(n)
	return bytes.Clone(sealed[off : off+int64(size)])
}

func TestParts(t *testing.T) {
	for _, n := range []int{1, 100, whole - 1, whole, whole + 1, 3*whole + 5, 5 * whole, crypt.BlobMax - 1, crypt.BlobMax} {
		plain, p, sealed := sealedBlob(t, n)
		if off, size := p.Package(p.LastPackage()); int(off)+size != len(sealed) {
			t.Fatalf("%d bytes: the last package ends at %d of %d", n, int(off)+size, len(sealed))
		}
		parts, err := crypt.NewParts(p, cut(p, sealed, p.LastPackage()))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		var got []byte
		for i := uint32(0); i <= p.LastPackage(); i++ {
			b, err := parts.Open(i, cut(p, sealed, i))
			if err != nil {
				t.Fatalf("%d bytes, package %d: %v", n, i, err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: the parts are %d other ones", n, len(got))
		}
	}
}

// TestPartsAreVerified: each bit counts, and a package opens at its own place only.
func TestPartsAreVerified(t *testing.T) {
	_, p, sealed := sealedBlob(t, 4*whole+100)
	last := p.LastPackage()
	parts, err := crypt.NewParts(p, cut(p, sealed, last))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, crypt.ErrIntegrity) {
			t.Errorf("%s: %v, want ErrIntegrity", what, err)
		}
	}
	for n := uint32(0); n <= last; n++ {
		good := cut(p, sealed, n)
		for _, at := range []int{0, 1, 2, 3, 4, 10, 15, 16, len(good) / 2, len(good) - 1} {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[at] ^= 1 << bit
				_, err := parts.Open(n, bytes.Clone(bad))
				refused("a changed bit", err)
				if n == last {
					_, err := crypt.NewParts(p, bad)
					refused("a changed bit of the final package", err)
				}
			}
		}
		for _, short := range []int{0, 10, 16, len(good) - 1} {
			_, err := parts.Open(n, bytes.Clone(good[:short]))
			refused("a package cut short", err)
			_, err = crypt.NewParts(p, bytes.Clone(good[:short]))
			refused("a final package cut short", err)
		}
		for other := uint32(0); other <= last+1; other++ {
			if other != n {
				_, err := parts.Open(other, bytes.Clone(good))
				refused("a package at another place", err)
			}
		}
	}
	_, q, others := sealedBlob(t, 4*whole+101)
	_, err = parts.Open(0, cut(q, others, 0))
	refused("a package of another blob", err)
}

// TestPartsKeepTheirOrder: the nonce lies beside each package, so a store can make a
// package open at another place by changing it. Parts must not.
func TestPartsKeepTheirOrder(t *testing.T) {
	_, p, sealed := sealedBlob(t, 8*whole)
	last := p.LastPackage()
	move := func(from, to uint32) []byte {
		b := cut(p, sealed, from)
		binary.LittleEndian.PutUint32(b[12:], binary.LittleEndian.Uint32(b[12:])^from^to)
		return b
	}
	if _, err := crypt.OpenPackages(nil, p.Key, 2, move(1, 2)); err != nil {
		t.Fatalf("the attack itself does not work: %v", err)
	}
	parts, err := crypt.NewParts(p, cut(p, sealed, last))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parts.Open(2, move(1, 2)); !errors.Is(err, crypt.ErrIntegrity) {
		t.Errorf("a moved package: %v, want ErrIntegrity", err)
	}
	for from := range last { // a final package that makes the others' changed nonce look right
		for _, mark := range []byte{0, 0x80} {
			b := move(from, last)
			b[4] |= mark
			if _, err := crypt.NewParts(p, b); !errors.Is(err, crypt.ErrIntegrity) {
				t.Errorf("package %d as the final one: %v, want ErrIntegrity", from, err)
			}
		}
	}
}

func FuzzParts(f *testing.F) {
	plain := bytes.Repeat([]byte("some text "), 20000)
	p, sealed, err := crypt.SealBlob(plain, 1)
	if err != nil {
		f.Fatal(err)
	}
	final := cut(p, sealed, p.LastPackage())
	parts, err := crypt.NewParts(p, bytes.Clone(final))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(final, uint32(0))
	f.Add(cut(p, sealed, 1), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		if got, err := parts.Open(n, bytes.Clone(b)); err == nil {
			at := int(n) * crypt.PackageSize
			if at >= len(plain) || !bytes.Equal(got, plain[at:min(at+crypt.PackageSize, len(plain))]) {
				t.Fatalf("package %d opens as %d other bytes", n, len(got))
			}
		} else if !errors.Is(err, crypt.ErrIntegrity) {
			t.Fatal(err)
		}
		if _, err := crypt.NewParts(p, bytes.Clone(b)); err == nil != bytes.Equal(b, final) || err != nil && !errors.Is(err, crypt.ErrIntegrity) {
			t.Fatalf("a final package of %d bytes: %v", len(b), err)
		}
	})
}
