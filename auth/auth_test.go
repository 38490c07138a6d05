package auth

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// cheap is the least that a keystore may ask for.
func cheap() KDF { return KDF{Time: 1, Memory: kdfMinMemory, Threads: 2} }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// zeroWords is the phrase of 256 zero bits.
const zeroWords = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon " +
	"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art"

func testPhrase(t testing.TB) *Phrase {
	t.Helper()
	p, err := ParsePhrase([]byte(zeroWords))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Wipe)
	return p
}

// testIdentity makes a did:key with the passphrase "open sesame" and returns its
// directory.
func testIdentity(t testing.TB, phrase *Phrase) (string, *Identity) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keystore")
	id, err := Init(testContext(t), InitConfig{Dir: dir, Method: "key", Passphrase: []byte("open sesame"), Phrase: phrase, DeviceName: "laptop", KDF: cheap()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Phrase.Wipe)
	return dir, id
}

func testSession(t testing.TB) *Session {
	t.Helper()
	dir, _ := testIdentity(t, nil)
	s, err := Login(testContext(t), dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// logMethod is a DID method with a history, as did:webvh will be: its documents are what
// a test puts there.
type logMethod struct {
	did.Fixed
	resolve func() (*did.Document, error)
}

func (logMethod) Name() string { return "key" }

func (logMethod) Create(ctx context.Context, genesis did.Change, s did.Signer) (*did.Document, error) {
	return did.NewKey().Create(ctx, genesis, s)
}

func (m logMethod) Resolve(context.Context, string) (*did.Document, error) { return m.resolve() }

// document is the did:key document of id with another version, altered by edit.
func document(t testing.TB, id string, v did.Version, edit func(string) string) *did.Document {
	t.Helper()
	d, err := did.NewKey().Resolve(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	raw := string(d.Raw())
	if edit != nil {
		raw = edit(raw)
	}
	if d, err = did.Parse(id, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	d.Version = v
	return d
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}
