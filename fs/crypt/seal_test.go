package crypt

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"testing"
)

func TestBlobRoundTripAndTamper(t *testing.T) {
	for _, n := range []int{1, 15, 4096, 65536, 65537, BlobMax - 1, BlobMax} {
		plain := bytes.Repeat([]byte{7, 9, 13}, n/3+1)[:n]
		p, sealed, err := SealBlob(plain, 3)
		if err != nil {
			t.Fatal(err)
		}
		if !p.CID.Verify(sealed) {
			t.Fatal("CID does not name the sealed bytes")
		}
		got, err := OpenBlob(p, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		for _, i := range []int{0, 5, len(sealed) / 2, len(sealed) - 1} {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, err := OpenBlob(p, bad); !errors.Is(err, ErrIntegrity) {
				t.Fatalf("%d bytes, bit flipped at %d: %v", n, i, err)
			}
		}
		if _, err := OpenBlob(p, sealed[:len(sealed)-1]); !errors.Is(err, ErrIntegrity) {
			t.Fatalf("cut: %v", err)
		}
		if n > 65536 {
			if _, err := OpenBlob(p, sealed[:65536+32]); !errors.Is(err, ErrIntegrity) {
				t.Fatalf("cut at a package: %v", err)
			}
		}
	}
	for _, n := range []int{0, BlobMax + 1} {
		if _, _, err := SealBlob(make([]byte, n), 1); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestPadme(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 1, 9: 10, 1000: 1024, 1025: 1088, 65536: 65536, 1 << 20: 1 << 20} {
		if got := Padme(n); got != want {
			t.Errorf("Padme(%d) = %d, want %d", n, got, want)
		}
	}
	for n := 1; n < 1<<16; n += 7 {
		if p := Padme(n); p < n || float64(p) > 1.125*float64(n)+1 {
			t.Fatalf("Padme(%d) = %d", n, p)
		}
	}
}

func TestPageKindIsBound(t *testing.T) {
	p, sealed := SealPage(PageDirectory, []byte("names"), 1)
	if len(sealed)%PageStep != 0 {
		t.Fatalf("sealed page has %d bytes", len(sealed))
	}
	if got, err := OpenPage(PageDirectory, p, sealed); err != nil || string(got) != "names" {
		t.Fatal(got, err)
	}
	if _, err := OpenPage(PageExtents, p, sealed); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("opened as another kind: %v", err)
	}
	sealed[9] ^= 4
	if _, err := OpenPage(PageDirectory, p, sealed); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("flipped: %v", err)
	}
}

func TestKeyring(t *testing.T) {
	ctx := context.Background()
	kem := hpke.MLKEM768X25519()
	var pubs [][]byte
	var privs []hpke.PrivateKey
	for range 3 {
		k, err := kem.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		privs, pubs = append(privs, k), append(pubs, k.PublicKey().Bytes())
	}
	v, key := NewVaultID(), newVaultKey(t)
	ring, err := WrapKey(v, 4, key, pubs[:2])
	if err != nil {
		t.Fatal(err)
	}
	ring, err = DecodeKeyring(ring.Encode())
	if err != nil {
		t.Fatal(err)
	}
	open := func(k hpke.PrivateKey) Opener {
		return func(_ context.Context, info, sealed []byte) ([]byte, error) {
			return hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
		}
	}
	for i := range 2 {
		if got, err := ring.Unwrap(ctx, open(privs[i])); err != nil || !got.Equal(key) {
			t.Fatalf("recipient %d: %v", i, err)
		}
	}
	if _, err := ring.Unwrap(ctx, open(privs[2])); !errors.Is(err, ErrNotRecipient) {
		t.Fatalf("a stranger: %v", err)
	}
	ring.Epoch++ // an entry must not serve another epoch
	if _, err := ring.Unwrap(ctx, open(privs[0])); !errors.Is(err, ErrNotRecipient) {
		t.Fatalf("replayed in another epoch: %v", err)
	}
}

func TestHead(t *testing.T) {
	ctx := context.Background()
	pub, priv, _ := ed25519.GenerateKey(nil)
	sign := func(_ context.Context, m []byte) ([]byte, error) { return ed25519.Sign(priv, m), nil }
	errSig := errors.New("bad signature")
	verify := func(_ context.Context, dev string, m, s []byte) error {
		if dev != "laptop" || !ed25519.Verify(pub, m, s) {
			return errSig
		}
		return nil
	}
	key := newVaultKey(t)
	h := &Head{DID: "did:key:z6Mk", Vault: NewVaultID(), Epoch: 1, Sequence: 7, Device: "laptop", Time: 99,
		Keyring: Sum(Raw, []byte("k")), Log: Sum(Raw, []byte("l")), LogVersion: "1",
		Parents:  []Parent{{"laptop", 6, Sum(Raw, []byte("p"))}},
		Journals: []JournalPosition{{"laptop", [16]byte{1}, 12}}}
	h.Root.CID = Sum(Raw, []byte("r"))
	h.Root.Node = Sum(DagPB, []byte("n"))
	sealed, err := SealHead(ctx, h, key, sign)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenHead(ctx, sealed, key, verify)
	if err != nil || string(got.encode()) != string(h.encode()) {
		t.Fatal(err)
	}
	for i := 0; i < len(sealed); i += 13 {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if _, err := OpenHead(ctx, bad, key, verify); err == nil {
			t.Fatalf("flipped byte %d opens", i)
		}
	}
	if _, err := OpenHead(ctx, sealed, newVaultKey(t), verify); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("other key: %v", err)
	}
	_, other, _ := ed25519.GenerateKey(nil)
	forged, _ := SealHead(ctx, h, key, func(_ context.Context, m []byte) ([]byte, error) { return ed25519.Sign(other, m), nil })
	if _, err := OpenHead(ctx, forged, key, verify); !errors.Is(err, ErrIntegrity) || !errors.Is(err, errSig) {
		t.Fatalf("signed by another: %v", err)
	}
}

func FuzzDecoders(f *testing.F) {
	r := &Keyring{Vault: NewVaultID(), Epoch: 1, Entries: [][]byte{[]byte("x")}}
	f.Add(r.Encode())
	h := &Head{DID: "d"}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeKeyring(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Fatal("keyring parses but encodes otherwise")
		}
		if h, err := decodeHead(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Fatal("head parses but encodes otherwise")
		}
	})
}
