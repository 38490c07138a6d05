package daemon

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// testKey is number n of the keys of a test.
func testKey(n byte) keyOfTest {
	return keyOfTest(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

type keyOfTest ed25519.PrivateKey

func (k keyOfTest) Public() []byte { return ed25519.PrivateKey(k).Public().(ed25519.PublicKey) }

func (k keyOfTest) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(k), msg), nil
}

// A thief with an update key who drops the recovery key is believed by nobody here, also
// where the DID is another person's; and what was seen stays known.
func TestOthersLogs(t *testing.T) {
	ctx := context.Background()
	store := webvh.NewMemory()
	letter := webvh.New(webvh.Config{Store: store, Location: "example.com"}) // as the specification has it
	key := func(n byte) []byte { return testKey(n).Public() }
	doc, err := letter.Create(ctx, did.Change{NextKeys: [][]byte{key(2)}, Recovery: key(9)}, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	id, err := webvh.ParseID(doc.ID)
	if err != nil {
		t.Fatal(err)
	}
	log := func() givenLog {
		b, err := store.Log(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	honest := log()
	multi, err := did.Multikey(did.Ed25519, key(9))
	if err != nil {
		t.Fatal(err)
	}
	drop := []string{webvh.HashKey(multi), webvh.MarkRecovery(webvh.HashKey(multi))}
	if _, err := letter.Update(ctx, doc.ID, did.Change{NextKeys: [][]byte{key(3)}, Forget: drop}, testKey(2)); err != nil {
		t.Fatal(err)
	}
	stolen := log()

	if _, err := othersLogs(Home{}, stolen).Resolve(ctx, doc.ID); !errors.Is(err, did.ErrInvalid) {
		t.Errorf("a log without the recovery key: %v", err)
	}
	if r, err := webvh.ResolveLog(ctx, doc.ID, stolen, nil, webvh.Query{}); !errors.Is(err, ErrDIDLog) {
		t.Errorf("the same from a file: %+v, %v", r, err)
	}
	home := Home{State: t.TempDir()}
	for what, sources := range map[string][]webvh.Source{"found": {honest, stolen}, "remembered": nil, "remembered, and a thief": {stolen}} {
		if what != "found" {
			if _, err := othersLogs(home, honest).Resolve(ctx, doc.ID); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := othersLogs(home, sources...).Resolve(ctx, doc.ID); err != nil || got.Version.Number != 1 {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}
