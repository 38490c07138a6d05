package claim_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/auth/did"
)

var now = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)

// documents are what a resolver knows.
type documents map[string]string

func (d documents) ResolveKey(_ context.Context, purpose did.Relationship, kid string) (did.VerificationMethod, *did.Document, error) {
	id, _, _ := strings.Cut(kid, "#")
	raw, ok := d[id]
	if !ok {
		return did.VerificationMethod{}, nil, fmt.Errorf("%s: %w", id, did.ErrNotFound)
	}
	doc, err := did.Parse(id, []byte(raw))
	if err != nil {
		return did.VerificationMethod{}, nil, err
	}
	k, err := doc.Key(purpose, kid)
	return k, doc, err
}

// person is a DID with one key.
type person struct {
	t       *testing.T
	id, kid string
	key     ed25519.PrivateKey
}

func newPerson(t *testing.T, docs documents, id string, relationships ...string) *person {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	multi, err := did.Multikey(did.Ed25519, public)
	if err != nil {
		t.Fatal(err)
	}
	doc := map[string]any{"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": id,
		"verificationMethod": []any{map[string]string{"id": id + "#k", "type": "Multikey", "controller": id, "publicKeyMultibase": multi}}}
	for _, r := range relationships {
		doc[r] = []string{id + "#k"}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	docs[id] = string(b)
	return &person{t: t, id: id, kid: id + "#k", key: key}
}

func (p *person) sign(payload []byte) string {
	p.t.Helper()
	jwt, err := claim.Sign(p.kid, payload, func(m []byte) []byte { return ed25519.Sign(p.key, m) })
	if err != nil {
		p.t.Fatal(err)
	}
	return jwt
}

// raw signs any header and payload.
func (p *person) raw(header, payload map[string]any) string {
	p.t.Helper()
	h, err1 := json.Marshal(header)
	b, err2 := json.Marshal(payload)
	if err := errors.Join(err1, err2); err != nil {
		p.t.Fatal(err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(b)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(p.key, []byte(input)))
}

func (p *person) issue(s claim.Spec) string {
	p.t.Helper()
	b, err := claim.Payload(p.id, s)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := claim.CheckPayload(p.id, b); err != nil {
		p.t.Fatal(err)
	}
	return p.sign(b)
}

func spec(subject string) claim.Spec {
	return claim.Spec{Subject: subject, Types: []string{"MembershipCredential"},
		Claims: map[string]any{"member": "of the <b>club</b>", "since": 2019.0}, Issued: now.Add(-time.Hour), Expires: now.Add(time.Hour)}
}

func TestIssuedAndSelfSigned(t *testing.T) {
	docs := documents{}
	club := newPerson(t, docs, "did:example:club", "assertionMethod")
	v := claim.Verifier{Keys: docs, Now: func() time.Time { return now }}
	c, err := v.Verify(t.Context(), club.issue(spec("did:example:ann"))+"\n", "did:example:ann")
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != club.id || c.Subject != "did:example:ann" || c.SelfSigned() || c.KeyID != club.kid ||
		!slices.Equal(c.Types, []string{"MembershipCredential"}) || c.Claims["member"] != "of the <b>club</b>" ||
		!c.Issued.Equal(now.Add(-time.Hour)) || c.Expires == nil || !c.Expires.Equal(now.Add(time.Hour)) || !strings.HasPrefix(c.ID, "urn:uuid:") {
		t.Errorf("read %+v", c)
	}
	self, err := v.Verify(t.Context(), club.issue(spec(club.id)), club.id)
	if err != nil || !self.SelfSigned() {
		t.Errorf("self-signed: %v, %v", self, err)
	}
	forever := spec(club.id)
	forever.Expires = time.Time{}
	if c, err := v.Verify(t.Context(), club.issue(forever), ""); err != nil || c.Expires != nil {
		t.Errorf("without an end: %+v, %v", c, err)
	}
}

// A did:key is resolved by the real resolver, without any network.
func TestRealResolver(t *testing.T) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	multi, err := did.Multikey(did.Ed25519, public)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, id: "did:key:" + multi, kid: "did:key:" + multi + "#" + multi, key: key}
	v := claim.Verifier{Keys: did.NewResolver(did.NewKey()), Now: func() time.Time { return now }}
	if _, err := v.Verify(t.Context(), p.issue(spec(p.id)), p.id); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), strings.Replace(p.issue(spec(p.id)), ".", ".e", 1), p.id); err == nil {
		t.Error("a changed credential verifies")
	}
}

func TestRefused(t *testing.T) {
	docs := documents{}
	club := newPerson(t, docs, "did:example:club", "assertionMethod", "authentication")
	login := newPerson(t, docs, "did:example:login", "authentication")
	thief := newPerson(t, documents{}, "did:example:club", "assertionMethod")
	good := claimsOf(t, club.issue(spec("did:example:ann")))
	header := map[string]any{"alg": "EdDSA", "kid": club.kid}
	with := func(m map[string]any, name string, v any) map[string]any {
		c := map[string]any{}
		for k, o := range m {
			c[k] = o
		}
		if c[name] = v; v == nil {
			delete(c, name)
		}
		return c
	}
	vc := good["vc"].(map[string]any)
	for _, test := range []struct {
		name, jwt string
		want      error
	}{
		{"foreign signature", thief.raw(header, good), claim.ErrSignature},
		{"key for logins only", login.issue(spec("did:example:ann")), claim.ErrKey},
		{"unknown key", club.raw(with(header, "kid", club.id+"#other"), good), claim.ErrKey},
		{"part of a key's id", club.raw(with(header, "kid", club.id+"#"), good), claim.ErrKey},
		{"empty kid", club.raw(with(header, "kid", ""), good), claim.ErrInvalid},
		{"no kid", club.raw(with(header, "kid", nil), good), claim.ErrInvalid},
		{"unknown issuer", club.raw(with(header, "kid", "did:example:nobody#k"), with(good, "iss", "did:example:nobody")), did.ErrNotFound},
		{"alg none", club.raw(with(header, "alg", "none"), good), claim.ErrAlgorithm},
		{"alg HS256", club.raw(with(header, "alg", "HS256"), good), claim.ErrAlgorithm},
		{"alg in other letters", club.raw(with(header, "alg", "eddsa"), good), claim.ErrAlgorithm},
		{"brings its key", club.raw(with(header, "jwk", map[string]any{}), good), claim.ErrInvalid},
		{"critical extension", club.raw(with(header, "crit", []string{"b64"}), good), claim.ErrInvalid},
		{"issuer is not the signer", club.raw(header, with(good, "iss", "did:example:ann")), claim.ErrInvalid},
		{"issuer within is another", club.raw(header, with(good, "vc", with(vc, "issuer", "did:example:ann"))), nil},
		{"subject within is another", club.raw(header, with(good, "sub", "did:example:bob")), claim.ErrInvalid},
		{"about another", club.issue(spec("did:example:bob")), claim.ErrSubject},
		{"no credential", club.raw(header, with(good, "vc", nil)), claim.ErrInvalid},
		{"not a VerifiableCredential", club.raw(header, with(good, "vc", with(vc, "type", []string{"Other"}))), claim.ErrInvalid},
		{"expired", club.raw(header, with(with(good, "exp", now.Unix()), "vc", with(vc, "expirationDate", now.Format(time.RFC3339)))), claim.ErrExpired},
		{"token expired, credential not", club.raw(header, with(good, "exp", now.Add(-time.Second).Unix())), claim.ErrExpired},
		{"not yet", club.raw(header, with(good, "nbf", now.Add(time.Hour).Unix())), claim.ErrNotYet},
		{"time is text", club.raw(header, with(good, "exp", "tomorrow")), claim.ErrInvalid},
		{"two parts", "e30.e30", claim.ErrInvalid},
		{"nothing", "", claim.ErrInvalid},
		{"too large", strings.Repeat("a", claim.Max+1), claim.ErrInvalid},
		{"a linked data proof", `{"proof":{}}`, claim.ErrInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := claim.Verifier{Keys: docs, Now: func() time.Time { return now }}
			c, err := v.Verify(t.Context(), test.jwt, "did:example:ann")
			if test.want == nil { // the token's members count, as the data model has it
				if err != nil || c.Issuer != club.id {
					t.Errorf("%+v, %v", c, err)
				}
				return
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func claimsOf(t *testing.T, jwt string) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Each flipped bit of the token is noticed.
func TestFlippedBits(t *testing.T) {
	docs := documents{}
	club := newPerson(t, docs, "did:example:club", "assertionMethod")
	jwt := club.issue(spec("did:example:ann"))
	v := claim.Verifier{Keys: docs, Now: func() time.Time { return now }}
	for i := range len(jwt) {
		b := []byte(jwt)
		b[i] ^= 1
		if _, err := v.Verify(t.Context(), string(b), ""); err == nil {
			t.Fatalf("byte %d may be changed", i)
		}
	}
}

// What an agent signs as a claim can never be the answer to a login.
func TestCheckPayload(t *testing.T) {
	for _, bad := range []string{
		`{"iss":"did:example:ann","sub":"did:example:ann","nonce":"n","aud":"https://site.example","vc":{}}`,
		`{"iss":"did:example:ann","aud":"https://site.example","vc":{}}`,
		`{"iss":"did:example:ann"}`,
		`{"iss":"did:example:bob","vc":{}}`,
		`{"ISS":"did:example:ann","vc":{}}`,
		`{"iss":"did:example:ann","iss":"did:example:ann","vc":{}}`,
		`[]`, `{`, ``,
	} {
		if err := claim.CheckPayload("did:example:ann", []byte(bad)); !errors.Is(err, claim.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestLinkage(t *testing.T) {
	docs := documents{}
	ann := newPerson(t, docs, "did:example:ann", "assertionMethod")
	bob := newPerson(t, docs, "did:example:bob", "assertionMethod")
	v := claim.Verifier{Keys: docs, Now: func() time.Time { return now }}
	link := func(p *person, origin string, expires time.Time) string {
		b, err := claim.LinkagePayload(p.id, origin, now.Add(-time.Hour), expires)
		if err != nil {
			t.Fatal(err)
		}
		return p.sign(b)
	}
	year := now.AddDate(1, 0, 0)
	good := link(ann, "https://Ann.example/", year)
	payload := claimsOf(t, good)
	withID := claimsOf(t, good)
	withID["vc"].(map[string]any)["id"] = "urn:x"
	for _, test := range []struct {
		name, id, origin string
		jwts             []string
		want             error
	}{
		{"linked", ann.id, "https://ann.example", []string{good}, nil},
		{"whoever is linked", "", "ann.example:443", []string{good}, nil},
		{"one of two", ann.id, "https://ann.example", []string{link(bob, "https://ann.example", year), good}, nil},
		{"other origin", ann.id, "https://bob.example", []string{good}, claim.ErrNotLinked},
		{"other port", ann.id, "https://ann.example:8443", []string{good}, claim.ErrNotLinked},
		{"other DID", bob.id, "https://ann.example", []string{good}, claim.ErrSubject},
		{"expired", ann.id, "https://ann.example", []string{link(ann, "https://ann.example", now)}, claim.ErrExpired},
		{"typ in the header", ann.id, "https://ann.example",
			[]string{ann.raw(map[string]any{"alg": "EdDSA", "kid": ann.kid, "typ": "JWT"}, payload)}, claim.ErrInvalid},
		{"with an id", ann.id, "https://ann.example",
			[]string{ann.raw(map[string]any{"alg": "EdDSA", "kid": ann.kid}, withID)}, claim.ErrInvalid},
		{"no linkage but another claim", ann.id, "https://ann.example",
			[]string{ann.issue(claim.Spec{Subject: ann.id, Claims: map[string]any{"origin": "https://ann.example"}, Issued: now, Expires: year})}, claim.ErrNotLinked},
		{"by somebody else", ann.id, "https://ann.example", []string{strings.Replace(good, ".", ".", 1)[:len(good)-4] + "AAAA"}, claim.ErrNotLinked},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, err := claim.Configuration(test.jwts...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.VerifyLinkage(t.Context(), file, test.id, test.origin)
			if !errors.Is(err, test.want) || test.want == nil && len(got) != 1 {
				t.Errorf("%v, %v, want %v", got, err, test.want)
			}
		})
	}
	for _, bad := range []string{"", "{}", `{"linked_dids":[]}`, `{"linked_dids":[{}]}`, `{"linked_dids":"x"}`} {
		if _, err := v.VerifyLinkage(t.Context(), []byte(bad), "", "https://ann.example"); !errors.Is(err, claim.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestFetchConfiguration(t *testing.T) {
	var answer func(w http.ResponseWriter)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != claim.WellKnown {
			t.Errorf("asked for %s", r.URL.Path)
		}
		answer(w)
	}))
	t.Cleanup(s.Close)
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   error
	}{
		{"there", func(w http.ResponseWriter) { fmt.Fprint(w, "{}") }, nil},
		{"missing", func(w http.ResponseWriter) { w.WriteHeader(404) }, claim.ErrNotLinked},
		{"redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(302) }, claim.ErrUnavailable},
		{"broken", func(w http.ResponseWriter) { w.WriteHeader(500) }, claim.ErrUnavailable},
		{"endless", func(w http.ResponseWriter) {
			for range 40 {
				_, _ = w.Write(make([]byte, claim.Max))
			}
		}, claim.ErrInvalid},
	} {
		answer = test.answer
		b, err := claim.FetchConfiguration(t.Context(), s.Client(), s.URL)
		if !errors.Is(err, test.want) || test.want == nil && string(b) != "{}" {
			t.Errorf("%s: %q, %v", test.name, b, err)
		}
	}
	if _, err := claim.FetchConfiguration(t.Context(), nil, "http://ann.example"); !errors.Is(err, claim.ErrInvalid) {
		t.Errorf("without TLS: %v", err)
	}
}

// FuzzVerify: no credential makes the verifier panic, or passes that is not signed.
func FuzzVerify(f *testing.F) {
	f.Add(`{"alg":"EdDSA","kid":"did:example:club#k"}`, `{"iss":"did:example:club","vc":{"type":"VerifiableCredential","credentialSubject":{"id":"did:example:ann"}}}`, true)
	f.Add(`{"alg":"EdDSA","kid":"did:example:club#k","crit":[]}`, `{"iss":"did:example:club","nbf":1e300,"vc":[]}`, true)
	f.Add(`{`, `}`, false)
	f.Fuzz(func(t *testing.T, header, payload string, signed bool) {
		docs := documents{}
		club := newPerson(t, docs, "did:example:club", "assertionMethod")
		input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		sig := make([]byte, ed25519.SignatureSize)
		if signed {
			sig = ed25519.Sign(club.key, []byte(input))
		}
		v := claim.Verifier{Keys: docs, Now: func() time.Time { return now }}
		c, err := v.Verify(t.Context(), input+"."+base64.RawURLEncoding.EncodeToString(sig), "")
		if err == nil && (!signed || c.Issuer != club.id) {
			t.Fatalf("verifies: %+v", c)
		}
	})
}
