package did

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/multiformats/go-multibase"
)

func testKey(b byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)).Public().(ed25519.PublicKey)
}

func TestKeyMethod(t *testing.T) {
	ctx := context.Background()
	// An example of the did:key specification.
	const known = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
	r := NewResolver(NewKey())
	doc, err := r.Resolve(ctx, known)
	if err != nil {
		t.Fatal(err)
	}
	kid := known + "#z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
	k, err := doc.Key(Authentication, kid)
	if err != nil || k.Type != Ed25519 {
		t.Fatalf("authentication key: %v, %v", k, err)
	}
	agree := doc.KeysFor(KeyAgreement)
	if len(agree) != 1 || agree[0].ID != known+"#z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW" {
		t.Errorf("key agreement: %v", agree)
	}

	m := NewKey()
	made, err := m.Create(ctx, Change{Keys: []Key{{Type: Ed25519, Public: testKey(1)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Resolve(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made.Raw(), again.Raw()) || made.Version.ID != "1" {
		t.Errorf("one DID, two documents:\n%s\n%s", made.Raw(), again.Raw())
	}
	pub, err := made.Keys[0].Ed25519()
	if err != nil || !pub.Equal(testKey(1)) {
		t.Errorf("key %x, %v", pub, err)
	}
	for _, err := range []error{
		m.Deactivate(ctx, made.ID, nil),
		second(m.Update(ctx, made.ID, Change{}, nil)),
		second(m.Recover(ctx, made.ID, Change{}, nil)),
		second(m.Create(ctx, Change{}, nil)),
	} {
		if !errors.Is(err, ErrNotSupported) {
			t.Errorf("got %v, want ErrNotSupported", err)
		}
	}
}

func second(_ *Document, err error) error { return err }

func TestKeyMethodRefuses(t *testing.T) {
	r := NewResolver(NewKey())
	good, err := Multikey(Ed25519, testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	agree, err := Multikey(X25519, testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id   string
		want error
	}{
		"empty":             {"", ErrInvalid},
		"no method":         {"did::x", ErrInvalid},
		"fragment":          {"did:key:" + good + "#x", ErrInvalid},
		"path":              {"did:key:" + good + "/x", ErrInvalid},
		"longer":            {"did:key:" + good + "x", ErrKeyType},
		"shorter":           {"did:key:" + good[:len(good)-1], ErrKeyType},
		"leading zero byte": {"did:key:z1" + good[1:], ErrKeyType},
		"upper-case method": {"did:KEY:" + good, ErrInvalid},
		"agreement key":     {"did:key:" + agree, ErrKeyType},
		"unknown method":    {"did:plc:abc", ErrUnsupportedMethod},
		"key of 33 bytes":   {"did:key:" + multibase58(0xed, 33), ErrInvalid},
		// A short key of this codec makes aries panic.
		"BLS G1G2": {"did:key:" + multibase58(0xee, 33), ErrKeyType},
	} {
		if _, err := r.Resolve(context.Background(), c.id); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func multibase58(code uint64, n int) string {
	s, err := multibase.Encode(multibase.Base58BTC, append(binary.AppendUvarint(nil, code), make([]byte, n)...))
	if err != nil {
		panic(err)
	}
	return s
}

func multikey(t *testing.T, kt KeyType, b byte) string {
	t.Helper()
	s, err := Multikey(kt, testKey(b))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDocumentKeys(t *testing.T) {
	const id = "did:web:example.com"
	x := base64.RawURLEncoding.EncodeToString(testKey(3))
	raw := fmt.Sprintf(`{
	  "@context": "https://www.w3.org/ns/did/v1", "id": %[1]q, "unknown": {"kept": true},
	  "verificationMethod": [
	    {"id": "#login", "type": "Multikey", "controller": %[1]q, "publicKeyMultibase": %[2]q},
	    {"id": "did:web:example.com#claims", "type": "JsonWebKey2020", "controller": %[1]q,
	     "publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": %[3]q}},
	    {"id": "#foreign", "type": "Multikey", "controller": "did:web:evil.example", "publicKeyMultibase": %[2]q},
	    {"id": "did:web:evil.example#login", "type": "Multikey", "controller": %[1]q, "publicKeyMultibase": %[2]q},
	    {"id": "#odd", "type": "FutureKey2030", "controller": %[1]q, "publicKeyMultibase": "zzz"}],
	  "authentication": ["#login", "#foreign", "did:web:evil.example#login", "#odd"],
	  "assertionMethod": ["did:web:example.com#claims",
	    {"id": "#embedded", "type": "Ed25519VerificationKey2020", "controller": %[1]q, "publicKeyMultibase": %[2]q}],
	  "service": [{"id": "#s", "type": ["A", "B"], "serviceEndpoint": "https://example.com/"}]
	}`, id, multikey(t, Ed25519, 2), x)
	doc, err := Parse(id, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if string(doc.Raw()) != raw {
		t.Error("the document's bytes changed")
	}
	if len(doc.Services) != 1 || doc.Services[0].Type != "A" || doc.Services[0].ID != id+"#s" {
		t.Errorf("services %+v", doc.Services)
	}
	for _, c := range []struct {
		purpose Relationship
		kid     string
		want    error
	}{
		{Authentication, id + "#login", nil},
		{AssertionMethod, id + "#claims", nil},
		{AssertionMethod, id + "#embedded", nil},
		{Authentication, id + "#embedded", ErrRelationship},
		{AssertionMethod, id + "#login", ErrRelationship},
		{KeyAgreement, id + "#login", ErrRelationship},
		{Authentication, "", ErrKeyNotFound},
		{Authentication, "#login", ErrKeyNotFound},
		{Authentication, "login", ErrKeyNotFound},
		{Authentication, id, ErrKeyNotFound},
		{Authentication, id + "#logi", ErrKeyNotFound},
		{Authentication, id + "#Login", ErrKeyNotFound},
		{Authentication, id + "#foreign", ErrKeyNotFound},
		{Authentication, "did:web:evil.example#login", ErrKeyNotFound},
		{Authentication, id + "#odd", nil},
	} {
		if _, err := doc.Key(c.purpose, c.kid); !errors.Is(err, c.want) {
			t.Errorf("%s %q: got %v, want %v", c.purpose, c.kid, err, c.want)
		}
	}
	odd, _ := doc.Key(Authentication, id+"#odd")
	if _, err := odd.Ed25519(); !errors.Is(err, ErrKeyType) {
		t.Errorf("a key of an unknown kind was used: %v", err)
	}
	if got := len(doc.KeysFor(Authentication)); got != 2 {
		t.Errorf("%d keys for authentication, want 2", got)
	}

	gone, err := Parse(id, []byte(strings.Replace(raw, `"unknown"`, `"deactivated": true, "unknown"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Key(Authentication, id+"#login"); !errors.Is(err, ErrDeactivated) {
		t.Errorf("deactivated: got %v", err)
	}
	if gone.KeysFor(Authentication) != nil {
		t.Error("keys of a deactivated DID")
	}
}

func TestParseRefuses(t *testing.T) {
	const id = "did:web:example.com"
	key := multikey(t, Ed25519, 2)
	vm := func(s string) string { return `{"id":"` + id + `","verificationMethod":[` + s + `]}` }
	for name, raw := range map[string]string{
		"empty":             ``,
		"list":              `[]`,
		"another DID":       `{"id":"did:web:example.org"}`,
		"no id":             `{}`,
		"id in capitals":    `{"ID":"` + id + `"}`,
		"cut":               `{"id":"` + id + `"`,
		"trailing":          `{"id":"` + id + `"}}`,
		"trailing value":    `{"id":"` + id + `"} {}`,
		"member twice":      `{"id":"` + id + `","id":"` + id + `"}`,
		"key without #":     vm(`{"id":"x","type":"Multikey","controller":"` + id + `","publicKeyMultibase":"` + key + `"}`),
		"key id twice":      vm(`{"id":"#a","type":"T"},{"id":"` + id + `#a","type":"T"}`),
		"key written twice": vm(`{"id":"#a","type":"Multikey","publicKeyMultibase":"` + key + `","publicKeyBase58":"x"}`),
		"short base58":      vm(`{"id":"#a","type":"Ed25519VerificationKey2018","publicKeyBase58":"2g"}`),
		"wrong kind":        vm(`{"id":"#a","type":"X25519KeyAgreementKey2020","publicKeyMultibase":"` + key + `"}`),
		"private key":       vm(`{"id":"#a","type":"JsonWebKey2020","publicKeyJwk":{"kty":"OKP","crv":"Ed25519","x":"","d":"AA"}}`),
		"large":             `{"id":"` + id + `","x":"` + strings.Repeat("a", MaxDocument) + `"}`,
		"uses no list":      `{"id":"` + id + `","authentication":"#a"}`,
		"deactivated text":  `{"id":"` + id + `","deactivated":"no"}`,
	} {
		if _, err := Parse(id, []byte(raw)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	const id = "did:web:example.com"
	f.Add([]byte(`{"id":"` + id + `"}`))
	f.Add([]byte(`{"id":"` + id + `","verificationMethod":[{"id":"#a","type":"Multikey","controller":"` + id + `","publicKeyMultibase":"z6Mk"}],"authentication":["#a",{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := Parse(id, raw)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrKeyType) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		for _, k := range doc.KeysFor(Authentication) {
			if got, err := doc.Key(Authentication, k.ID); err != nil || got.ID != k.ID {
				t.Fatalf("key %q listed and not found: %v", k.ID, err)
			}
		}
	})
}

func TestVersionFollows(t *testing.T) {
	v := func(n uint64, id string) Version { return Version{n, id} }
	for _, c := range []struct {
		next, last Version
		want       bool
	}{
		{v(1, "1"), v(1, "1"), true},
		{v(2, "2-a"), v(1, "1-a"), true},
		{v(1, "1-a"), v(2, "2-a"), false},
		{v(2, "2-b"), v(2, "2-a"), false},
	} {
		if got := c.next.Follows(c.last); got != c.want {
			t.Errorf("%v after %v: %t", c.next, c.last, got)
		}
	}
}

func TestPeerMethod(t *testing.T) {
	ctx := context.Background()
	alice, err := NewPeer()
	if err != nil {
		t.Fatal(err)
	}
	bob, err := NewPeer()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := alice.Create(ctx, Change{Keys: []Key{
		{Fragment: "a", Type: Ed25519, Public: testKey(5), Relationships: []Relationship{Authentication, AssertionMethod}},
		{Fragment: "b", Type: X25519, Public: testKey(6), Relationships: []Relationship{KeyAgreement}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := doc.Key(Authentication, doc.ID+"#a"); err != nil || !bytes.Equal(k.Public, testKey(5)) {
		t.Errorf("key %v, %v", k, err)
	}
	if _, err := doc.Key(KeyAgreement, doc.ID+"#b"); err != nil {
		t.Error(err)
	}
	r := NewResolver(bob)
	if _, err := r.Resolve(ctx, doc.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("before they met: %v", err)
	}
	if _, err := bob.Learn(ctx, doc.ID, bytes.Replace(doc.Raw(), []byte("#a"), []byte("#c"), 1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("altered document: %v", err)
	}
	if _, err := bob.Learn(ctx, doc.ID, doc.Raw()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Resolve(ctx, doc.ID)
	if err != nil || !bytes.Equal(got.Raw(), doc.Raw()) {
		t.Errorf("learnt %v, %v", got, err)
	}
}
