package proof

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multibase"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

type signer struct{ key ed25519.PrivateKey }

func (s signer) Public() []byte { return s.key.Public().(ed25519.PublicKey) }

func (s signer) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(s.key, msg), nil
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b)
}

func object(t *testing.T, name string) map[string]any {
	t.Helper()
	o, err := jcs.Object(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func vectorSigner(t *testing.T) signer {
	t.Helper()
	_, b, err := multibase.Decode(object(t, "keyPair.json")["privateKeyMultibase"].(string))
	if err != nil || len(b) != 34 {
		t.Fatal(err, len(b))
	}
	return signer{ed25519.NewKeyFromSeed(b[2:])}
}

// The example of the cryptosuite's specification, value by value.
func TestVectors(t *testing.T) {
	unsigned, signed := object(t, "unsigned.json"), object(t, "signedJCS.json")
	options := object(t, "proofConfigJCS.json")
	for name, o := range map[string]any{"canonDocJCS.txt": unsigned, "proofCanonJCS.txt": options} {
		if got, err := jcs.Marshal(o); err != nil || !bytes.Equal(got, read(t, name)) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	msg, err := message(unsigned, options)
	if err != nil || hex.EncodeToString(msg) != string(read(t, "combinedHashJCS.txt")) {
		t.Errorf("hash %x, %v", msg, err)
	}
	p := signed["proof"].(map[string]any)
	key, err := Verify(unsigned, p, time.Now())
	if err != nil || key != object(t, "keyPair.json")["publicKeyMultibase"] {
		t.Errorf("key %s, %v", key, err)
	}
	created, err := time.Parse(time.RFC3339, p["created"].(string))
	if err != nil {
		t.Fatal(err)
	}
	made, err := Sign(context.Background(), unsigned, vectorSigner(t), created)
	if err != nil || made["proofValue"] != string(read(t, "sigBTC58JCS.txt")) {
		t.Errorf("signature %v, %v", made["proofValue"], err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	s := signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
	document := map[string]any{"a": "b", "@context": []any{"https://x.example/1", "https://x.example/2"}}
	good, err := Sign(context.Background(), document, s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(document, good, time.Now()); err != nil {
		t.Fatal(err)
	}
	other, err := did.Multikey(did.Ed25519, bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	agree, err := did.Multikey(did.X25519, s.Public())
	if err != nil {
		t.Fatal(err)
	}
	value := good["proofValue"].(string)
	for name, change := range map[string]map[string]any{
		"cryptosuite":        {"cryptosuite": "eddsa-rdfc-2022"},
		"no cryptosuite":     {"cryptosuite": nil},
		"type":               {"type": "Ed25519Signature2020"},
		"purpose":            {"proofPurpose": "authentication"},
		"other key":          {"verificationMethod": Method(other)},
		"agreement key":      {"verificationMethod": Method(agree)},
		"key without #":      {"verificationMethod": "did:key:" + other},
		"two keys":           {"verificationMethod": strings.Replace(good["verificationMethod"].(string), "#", "#"+other, 1)},
		"did:web":            {"verificationMethod": "did:web:example.com#key"},
		"created":            {"created": "2001-01-01T00:00:00Z"},
		"created no time":    {"created": "yesterday"},
		"created a number":   {"created": 3.0},
		"expired":            {"expires": "2001-01-01T00:00:00Z"},
		"new member":         {"nonce": "x"},
		"chain":              {"previousProof": "urn:x"},
		"context shorter":    {"@context": []any{"https://x.example/1"}},
		"context other":      {"@context": "https://y.example"},
		"no value":           {"proofValue": ""},
		"value in base64":    {"proofValue": "u" + value[1:]},
		"value cut":          {"proofValue": value[:len(value)-1]},
		"value longer":       {"proofValue": value + "1"},
		"value not a string": {"proofValue": 1.0},
	} {
		p := maps.Clone(good)
		maps.Copy(p, change)
		if _, err := Verify(document, p, time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, d := range map[string]map[string]any{
		"value":      {"a": "c", "@context": document["@context"]},
		"member":     {"a": "b", "c": "d", "@context": document["@context"]},
		"no context": {"a": "b"},
	} {
		if _, err := Verify(d, good, time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("document with another %s: got %v", name, err)
		}
	}
	if _, err := Sign(context.Background(), document, liar{s}, time.Now()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a signer with a wrong key: %v", err)
	}
}

// liar signs with another key than it shows.
type liar struct{ signer }

func (liar) Public() []byte {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)).Public().(ed25519.PublicKey)
}
