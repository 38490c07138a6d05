package login

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// logMethod is a DID method with a history: its documents are what a test puts there.
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
