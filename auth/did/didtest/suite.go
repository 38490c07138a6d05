package didtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Signer is an Ed25519 key of a test.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner returns the key number n.
func NewSigner(n byte) Signer {
	return Signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))}
}

// Public is the public key.
func (s Signer) Public() []byte { return s.key.Public().(ed25519.PublicKey) }

// Sign signs.
func (s Signer) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return ed25519.Sign(s.key, msg), nil
}

// Options tell the suite about a method.
type Options struct {
	// Known is a DID that resolves and is live, for methods that cannot create one.
	Known string
	// Unknown is a well-formed DID that does not exist; empty when every one does.
	Unknown string
	// Malformed are texts that begin with the method's prefix and are no DIDs of it.
	Malformed []string
	// OneKey is set for methods whose documents have the one key of the signer.
	OneKey bool
}

// Suite holds a method to what did.Method promises.
func Suite(t *testing.T, m did.Method, o Options) {
	r := did.NewResolver(m)
	id := o.Known
	if m.Can().Has(did.CanCreate) {
		t.Run("create", func(t *testing.T) { id = create(t, m, o) })
	}
	t.Run("resolve", func(t *testing.T) { resolve(t, m, r, id) })
	t.Run("refuse", func(t *testing.T) { refuse(t, m, r, o) })
	t.Run("registry", func(t *testing.T) { registry(t, m, r, id) })
	t.Run("absent", func(t *testing.T) { absent(t, m, id) })
	t.Run("together", func(t *testing.T) { together(t, r, id) })
	if m.Can().Has(did.CanUpdate) {
		t.Run("change", func(t *testing.T) { changes(t, m, o) })
	}
}

func keyOf(n byte, fragment string) did.Key {
	return did.Key{Fragment: fragment, Type: did.Ed25519, Public: NewSigner(n).Public(),
		Relationships: []did.Relationship{did.Authentication, did.AssertionMethod}}
}

func genesis(o Options) did.Change {
	if o.OneKey {
		return did.Change{Keys: []did.Key{keyOf(1, "")}}
	}
	return did.Change{Keys: []did.Key{keyOf(1, "one")}}
}

func create(t *testing.T, m did.Method, o Options) string {
	doc, err := m.Create(context.Background(), genesis(o), NewSigner(1))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.ID, "did:"+m.Name()+":") {
		t.Errorf("%s made %s", m.Name(), doc.ID)
	}
	if keys := doc.KeysFor(did.Authentication); len(keys) != 1 || !bytes.Equal(keys[0].Public, NewSigner(1).Public()) {
		t.Errorf("keys for login: %v", keys)
	}
	return doc.ID
}

func resolve(t *testing.T, m did.Method, r *did.Resolver, id string) {
	ctx := context.Background()
	doc, err := r.Resolve(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if doc.ID != id || doc.Version.ID == "" || doc.Deactivated {
		t.Errorf("%+v", doc)
	}
	// The raw document is beside the parsed one, and says the same.
	again, err := did.Parse(id, doc.Raw())
	if err != nil || len(again.Keys) != len(doc.Keys) || len(again.Services) != len(doc.Services) {
		t.Errorf("raw document: %v, %v", again, err)
	}
	if twice, err := m.Resolve(ctx, id); err != nil || !bytes.Equal(twice.Raw(), doc.Raw()) || twice.Version != doc.Version {
		t.Errorf("resolved twice: %v, %v", twice, err)
	}
	raw := doc.Raw()
	clear(raw)
	if bytes.Equal(doc.Raw(), raw) {
		t.Error("the raw document can be written to")
	}
	for _, k := range doc.KeysFor(did.Authentication) {
		if got, _, err := r.ResolveKey(ctx, did.Authentication, k.ID); err != nil || !bytes.Equal(got.Public, k.Public) {
			t.Errorf("key %s: %v", k.ID, err)
		}
	}
	if _, _, err := r.ResolveKey(ctx, did.Authentication, id+"#nobody"); !errors.Is(err, did.ErrKeyNotFound) {
		t.Errorf("unknown key: %v", err)
	}
}

func refuse(t *testing.T, m did.Method, r *did.Resolver, o Options) {
	ctx := context.Background()
	bad := append([]string{"", "did", "did:" + m.Name(), "did:" + m.Name() + ":", "did:other:x", "DID:" + m.Name() + ":x", "did:" + m.Name() + ":x y", "did:" + m.Name() + ":" + strings.Repeat("x", 5000)}, o.Malformed...)
	for _, id := range bad {
		doc, err := m.Resolve(ctx, id)
		if doc != nil || !errors.Is(err, did.ErrInvalid) && !errors.Is(err, did.ErrNotFound) && !errors.Is(err, did.ErrKeyType) {
			t.Errorf("%.80q: %v, %v", id, doc, err)
		}
		if _, err := r.Resolve(ctx, id); err == nil || did.NameOf(err) == "" {
			t.Errorf("%.80q through the resolver: %v", id, err)
		}
	}
	for _, id := range o.Malformed {
		if _, err := r.Resolve(ctx, id); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("%.80q: %v", id, err)
		}
	}
	if o.Unknown != "" {
		if _, err := r.Resolve(ctx, o.Unknown); !errors.Is(err, did.ErrNotFound) || did.NameOf(err) != did.NameNotFound {
			t.Errorf("%s: %v", o.Unknown, err)
		}
	}
}

// registry asks the same through the registry of aries.
func registry(t *testing.T, m did.Method, r *did.Resolver, id string) {
	got, err := r.Registry().Resolve(id)
	if err != nil || got.DIDDocument.ID != id {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := r.Registry().Resolve("did:nobody:x"); err == nil {
		t.Error("a method that is not there resolves")
	}
}

// absent wants each operation that the method lacks to be refused by name.
func absent(t *testing.T, m did.Method, id string) {
	ctx := context.Background()
	c, s := did.Change{Keys: []did.Key{keyOf(1, "")}}, NewSigner(1)
	for op, try := range map[did.Operations]func() error{
		did.CanCreate:     func() error { _, err := m.Create(ctx, c, s); return err },
		did.CanUpdate:     func() error { _, err := m.Update(ctx, id, c, s); return err },
		did.CanRecover:    func() error { _, err := m.Recover(ctx, id, c, s); return err },
		did.CanDeactivate: func() error { return m.Deactivate(ctx, id, s) },
	} {
		if err := did.Want(m, op); (err == nil) != m.Can().Has(op) {
			t.Errorf("%s: %v", op, err)
		}
		if m.Can().Has(op) {
			continue
		}
		if err := try(); !errors.Is(err, did.ErrNotSupported) || did.NameOf(err) != did.NameNotSupported {
			t.Errorf("%s: %v", op, err)
		}
	}
	if !m.Can().Has(did.CanResolve) {
		t.Error("a method that cannot resolve")
	}
}

// together resolves from several goroutines, for the race detector.
func together(t *testing.T, r *did.Resolver, id string) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := r.Resolve(context.Background(), id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Resolve(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// changes takes a DID through its life.
func changes(t *testing.T, m did.Method, o Options) {
	ctx := context.Background()
	g := genesis(o)
	g.NextKeys, g.Recovery = [][]byte{NewSigner(2).Public()}, NewSigner(9).Public()
	first, err := m.Create(ctx, g, NewSigner(1))
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Update(ctx, first.ID, did.Change{
		Keys:     []did.Key{keyOf(1, "one"), keyOf(3, "two")},
		Services: []did.Service{{ID: "#s", Type: "T", Endpoint: []byte(`"https://example.com/"`)}},
		NextKeys: [][]byte{NewSigner(4).Public()},
	}, NewSigner(2))
	if err != nil {
		t.Fatal(err)
	}
	if len(second.KeysFor(did.Authentication)) != 2 || len(second.Services) != 1 || !second.Version.Follows(first.Version) || first.Version.Follows(second.Version) {
		t.Errorf("after the update: %+v", second)
	}
	for n, s := range map[string]byte{"a spent key": 2, "a stranger": 50} {
		if _, err := m.Update(ctx, first.ID, did.Change{Keys: []did.Key{keyOf(5, "x")}}, NewSigner(s)); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("update by %s: %v", n, err)
		}
		if err := m.Deactivate(ctx, first.ID, NewSigner(s)); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("deactivated by %s: %v", n, err)
		}
	}
	if m.Can().Has(did.CanRecover) {
		next := did.Change{Keys: []did.Key{keyOf(6, "new")}, NextKeys: [][]byte{NewSigner(7).Public()}, Recovery: NewSigner(10).Public()}
		if _, err := m.Recover(ctx, first.ID, next, NewSigner(4)); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("recovered by an update key: %v", err)
		}
		third, err := m.Recover(ctx, first.ID, next, NewSigner(9))
		if err != nil || len(third.KeysFor(did.Authentication)) != 1 || !third.Version.Follows(second.Version) {
			t.Fatalf("recovered: %+v, %v", third, err)
		}
		if _, err := m.Update(ctx, first.ID, did.Change{Keys: []did.Key{keyOf(5, "x")}}, NewSigner(4)); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("update by a lost device: %v", err)
		}
		// Some methods leave it to the recovery key, others to any device.
		if m.Deactivate(ctx, first.ID, NewSigner(7)) != nil {
			if err := m.Deactivate(ctx, first.ID, NewSigner(10)); err != nil {
				t.Fatal(err)
			}
		}
	} else if err := m.Deactivate(ctx, first.ID, NewSigner(4)); err != nil {
		t.Fatal(err)
	}
	last, err := m.Resolve(ctx, first.ID)
	if err != nil || !last.Deactivated || last.KeysFor(did.Authentication) != nil {
		t.Errorf("deactivated: %+v, %v", last, err)
	}
	if _, err := m.Update(ctx, first.ID, did.Change{}, NewSigner(7)); !errors.Is(err, did.ErrDeactivated) {
		t.Errorf("update afterwards: %v", err)
	}
}
