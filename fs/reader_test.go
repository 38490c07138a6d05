package fs

import (
	"bytes"
	"context"
	"testing"

	"github.com/minio/sio"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// forgedStore has one blob; what lies in its files was put there by who holds the key.
type forgedStore struct {
	Store
	written, forged []byte
}

func (s *forgedStore) Get(context.Context, CID) ([]byte, error) { return bytes.Clone(s.written), nil }

func (s *forgedStore) GetPart(_ context.Context, _ CID, off int64, p []byte) error {
	copy(p, s.forged[off:])
	return nil
}

// A blob that is committed anew has its CID, whatever lies where it is read for a reader,
// and whatever was read before: else a forgery would be signed.
func TestVerifiedBlob(t *testing.T) {
	text, other := bytes.Repeat([]byte("written "), 1<<14), bytes.Repeat([]byte("smuggled"), 1<<14)
	ptr, sealed, err := crypt.SealBlob(text, 1)
	if err != nil {
		t.Fatal(err)
	}
	var forged bytes.Buffer
	if _, err := sio.Encrypt(&forged, bytes.NewReader(other), sio.Config{MinVersion: sio.Version20, Key: ptr.Key[:], CipherSuites: []byte{sio.AES_256_GCM}}); err != nil {
		t.Fatal(err)
	}
	r := newReader(&forgedStore{written: sealed, forged: forged.Bytes()}, 1<<20)
	ctx := t.Context()
	if b, err := r.blob(ctx, ptr); err != nil || !bytes.Equal(b, other) {
		t.Fatalf("the forgery is no forgery: %d bytes, %v", len(b), err)
	}
	for range 2 {
		if b, err := r.verifiedBlob(ctx, ptr); err != nil || !bytes.Equal(b, text) {
			t.Fatalf("to commit anew: %.8q of %d bytes, %v", b, len(b), err)
		}
	}
	if b, err := r.blob(ctx, ptr); err != nil || !bytes.Equal(b, text) {
		t.Fatalf("to read, when it was verified: %.8q of %d bytes, %v", b, len(b), err)
	}
}

// A page has its CID also where only its seal would be asked for, of a blob.
func TestForgedPage(t *testing.T) {
	leaf := func(key string) []byte {
		return (&draft{crypt.PageDirectory, crypt.Label{}, true, []item{{key: key, value: []byte("v")}}}).encode()
	}
	ptr, sealed := crypt.SealPage(crypt.PageDirectory, leaf("written"), 1)
	forged := ptr.Key.AEAD().Seal(nil, make([]byte, 12), append(leaf("forgery"), make([]byte, len(sealed)-len(leaf("forgery"))-16)...), []byte("ipfscloud/v1/page\x00\x02"))
	p := &crypt.PagePointer{Pointer: ptr}
	if f, err := openPage(crypt.PageDirectory, p, forged); err != nil || f.keys(0)[0] != "forgery" {
		t.Fatalf("the forgery is no forgery: %v, %v", f, err)
	}
	r := newReader(&forgedStore{written: sealed, forged: forged}, 1<<20)
	got, err := r.page(t.Context(), crypt.PageDirectory, p)
	if err != nil || got.len() != 1 || got.keys(0)[0] != "written" || string(got.value(0)) != "v" {
		t.Fatal(got, err)
	}
}
