package did

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// The examples of the did:peer specification.
func TestPeerSelfContained(t *testing.T) {
	ctx := context.Background()
	m, err := NewPeer()
	if err != nil {
		t.Fatal(err)
	}
	r := NewResolver(m)

	zero := "did:peer:0z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"
	doc, err := r.Resolve(ctx, zero)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Key(Authentication, zero+"#z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"); err != nil || strings.Contains(string(doc.Raw()), "did:key") {
		t.Errorf("%v: %s", err, doc.Raw())
	}

	two := "did:peer:2.Vz6Mkj3PUd1WjvaDhNZhhhXQdz5UnZXmS7ehtx8bsPpD47kKc.Ez6LSg8zQom395jKLrGiBNruB9MM6V8PWuf2FpEy4uRFiqQBR" +
		".SeyJ0IjoiZG0iLCJzIjp7InVyaSI6Imh0dHA6Ly9leGFtcGxlLmNvbS9kaWRjb21tIiwiYSI6WyJkaWRjb21tL3YyIl0sInIiOlsiZGlkOmV4YW1wbGU6MTIzNDU2Nzg5YWJjZGVmZ2hpI2tleS0xIl19fQ" +
		".SeyJ0IjoiZG0iLCJzIjp7InVyaSI6Imh0dHA6Ly9leGFtcGxlLmNvbS9hbm90aGVyIiwiYSI6WyJkaWRjb21tL3YyIl0sInIiOlsiZGlkOmV4YW1wbGU6MTIzNDU2Nzg5YWJjZGVmZ2hpI2tleS0yIl19fQ"
	if doc, err = r.Resolve(ctx, two); err != nil {
		t.Fatal(err)
	}
	if k, err := doc.Key(Authentication, two+"#key-1"); err != nil || k.Type != Ed25519 {
		t.Errorf("%v, %v", k, err)
	}
	if k, err := doc.Key(KeyAgreement, two+"#key-2"); err != nil || k.Type != X25519 {
		t.Errorf("%v, %v", k, err)
	}
	if len(doc.Services) != 2 || doc.Services[0].ID != two+"#service" || doc.Services[1].ID != two+"#service-1" || doc.Services[0].Type != "DIDCommMessaging" ||
		string(doc.Services[0].Endpoint) != `{"accept":["didcomm/v2"],"routingKeys":["did:example:123456789abcdefghi#key-1"],"uri":"http://example.com/didcomm"}` {
		t.Errorf("%+v", doc.Services)
	}
	named := "did:peer:2.S" + base64.RawURLEncoding.EncodeToString([]byte(`{"id":"#x","t":"T","s":"https://example.com/"}`))
	if doc, err = r.Resolve(ctx, named); err != nil || doc.Services[0].ID != named+"#x" {
		t.Errorf("%+v, %v", doc, err)
	}

	four := peer4Of(t, `{"@context":["https://www.w3.org/ns/did/v1"],"verificationMethod":[{"id":"#k","type":"Ed25519VerificationKey2020",`+
		`"publicKeyMultibase":"z6MkrCD1csqtgdj8sjrsu8jxcbeyP6m7LiK87NzhfWqio5yr"}],"authentication":["#k"]}`)
	if doc, err = r.Resolve(ctx, four); err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Key(Authentication, four+"#k"); err != nil {
		t.Error(err)
	}
	short := four[:strings.LastIndexByte(four, ':')]
	if !strings.Contains(string(doc.Raw()), `"alsoKnownAs":["`+short+`"]`) {
		t.Errorf("%s", doc.Raw())
	}
	for id, want := range map[string]error{
		short: ErrNotFound, four + "1": ErrInvalid, peer4Of(t, `{"id":"did:peer:4x"}`): ErrInvalid, peer4Of(t, `[]`): ErrInvalid, peer4Of(t, `{"a":1,"a":1}`): ErrInvalid,
		strings.Replace(four, ":4zQm", ":4zQn", 1): ErrInvalid, "did:peer:3z" + short[len("did:peer:4z"):]: ErrInvalid,
	} {
		if _, err := r.Resolve(ctx, id); !errors.Is(err, want) {
			t.Errorf("%.60s: got %v, want %v", id, err, want)
		}
	}
}

func peer4Of(t *testing.T, doc string) string {
	t.Helper()
	text, err := multibase.Encode(multibase.Base58BTC, append(binary.AppendUvarint(nil, codecJSON), doc...))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return "did:peer:4z" + sum.B58String() + ":" + text
}

func FuzzPeer(f *testing.F) {
	m, err := NewPeer()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("did:peer:0z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")
	f.Add("did:peer:2.Vz6Mkj3PUd1WjvaDhNZhhhXQdz5UnZXmS7ehtx8bsPpD47kKc.SeyJ0IjoiZG0ifQ")
	f.Add("did:peer:4zQmd8CpeFPci817KDsbSAKWcXAE2mjvCQSasRewvbSF54Bd:z2M1k7h4psgp4")
	f.Fuzz(func(t *testing.T, id string) {
		doc, err := NewResolver(m).Resolve(context.Background(), id)
		if err == nil && doc.ID != id || err != nil && NameOf(err) == NameInternal && !errors.Is(err, ErrKeyType) {
			t.Fatalf("%q: %v, %v", id, doc, err)
		}
	})
}
