package fstest

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Identity is an fs.Identity whose keys come from a seed, for tests that need no login.
type Identity struct {
	sign ed25519.PrivateKey
	kem  hpke.PrivateKey
}

var _ fs.Identity = (*Identity)(nil)

// NewIdentity makes the identity of a seed: the same one each time.
func NewIdentity(seed string) (*Identity, error) {
	s := sha256.Sum256([]byte("sign " + seed))
	k := sha256.Sum256([]byte("kem " + seed))
	kem, err := hpke.MLKEM768X25519().NewPrivateKey(k[:])
	if err != nil {
		return nil, err
	}
	return &Identity{ed25519.NewKeyFromSeed(s[:]), kem}, nil
}

// DID is a DID of the example method.
func (i *Identity) DID() string { return "did:example:owner" }

// Device is always the same.
func (i *Identity) Device() string { return "dev1" }

// Sign signs with the identity's key.
func (i *Identity) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(i.sign, msg), nil
}

// JudgeCommit accepts commits of this identity's one device.
func (i *Identity) JudgeCommit(_ context.Context, c fs.CommitClaim) (fs.Verdict, error) {
	if c.Device != i.Device() || !ed25519.Verify(i.sign.Public().(ed25519.PublicKey), c.Message, c.Signature) {
		return fs.Verdict{Standing: "forged", Because: "the signature is not the device's"}, nil
	}
	return fs.Verdict{Standing: fs.StandingWriter}, nil
}

// MayCommit always allows it.
func (i *Identity) MayCommit(context.Context, time.Time) error { return nil }

// TakeLog takes nothing: the document never changes.
func (i *Identity) TakeLog(context.Context, []byte) error { return nil }

// Notes are none.
func (i *Identity) Notes(context.Context) ([]byte, error) { return nil, nil }

// TakeNotes takes nothing.
func (i *Identity) TakeNotes(context.Context, []byte) error { return nil }

// OpenWrapped opens what was sealed to Recipients.
func (i *Identity) OpenWrapped(_ context.Context, info, sealed []byte) ([]byte, error) {
	return hpke.Open(i.kem, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
}

// Recipients is the identity's one public key.
func (i *Identity) Recipients(context.Context) ([][]byte, error) {
	return [][]byte{i.kem.PublicKey().Bytes()}, nil
}

// Log is a document that says nothing but the DID.
func (i *Identity) Log(context.Context) ([]byte, string, error) {
	return []byte(`{"id":"did:example:owner"}`), "1", nil
}
