package login

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// reasons collects why a site refused.
type reasons struct {
	mu   sync.Mutex
	errs []error
}

func (r *reasons) add(_ *http.Request, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reasons) last() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs[len(r.errs)-1]
}

// strangersSite is a site with the defaults, and did:web beside.
func strangersSite(t *testing.T) (*httptest.Server, *reasons) {
	t.Helper()
	var site *Site
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	why := &reasons{}
	var err error
	site, err = NewSite(SiteConfig{
		Config: Config{Audience: server.URL, Methods: []did.Method{did.NewWeb(did.WebConfig{})}}, Path: "/login/", Refused: why.add,
		Done: func(w http.ResponseWriter, _ *http.Request, l *Login) { _, _ = io.WriteString(w, "you are "+l.DID) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, why
}

// service listens on loopback, and counts who connects.
func service(t *testing.T) (port int, connected *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connected = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			_, _ = io.WriteString(c, "+PONG secret banner\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port, connected
}

// A stranger cannot make a site connect to what is inside, and learns nothing from what the
// site answers; the site's own log has the reason.
func TestStrangersReachNothingInside(t *testing.T) {
	server, why := strangersSite(t)
	open, connected := service(t)
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	closedPort := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	browser := newBrowser(t)
	const scid = "QmfGEUAcMpzo25kF2Rhn8L5FAXysfGnkzjwdKoNPi615XQ"
	request := func() Request {
		_, page := get(t, browser, server.URL+"/login/")
		return shown(t, page)
	}
	said := map[string]bool{}
	for _, port := range []int{open, closedPort} {
		// One whose log does not come along, one that is signed by a key of the DID and so gets
		// as far as the network, and one whose document has to be fetched before anything.
		real := newUserAt(t, 40, fmt.Sprintf("localhost.localdomain%%3A%d", port))
		forms := map[string]func(Request) (text string, network bool){
			"no log": func(r Request) (string, bool) {
				id := fmt.Sprintf("did:webvh:%s:localhost.localdomain%%3A%d", scid, port)
				p := newProver(t, 9)
				p.did, p.kid = id, id+"#x"
				h, c := p.honest(r.Challenge(), time.Now())
				return Response{IDToken: p.token(t, h, c)}.Encode(), false
			},
			"not signed by a key of its own log": func(r Request) (string, bool) {
				a := real.answer(r, "one", real.log())
				a.IDToken = a.IDToken[:strings.LastIndex(a.IDToken, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
				return a.Encode(), false
			},
			"did:web": func(r Request) (string, bool) {
				id := fmt.Sprintf("did:web:localhost%%3A%d", port)
				p := newProver(t, 9)
				p.did, p.kid = id, id+"#x"
				h, c := p.honest(r.Challenge(), time.Now())
				return Response{IDToken: p.token(t, h, c)}.Encode(), true
			},
		}
		for name, form := range forms {
			r := request()
			text, network := form(r)
			code, p := post(t, r, text)
			if code != http.StatusForbidden || p.RedirectURI != "" {
				t.Errorf("%s: %d %+v", name, code, p)
			}
			said[fmt.Sprint(code, p)] = true
			if err := why.last(); errors.Is(err, fetch.ErrForbidden) != network {
				t.Errorf("%s, as the site's log has it: %v", name, err)
			}
		}
	}
	// A token that is wrong in itself, an answer that is none, and one that was given before.
	r := request()
	for _, text := range []string{"id_token=x", "%zz"} {
		code, p := post(t, r, text)
		said[fmt.Sprint(code, p)] = true
	}
	if len(said) != 1 {
		t.Errorf("strangers are told different things: %v", said)
	}
	if n := connected.Load(); n != 0 {
		t.Errorf("%d connections to a service inside", n)
	}
}

// newUserAt is a user whose DID names a place.
func newUserAt(t *testing.T, b byte, place string) *user {
	t.Helper()
	u := newUser(t, b)
	u.store = webvh.NewMemory()
	u.method = webvh.New(webvh.Config{Store: u.store, Location: place, Portable: true})
	doc, err := u.method.Create(t.Context(), u.lists("one", "two"), u.update)
	if err != nil {
		t.Fatal(err)
	}
	u.did = doc.ID
	return u
}

// counted is a source that counts who asks it.
type counted struct{ n atomic.Int32 }

func (c *counted) Log(_ context.Context, id webvh.ID) ([]byte, error) {
	c.n.Add(1)
	return nil, fmt.Errorf("%s: %w", id, did.ErrNotFound)
}

func (c *counted) Witness(ctx context.Context, id webvh.ID) ([]byte, error) { return c.Log(ctx, id) }

// The network is asked once, and only when everything that can be judged without it holds.
func TestNetworkComesLast(t *testing.T) {
	u := newUser(t, 10)
	for name, edit := range map[string]func(h, c map[string]any, a *Response){
		"":              func(map[string]any, map[string]any, *Response) {},
		"aud":           func(_, c map[string]any, _ *Response) { c["aud"] = "https://example.org" },
		"exp":           func(_, c map[string]any, _ *Response) { c["exp"] = time.Now().Unix() - 1 },
		"alg":           func(h, _ map[string]any, _ *Response) { h["alg"] = "none" },
		"kid":           func(h, _ map[string]any, _ *Response) { h["kid"] = u.did },
		"kid of nobody": func(h, _ map[string]any, _ *Response) { h["kid"] = u.did + "#four" },
		"nonce":         func(_, c map[string]any, _ *Response) { c["nonce"] = strings.Repeat("A", 43) },
		"no log":        func(_, _ map[string]any, a *Response) { a.Log = nil },
		"altered log":   func(_, _ map[string]any, a *Response) { a.Log = append([]byte("x"), a.Log...) },
	} {
		source := &counted{}
		v := newVerifier(t, Config{Sources: []webvh.Source{source}})
		p := &prover{key: u.devices["one"].PrivateKey, did: u.did, kid: u.did + "#one"}
		h, c := p.honest(v.Begin().Challenge(), time.Now())
		a := Response{Log: u.log()}
		edit(h, c, &a)
		a.IDToken = p.token(t, h, c)
		_, err := v.Verify(t.Context(), a.Encode())
		if asked := source.n.Load() > 0; asked != (name == "") || (err == nil) != (name == "") {
			t.Errorf("%q: asked %d times, %v", name, source.n.Load(), err)
		}
	}
}

// Pages that are loaded and left alone shut nobody out, and neither do many logins of one
// client.
func TestManyLoginsShutNobodyOut(t *testing.T) {
	var site *Site
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.ServeHTTP(w, r) }))
	defer server.Close()
	site, err := NewSite(SiteConfig{Config: Config{Audience: server.URL, Sources: none()}, Path: "/login/",
		Done: func(w http.ResponseWriter, _ *http.Request, l *Login) { _, _ = io.WriteString(w, "you are "+l.DID) }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, server.URL+"/login/", nil))
		if w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	u := newUser(t, 10)
	b := newBrowser(t)
	_, page := get(t, b, server.URL+"/login/")
	r := shown(t, page)
	code, p := post(t, r, u.answer(r, "one", u.log()).Encode())
	if code != http.StatusOK {
		t.Fatal(code, p)
	}
	// The flood comes from one client, after the login that waits for its browser. The other
	// client has an address of its own.
	for k, a := range site.agreed.by {
		a.client = "192.0.2.1"
		site.agreed.by[k] = a
	}
	for i := range 3 * agreedMax {
		site.agreed.add(agreement{login: &Login{Nonce: fmt.Sprint(i), Credentials: []*claim.Credential{{JWT: "x"}}}, client: "198.51.100.7", expires: time.Now().Add(challengeLife)}, time.Now())
	}
	if n := len(site.agreed.by); n != agreedMax {
		t.Errorf("%d logins wait", n)
	}
	if code, text := get(t, b, p.RedirectURI); code != http.StatusOK || text != "you are "+u.did {
		t.Errorf("displaced by another client: %d %s", code, text)
	}
	big := strings.Repeat("x", agreedBytes/10)
	for range 30 {
		site.agreed.add(agreement{login: &Login{Credentials: []*claim.Credential{{JWT: big}}}, expires: time.Now().Add(challengeLife)}, time.Now())
	}
	if site.agreed.bytes > agreedBytes {
		t.Errorf("%d bytes wait", site.agreed.bytes)
	}
}

func TestSharesOfClients(t *testing.T) {
	s := newShares()
	var done []func()
	take := func(client string) error {
		d, err := s.take(client)
		if err == nil {
			done = append(done, d)
		}
		return err
	}
	for range judgeOne {
		if err := take("a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := take("a"); !errors.Is(err, ErrBusy) {
		t.Errorf("more than its share: %v", err)
	}
	if err := take("b"); err != nil {
		t.Errorf("another client: %v", err)
	}
	for _, d := range done {
		d()
	}
	if s.all != 0 || len(s.by) != 0 {
		t.Errorf("left: %+v", s)
	}
	for remote, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1",
		"127.0.0.1:5": "", "10.0.0.1:5": "", "[::1]:5": "", "[fe80::1%eth0]:5": "", "@": "",
	} {
		if got := connection(&http.Request{RemoteAddr: remote}); got != want {
			t.Errorf("%s: %q", remote, got)
		}
	}
}
