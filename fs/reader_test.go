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
