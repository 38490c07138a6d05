package login

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

const testSite = "https://example.com"

type signer struct{ ed25519.PrivateKey }

func newSigner(b byte) signer {
	return signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))}
}

func (s signer) Public() []byte { return s.PrivateKey.Public().(ed25519.PublicKey) }

func (s signer) Sign(_ context.Context, msg []byte) ([]byte, error) {
	return ed25519.Sign(s.PrivateKey, msg), nil
}

// user is a did:webvh with two devices, of which the second makes claims only.
type user struct {
	t       *testing.T
	store   *webvh.Memory
	method  *webvh.Method
	update  signer
	devices map[string]signer
	did     string
}

func newUser(t *testing.T, b byte) *user {
	t.Helper()
	u := &user{t: t, store: webvh.NewMemory(), update: newSigner(b), devices: map[string]signer{"one": newSigner(b + 1), "two": newSigner(b + 2), "three": newSigner(b + 3)}}
	u.method = webvh.New(webvh.Config{Store: u.store, Location: "user.example", Portable: true})
	doc, err := u.method.Create(t.Context(), u.lists("one", "two"), u.update)
	if err != nil {
		t.Fatal(err)
	}
	u.did = doc.ID
	return u
}

// lists is a document with these devices; "three" is for claims alone.
func (u *user) lists(devices ...string) did.Change {
	var c did.Change
	for _, d := range append(devices, "three") {
		uses := []did.Relationship{did.Authentication}
		if d == "three" {
			uses[0] = did.AssertionMethod
		}
		c.Keys = append(c.Keys, did.Key{Fragment: d, Type: did.Ed25519, Public: u.devices[d].Public(), Relationships: uses})
	}
	return c
}

func (u *user) change(c did.Change) {
	u.t.Helper()
	doc, err := u.method.Update(u.t.Context(), u.did, c, u.update)
	if err != nil {
		u.t.Fatal(err)
	}
	u.did = doc.ID
}

func (u *user) log() []byte {
	u.t.Helper()
	id, err := webvh.ParseID(u.did)
	if err != nil {
		u.t.Fatal(err)
	}
	b, err := u.store.Log(u.t.Context(), id)
	if err != nil {
		u.t.Fatal(err)
	}
	return b
}

// answer is what the program of the user would send from a device.
func (u *user) answer(r Request, device string, log []byte) Response {
	u.t.Helper()
	token, err := Answer(r.Challenge(), u.did, u.did+"#"+device, time.Now(), func(m []byte) []byte { return ed25519.Sign(u.devices[device].PrivateKey, m) })
	if err != nil {
		u.t.Fatal(err)
	}
	return Response{IDToken: token, Log: log}
}

// none is for services that ask nobody.
func none() []webvh.Source { return []webvh.Source{} }

func newVerifier(t *testing.T, cfg Config) *Verifier {
	t.Helper()
	if cfg.Audience == "" {
		cfg.Audience = testSite
	}
	if strings.HasPrefix(cfg.Audience, "https:") {
		cfg.ResponseURI = cfg.Audience + "/login/answer"
	}
	if cfg.Sources == nil {
		cfg.Sources = none()
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func begin(t *testing.T, v *Verifier) Request {
	t.Helper()
	r := v.Begin()
	parsed, err := ParseRequest(r.String())
	if err != nil || parsed.String() != r.String() {
		t.Fatalf("%s: %v", r, err)
	}
	return parsed
}

func TestLogin(t *testing.T) {
	u := newUser(t, 10)
	v := newVerifier(t, Config{Claims: []string{"name", "email"}})
	r := begin(t, v)
	if r.Audience != testSite || len(r.Claims) != 2 || r.ResponseURI == "" {
		t.Errorf("%+v", r)
	}
	answer := u.answer(r, "one", u.log()).Encode()
	l, err := v.Verify(t.Context(), answer)
	if err != nil {
		t.Fatal(err)
	}
	if l.DID != u.did || l.KeyID != u.did+"#one" || l.Version.Number != 1 || l.Nonce != r.Nonce || !strings.HasPrefix(l.DID, l.ID+":") {
		t.Errorf("%+v", l)
	}
	if _, err := v.Verify(t.Context(), answer); !errors.Is(err, ErrRefused) {
		t.Errorf("replayed: %v", err)
	}
	// A request that another service made is not known here, nor is one for another service.
	other := newVerifier(t, Config{Audience: "https://other.example"})
	if _, err := other.Verify(t.Context(), u.answer(begin(t, v), "one", u.log()).Encode()); !errors.Is(err, ErrRefused) {
		t.Errorf("of another service: %v", err)
	}
	wrong := begin(t, v)
	wrong.Audience = "https://other.example"
	if _, err := v.Verify(t.Context(), u.answer(wrong, "one", u.log()).Encode()); !errors.Is(err, ErrRefused) {
		t.Errorf("for another service: %v", err)
	}
}

func TestLoginRefuses(t *testing.T) {
	u, other := newUser(t, 10), newUser(t, 20)
	first := u.log()
	u.change(u.lists("one")) // "two" is revoked
	second := u.log()
	gone := newUser(t, 30)
	if err := gone.method.Deactivate(t.Context(), gone.did, gone.update); err != nil {
		t.Fatal(err)
	}
	altered := bytes.Replace(second, []byte("#one"), []byte("#two"), 1)
	for name, c := range map[string]struct {
		answer func(Request) Response
		want   error
	}{
		"revoked device":           {func(r Request) Response { return u.answer(r, "two", second) }, ErrDevice},
		"revoked, with older log":  {func(r Request) Response { return u.answer(r, "two", first) }, ErrRefused},
		"older log":                {func(r Request) Response { return u.answer(r, "one", first) }, ErrRollback},
		"altered log":              {func(r Request) Response { return u.answer(r, "one", altered) }, ErrRollback},
		"log of another":           {func(r Request) Response { return u.answer(r, "one", other.log()) }, ErrRollback},
		"key for claims only":      {func(r Request) Response { return u.answer(r, "three", second) }, ErrRefused},
		"deactivated":              {func(r Request) Response { return gone.answer(r, "one", gone.log()) }, ErrDeactivated},
		"unknown to all, no log":   {func(r Request) Response { return other.answer(r, "one", nil) }, ErrRefused},
		"unknown method":           {func(r Request) Response { o := *u; o.did = "did:x:y"; return o.answer(r, "one", nil) }, ErrRefused},
		"DID of another, own keys": {func(r Request) Response { o := *u; o.did = other.did; return o.answer(r, "one", other.log()) }, ErrRefused},
		"credential of another": {func(r Request) Response {
			a := u.answer(r, "one", second)
			a.Credentials = []string{other.claims(map[string]any{"name": "Eve"})}
			return a
		}, ErrRefused},
		"credential by a login key": {func(r Request) Response {
			a := u.answer(r, "one", second)
			a.Credentials = []string{u.claimsBy("one", map[string]any{"name": "Eve"})}
			return a
		}, ErrRefused},
	} {
		v := newVerifier(t, Config{})
		if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", second).Encode()); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), c.answer(begin(t, v)).Encode()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		// What was refused has changed nothing.
		if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", second).Encode()); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no form": "%zz", "twice": "id_token=a&id_token=b", "log twice": "id_token=a&did_log=&did_log=", "log": "id_token=a&did_log=%20",
		"long": "id_token=" + strings.Repeat("A", MaxResponse), "credentials": "id_token=a" + strings.Repeat("&credential=x", credentialsMax+1),
	} {
		if _, err := newVerifier(t, Config{}).Verify(t.Context(), text); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The spoken-for header of a token decides nothing by itself.
func TestLoginRefusesTokens(t *testing.T) {
	u := newUser(t, 10)
	p := &prover{key: u.devices["one"].PrivateKey, did: u.did, kid: u.did + "#one"}
	for name, edit := range map[string]func(h, c map[string]any){
		"empty kid":   func(h, _ map[string]any) { h["kid"] = "" },
		"unknown kid": func(h, _ map[string]any) { h["kid"] = u.did + "#four" },
		"kid is all":  func(h, _ map[string]any) { h["kid"] = u.did + "#" },
		"kid of two":  func(h, _ map[string]any) { h["kid"] = u.did + "#two" },
		"alg none":    func(h, _ map[string]any) { h["alg"] = "none" },
		"alg HS256":   func(h, _ map[string]any) { h["alg"] = "HS256" },
		"alg ES256":   func(h, _ map[string]any) { h["alg"] = "ES256" },
		"expired":     func(_, c map[string]any) { c["iat"], c["exp"] = time.Now().Unix()-120, time.Now().Unix()-1 },
		"audience":    func(_, c map[string]any) { c["aud"] = "https://example.org" },
		"subject":     func(_, c map[string]any) { c["sub"] = "did:example:x" },
		"nonce":       func(_, c map[string]any) { c["nonce"] = strings.Repeat("A", 43) },
	} {
		v := newVerifier(t, Config{})
		r := begin(t, v)
		h, c := p.honest(r.Challenge(), time.Now())
		if _, err := v.Verify(t.Context(), Response{IDToken: p.token(t, h, c), Log: u.log()}.Encode()); err != nil {
			t.Fatal("the honest one: ", err)
		}
		h, c = p.honest(begin(t, v).Challenge(), time.Now())
		edit(h, c)
		if _, err := v.Verify(t.Context(), Response{IDToken: p.token(t, h, c), Log: u.log()}.Encode()); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A service that starts again remembers, and a source that has a newer log is heard.
func TestLoginRemembers(t *testing.T) {
	u := newUser(t, 10)
	first := u.log()
	u.change(u.lists("one"))
	dir := t.TempDir()
	open := func(sources ...webvh.Source) *Verifier {
		logs, err := NewDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return newVerifier(t, Config{Logs: logs, Sources: append(none(), sources...)})
	}
	// Somebody who proves nothing leaves nothing.
	v := open()
	stranger := newUser(t, 20)
	bad := stranger.answer(begin(t, v), "one", stranger.log())
	bad.IDToken = bad.IDToken[:len(bad.IDToken)-4] + "AAAA"
	if _, err := v.Verify(t.Context(), bad.Encode()); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	id, _ := webvh.ParseID(stranger.did)
	if _, err := v.cfg.Logs.Log(t.Context(), id); !errors.Is(err, did.ErrNotFound) {
		t.Errorf("a stranger's log was kept: %v", err)
	}
	// The revoked device comes first, with the log in which it stood: a source tells.
	v = open(u.store)
	if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "two", first).Encode()); !errors.Is(err, ErrDevice) {
		t.Errorf("a revoked device, known to a source: %v", err)
	}
	v = open()
	if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", u.log()).Encode()); err != nil {
		t.Fatal(err)
	}
	v = open()
	if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "two", first).Encode()); !errors.Is(err, ErrRefused) {
		t.Errorf("an older log after a restart: %v", err)
	}
	// Without a log, the one that is remembered counts.
	if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", nil).Encode()); err != nil {
		t.Error(err)
	}
	// The DID moves; the account stays.
	before := account(u.did)
	c := u.lists("one")
	c.Location = "elsewhere.example"
	u.change(c)
	l, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", u.log()).Encode())
	if err != nil || l.ID != before || !strings.HasSuffix(l.DID, "elsewhere.example") {
		t.Errorf("moved: %+v, %v", l, err)
	}
}

// Of logins at the same time the newest log stays.
func TestLoginsAtOnce(t *testing.T) {
	u := newUser(t, 10)
	logs := [][]byte{u.log()}
	for range 5 {
		u.change(u.lists("one"))
		logs = append(logs, u.log())
	}
	v := newVerifier(t, Config{})
	var wg sync.WaitGroup
	for _, log := range logs {
		answer := u.answer(begin(t, v), "one", log).Encode()
		wg.Go(func() { _, _ = v.Verify(t.Context(), answer) }) // some come too late
	}
	wg.Wait()
	if _, err := v.Verify(t.Context(), u.answer(begin(t, v), "one", u.log()).Encode()); err != nil {
		t.Fatal(err)
	}
	id, _ := webvh.ParseID(u.did)
	if b, err := v.cfg.Logs.Log(t.Context(), id); err != nil || !bytes.Equal(b, u.log()) {
		t.Errorf("%d bytes are kept, %v", len(b), err)
	}
}

func (u *user) claims(about map[string]any) string { return u.claimsBy("three", about) }

func (u *user) claimsBy(device string, about map[string]any) string {
	u.t.Helper()
	return u.says(u.did, device, about)
}

func (u *user) says(subject, device string, about map[string]any) string {
	u.t.Helper()
	payload, err := claim.Payload(u.did, claim.Spec{Subject: subject, Claims: about, Issued: time.Now().Add(-time.Minute)})
	if err != nil {
		u.t.Fatal(err)
	}
	jwt, err := claim.Sign(u.did+"#"+device, payload, func(m []byte) []byte { return ed25519.Sign(u.devices[device].PrivateKey, m) })
	if err != nil {
		u.t.Fatal(err)
	}
	return jwt
}

func TestLoginWithCredentials(t *testing.T) {
	u := newUser(t, 10)
	v := newVerifier(t, Config{Claims: []string{"name"}})
	a := u.answer(begin(t, v), "one", u.log())
	a.Credentials = []string{u.claims(map[string]any{"name": "Ada"})}
	l, err := v.Verify(t.Context(), a.Encode())
	if err != nil || len(l.Credentials) != 1 || l.Credentials[0].Claims["name"] != "Ada" || !l.Credentials[0].SelfSigned() {
		t.Errorf("%+v, %v", l, err)
	}
	// Another one is known, and speaks of the user, or of itself.
	other := newUser(t, 20)
	v = newVerifier(t, Config{Sources: []webvh.Source{other.store}})
	for subject, want := range map[string]error{u.did: nil, other.did: claim.ErrSubject} {
		a := u.answer(begin(t, v), "one", u.log())
		a.Credentials = []string{other.says(subject, "three", map[string]any{"member": true})}
		l, err := v.Verify(t.Context(), a.Encode())
		if !errors.Is(err, want) || err == nil && (l.Credentials[0].Issuer != other.did || l.Credentials[0].SelfSigned()) {
			t.Errorf("about %s: %+v, %v", subject, l, err)
		}
	}
}

// However two logins come about each other, the memory does not go back.
func TestMemoryDoesNotGoBack(t *testing.T) {
	u := newUser(t, 10)
	first := u.log()
	u.change(u.lists("one"))
	second := u.log()
	id, err := webvh.ParseID(u.did)
	if err != nil {
		t.Fatal(err)
	}
	m := newVerifier(t, Config{}).logs
	for _, log := range [][]byte{second, first} {
		if err := m.advance(t.Context(), finding{id: id, log: log}); err != nil {
			t.Error(err)
		}
	}
	if b, err := m.Log(t.Context(), id); err != nil || !bytes.Equal(b, second) {
		t.Errorf("%s, %v", b, err)
	}
	if err := m.advance(t.Context(), finding{id: id, log: newUser(t, 20).log()}); !errors.Is(err, ErrRollback) {
		t.Errorf("another history: %v", err)
	}
}

func TestRequests(t *testing.T) {
	nonce := strings.Repeat("n", 43)
	for _, r := range []Request{
		{Audience: "https://example.com", Nonce: nonce, ResponseURI: "https://example.com/"},
		{Audience: "https://example.com:8443", Nonce: nonce, ResponseURI: "https://example.com:8443/a?b=c"},
		{Audience: "http://127.0.0.1:8080", Nonce: nonce, ResponseURI: "http://127.0.0.1:8080/"},
		{Audience: "http://[::1]:8080", Nonce: nonce, ResponseURI: "http://[::1]:8080/a"},
		{Audience: "http://localhost", Nonce: nonce, ResponseURI: "http://localhost/a", Claims: []string{"email", "name"}},
		{Audience: "urn:example:backup", Nonce: nonce},
	} {
		got, err := ParseRequest(r.String() + "\n")
		if err != nil || fmt.Sprint(got) != fmt.Sprint(r) {
			t.Errorf("%s: %+v, %v", r, got, err)
		}
	}
	good := Request{Audience: "https://example.com", Nonce: nonce, ResponseURI: "https://example.com/a"}
	for name, edit := range map[string]func(r *Request){
		"http":                func(r *Request) { r.Audience, r.ResponseURI = "http://example.com", "http://example.com/a" },
		"a site to nobody":    func(r *Request) { r.ResponseURI = "" },
		"a program to a site": func(r *Request) { r.Audience = "urn:example:x" },
		"path":                func(r *Request) { r.Audience, r.ResponseURI = "https://example.com/", "https://example.com/a" },
		"upper case":          func(r *Request) { r.Audience, r.ResponseURI = "https://Example.com", "https://Example.com/a" },
		"another alphabet":    func(r *Request) { r.Audience, r.ResponseURI = "https://exаmple.com", "https://exаmple.com/a" },
		"default port":        func(r *Request) { r.Audience, r.ResponseURI = "https://example.com:443", "https://example.com:443/a" },
		"our own purpose":     func(r *Request) { r.Audience, r.ResponseURI = "urn:ipfscloud:login", "" },
		"our own, louder":     func(r *Request) { r.Audience, r.ResponseURI = "urn:IPFSCloud:login", "" },
		"a DID":               func(r *Request) { r.Audience, r.ResponseURI = "did:key:x", "" },
		"nobody":              func(r *Request) { r.Audience, r.ResponseURI = "", "" },
		"user":                func(r *Request) { r.Audience, r.ResponseURI = "https://a@example.com", "https://a@example.com/a" },
		"escape": func(r *Request) {
			r.Audience, r.ResponseURI = "https://example.com\x1b[2J", "https://example.com\x1b[2J/a"
		},
		"answer elsewhere": func(r *Request) { r.ResponseURI = "https://evil.example/a" },
		"other port":       func(r *Request) { r.ResponseURI = "https://example.com:1/a" },
		"answer by http":   func(r *Request) { r.ResponseURI = "http://example.com/a" },
		"answer with user": func(r *Request) { r.ResponseURI = "https://example.com@evil.example/a" },
		"no nonce":         func(r *Request) { r.Nonce = "" },
		"short nonce":      func(r *Request) { r.Nonce = "abc" },
		"claim":            func(r *Request) { r.Claims = []string{"a\nb"} },
		"no claim":         func(r *Request) { r.Claims = []string{""} },
	} {
		r := good
		edit(&r)
		if got, err := ParseRequest(r.String()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, text := range []string{
		"", "https://example.com", "siopv2:", strings.Replace(good.String(), "siopv2:", "https:", 1),
		good.String() + "&nonce=" + nonce, good.String() + "&request_uri=https://example.com/x", good.String() + "&request=x",
		strings.Replace(good.String(), "response_type=id_token", "response_type=code", 1),
		strings.Replace(good.String(), "direct_post", "fragment", 1), good.String() + "&claims=%7B", good.String() + "&x=" + strings.Repeat("A", requestMax),
	} {
		if got, err := ParseRequest(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.200s: %+v, %v", text, got, err)
		}
	}
	for _, c := range []Config{{Audience: "http://example.com", ResponseURI: "http://example.com/"}, {Audience: testSite}, {}} {
		if _, err := New(c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What a service takes in with this package. Of the drive that is safefile alone, which
// imports nothing but the standard library and the kernel's interface.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.Contains(p, "ipfs/kubo") || strings.Contains(p, "ipfs/boxo") || strings.Contains(p, "libp2p") || strings.Contains(p, "cluster-labs/ipfscloud/fs") && !strings.HasSuffix(p, "/ipfscloud/fs/safefile") ||
			strings.HasSuffix(p, "cluster-labs/ipfscloud/auth") || strings.Contains(p, "cluster-labs/ipfscloud/daemon") {
			t.Errorf("imports %s", p)
		}
	}
}
