package horizon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const nobody = 65534

// raw is a request as a program writes it to a socket.
func raw(s *site, method, path, body string, header ...string) string {
	host := strings.TrimSuffix(strings.TrimPrefix(s.URL(), "http://"), "/")
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, path, host)
	if method == "POST" {
		text += fmt.Sprintf("Origin: http://%s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", host, len(body))
	}
	for i := 0; i+1 < len(header); i += 2 {
		text += header[i] + ": " + header[i+1] + "\r\n"
	}
	return fmt.Sprintf("ask %s %q", s.address(), text+"\r\n"+body)
}

// Another user who has come to see the code, or the cookie, gets nothing by it, and cannot
// use the code up either. One to whom the owner gives a code gets in.
func TestCodesAreOfOneUser(t *testing.T) {
	s := serve(t)
	do := asStranger(t, nobody)
	l := s.Login()
	form := url.Values{"code": {l.Code}}.Encode()
	if got := do(raw(s, "POST", "/login", form)); !strings.HasPrefix(got, "HTTP/1.1 403") || strings.Contains(got, "Set-Cookie") {
		t.Errorf("another user brings the code: %.300s", got)
	}
	hello := url.Values{"id": {l.pass.id}, "nonce": {strings.Repeat("n", 64)}}.Encode()
	if got := do(raw(s, "POST", "/hello", hello)); !strings.HasPrefix(got, "HTTP/1.1 403") || strings.Contains(got, "proof") {
		t.Errorf("another user has the page prove itself: %.300s", got)
	}
	resp, _ := s.ask("POST", "/login", form)
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("the owner's own code: %s", resp.Status)
	}
	cookie := resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	if got := do(raw(s, "GET", "/", "", "Cookie", cookie)); !strings.HasPrefix(got, "HTTP/1.1 303") || strings.Contains(got, "sentence") {
		t.Errorf("another user brings the cookie: %.300s", got)
	}
	if resp, _ := s.ask("GET", "/", "", "Cookie", cookie); resp.StatusCode != http.StatusOK {
		t.Errorf("the owner after that: %s", resp.Status)
	}
	given, err := s.Server.Login(nobody)
	if err != nil {
		t.Fatal(err)
	}
	if got := do(raw(s, "POST", "/login", url.Values{"code": {given.Code}}.Encode())); !strings.HasPrefix(got, "HTTP/1.1 303") {
		t.Errorf("a code that was made for the user: %.300s", got)
	}
}

// One user with 200 connections that say nothing does not keep the owner out, and neither
// does the owner's own program that does the same. Who is logged in stays connected.
func TestSlowStrangers(t *testing.T) {
	s := serve(t)
	cookie, _ := s.login()
	dialled := 0
	in := &http.Transport{MaxIdleConns: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialled++
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.address())
	}}
	defer in.CloseIdleConnections()
	look := func(what string) {
		t.Helper()
		if resp, _ := s.ask("GET", "/login", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", what, resp.Status)
		}
		r, err := http.NewRequest("GET", s.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", cookie)
		resp, err := in.RoundTrip(r)
		if err != nil {
			t.Fatal(what, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || dialled != 1 {
			t.Errorf("%s: %s by connection number %d", what, resp.Status, dialled)
		}
	}
	look("before")
	do := asStranger(t, nobody)
	do("slow " + s.address() + " 200")
	look("with 200 slow connections of another user")
	var own []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", s.address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
		own = append(own, c)
	}
	look("with 200 slow connections of the owner as well")
	for _, c := range own {
		c.Close()
	}
}

// Who has to go when there is no room.
func TestGate(t *testing.T) {
	l := defaultLimits()
	me := os.Geteuid()
	at := time.Now()
	add := func(g *gate, user int, known bool) (*conn, *conn) {
		at = at.Add(time.Second)
		c := &conn{gate: g, user: user, since: at, known: known}
		return c, g.admit(c)
	}
	g := newGate(l)
	first, _ := add(g, 1001, false)
	for range l.otherOne - 1 {
		if _, victim := add(g, 1001, false); victim != nil {
			t.Fatal("below the bound of one user")
		}
	}
	if _, victim := add(g, 1001, false); victim != first {
		t.Error("beyond the bound of one user, not their oldest goes")
	}
	for u := 2000; len(g.open) < l.others; u++ {
		add(g, u, false)
	}
	if _, victim := add(g, unknownUser, false); victim == nil || victim.user != 1001 {
		t.Errorf("beyond the bound of all others goes %+v", victim)
	}
	in, _ := add(g, me, true)
	for len(g.open) < l.conns {
		if _, victim := add(g, me, false); victim != nil {
			t.Fatal("there is room")
		}
	}
	for range l.conns + 10 {
		if _, victim := add(g, me, false); victim == nil || victim.known || len(g.open) != l.conns {
			t.Fatalf("of %d goes %+v", len(g.open), victim)
		}
	}
	if _, here := g.open[in]; !here {
		t.Error("who was logged in had to go")
	}
	g = newGate(l)
	old, _ := add(g, me, true)
	for len(g.open) < l.conns {
		add(g, me, true)
	}
	if _, victim := add(g, me, false); victim != old {
		t.Error("if all are logged in, the oldest goes")
	}
}

// Another server at the page's address gets nothing out of the redirect file that would be
// of use at the real one.
func TestChromiumImpostor(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var mu sync.Mutex
	var heard []string
	impostor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		heard = append(heard, r.Method+" "+r.URL.String()+" "+string(b))
		mu.Unlock()
		w.Header().Set("Access-Control-Allow-Origin", "null")
		_ = json.NewEncoder(w).Encode(map[string]string{"nonce": "n", "proof": strings.Repeat("ab", 32)})
	}))
	defer impostor.Close()
	l := s.Login()
	port := portOf(impostor.Listener)
	l.page = fmt.Sprintf("http://%s:%d/", s.name, port)
	file := filepath.Join(t.TempDir(), "open.html")
	if err := os.WriteFile(file, redirectOf(t, l), 0o600); err != nil {
		t.Fatal(err)
	}
	b := browse(t, 1000, 620)
	b.Leads("the redirect file", "#said", chromedp.Navigate("file://"+file))
	b.Says("#said", "is not your drive’s page. Nothing was told to it.")
	mu.Lock()
	all := strings.Join(heard, "\n")
	mu.Unlock()
	if len(heard) != 1 || !strings.HasPrefix(all, "POST /hello ") || strings.Contains(all, l.Code) || strings.Contains(all, fmt.Sprintf("%x", l.pass.key)) {
		t.Errorf("the impostor heard: %s", all)
	}
	// What it heard does not open the page, and the pass is still good for its owner.
	q, err := url.ParseQuery(strings.TrimPrefix(all, "POST /hello "))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{q.Get("id"), q.Get("id") + ".", q.Get("id") + "." + q.Get("nonce"), q.Get("id") + "." + l.pass.proof(proofOfServer, q.Get("nonce"), "n")} {
		if _, err := s.sessions.redeem(words, os.Geteuid()); err == nil {
			t.Errorf("opened by %q", words)
		}
	}
	l.page = s.URL()
	if err := os.WriteFile(file, redirectOf(t, l), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Leads("the page itself", "#sentence", chromedp.Navigate("file://"+file))
	b.Says("#feed", "Live")
	// The file is good once.
	b.Excuse("403")
	b.Leads("a second time", "#said", chromedp.Navigate("file://"+file))
	b.Says("#said", "used already")
}
