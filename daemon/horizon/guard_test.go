package horizon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestOnlyLoopback(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "localhost:0", "example.org:80", "127.0.0.1"} {
		if s, err := New(Config{Source: &driven{}, Listen: a}); !errors.Is(err, ErrListen) {
			t.Errorf("%s: %v", a, err)
			if s != nil {
				s.Close()
			}
		}
	}
	s, err := New(Config{Source: &driven{}, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Source: &driven{}, Listen: fmt.Sprintf("127.0.0.1:%d", s.Port())}); !errors.Is(err, ErrListen) {
		t.Error("a taken port: ", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// DNS rebinding: a page at evil.example whose name is made to resolve to 127.0.0.1.
func TestForeignHost(t *testing.T) {
	s := serve(t)
	cookie, _ := s.login()
	_, port, _ := net.SplitHostPort(s.address())
	for _, host := range []string{"evil.example", "evil.example:" + port, "127.0.0.1:" + port, "localhost:" + port, "localhost", "[::1]:" + port,
		s.name + ".evil.example", s.name + ".evil.example:" + port, "x" + s.name, s.name + ":", s.name + ":80:80", s.name + ":port", s.name + ".",
		s.name + ":80@evil.example", strings.ToUpper(s.name), "other.localhost:" + port} {
		for _, path := range []string{"/", "/login", "/events", "/app.js", "/unpin"} {
			resp, body := s.ask("GET", path, "", "Host", host, "Cookie", cookie)
			if resp.StatusCode != http.StatusMisdirectedRequest && resp.StatusCode != http.StatusBadRequest {
				t.Errorf("Host %q, %s: %s", host, path, resp.Status)
			}
			if strings.Contains(body, s.name) {
				t.Errorf("Host %q, %s: the answer tells our name", host, path)
			}
		}
	}
	// An SSH-forwarded port is another one.
	if resp, body := s.ask("GET", "/", "", "Host", s.name+":7777", "Cookie", cookie); resp.StatusCode != 200 {
		t.Errorf("a forwarded port: %s %s", resp.Status, body)
	}
	if resp, _ := s.ask("POST", "/login", url.Values{"code": {s.Login().Code}}.Encode(),
		"Host", s.name+":7777", "Origin", "http://"+s.name+":7777"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("login by a forwarded port: %s", resp.Status)
	}
}

func TestCrossSitePost(t *testing.T) {
	s := serve(t)
	cookie, csrf := s.login()
	host := strings.TrimSuffix(strings.TrimPrefix(s.URL(), "http://"), "/")
	form := func(token string) string { return url.Values{"csrf": {token}, "cid": {cidOf(1041)}}.Encode() }
	for name, h := range map[string][]string{
		"another site":      {"Origin", "http://evil.example"},
		"a sandboxed frame": {"Origin", "null"},
		"no origin":         {"Origin", ""},
		"https":             {"Origin", "https://" + host},
		"another port":      {"Origin", "http://" + s.name + ":1"},
		"a longer name":     {"Origin", "http://" + host + ".evil.example"},
		"user info":         {"Origin", "http://" + host + "@evil.example"},
		"fetch metadata":    {"Sec-Fetch-Site", "cross-site"},
		"a sibling":         {"Sec-Fetch-Site", "same-site"},
		"plain text":        {"Content-Type", "text/plain"},
		"JSON":              {"Content-Type", "application/json"},
		"no type":           {"Content-Type", ""},
	} {
		for _, path := range []string{"/unpin", "/retry", "/logout", "/login"} {
			if resp, _ := s.ask("POST", path, form(csrf), append([]string{"Cookie", cookie}, h...)...); resp.StatusCode < 400 ||
				h[0] == "Content-Type" && resp.StatusCode != http.StatusUnsupportedMediaType {
				t.Errorf("%s, %s: %s", name, path, resp.Status)
			}
		}
	}
	for name, token := range map[string]string{"no token": "", "a wrong token": "AAAA", "the cookie": cookie} {
		if resp, _ := s.ask("POST", "/unpin", form(token), "Cookie", cookie); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	// The token in the query is where others might have put it.
	if resp, _ := s.ask("POST", "/unpin?csrf="+csrf, "cid="+cidOf(1041), "Cookie", cookie); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the token in the query: %s", resp.Status)
	}
	// Another browser's token.
	_, other := s.login()
	if resp, _ := s.ask("POST", "/unpin", form(other), "Cookie", cookie); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the token of another session: %s", resp.Status)
	}
	if retried, unpinned := s.source.acts(); len(retried)+len(unpinned) > 0 {
		t.Fatalf("an attack went through: %v %v", retried, unpinned)
	}
	if resp, _ := s.ask("POST", "/unpin", form(csrf), "Cookie", cookie, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the page's own form: %s", resp.Status)
	}
	if _, unpinned := s.source.acts(); len(unpinned) != 1 {
		t.Error("the page's own form did nothing")
	}
	newest := url.Values{"csrf": {csrf}, "cid": {cidOf(1042)}}.Encode()
	if resp, _ := s.ask("POST", "/unpin", newest, "Cookie", cookie); resp.StatusCode != http.StatusConflict {
		t.Errorf("the newest commit: %s", resp.Status)
	}
	if _, unpinned := s.source.acts(); len(unpinned) != 1 {
		t.Error("the copies of the newest commit were given up")
	}
}

func TestNoSideEffectByGet(t *testing.T) {
	s := serve(t)
	cookie, csrf := s.login()
	q := "?" + url.Values{"csrf": {csrf}, "cid": {cidOf(1041)}, "code": {s.Login().Code}}.Encode()
	for _, path := range []string{"/unpin", "/retry", "/logout", "/login", "/"} {
		for _, method := range []string{"GET", "HEAD"} {
			s.ask(method, path+q, "", "Cookie", cookie)
		}
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		if resp, _ := s.ask(method, "/unpin"+q, "", "Cookie", cookie); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if retried, unpinned := s.source.acts(); len(retried)+len(unpinned) > 0 {
		t.Errorf("GET did something: %v %v", retried, unpinned)
	}
	if resp, _ := s.ask("GET", "/", "", "Cookie", cookie); resp.StatusCode != 200 {
		t.Error("GET ended the session")
	}
}

func TestNoCookie(t *testing.T) {
	s := serve(t)
	cookie, csrf := s.login()
	for name, c := range map[string]string{"none": "", "another": "horizon=AAAAAAAAAAAAAAAAAAAAAAAAAA", "empty": "horizon=", "its name": "h" + cookie} {
		for _, path := range []string{"/events", "/unpin?cid=" + cidOf(1041)} {
			if resp, body := s.ask("GET", path, "", "Cookie", c); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "did:") {
				t.Errorf("%s: %s: %s", name, path, resp.Status)
			}
		}
		if resp, body := s.ask("GET", "/", "", "Cookie", c); resp.StatusCode != http.StatusSeeOther || strings.Contains(body, "did:") {
			t.Errorf("%s: /: %s", name, resp.Status)
		}
		if resp, _ := s.ask("POST", "/unpin", "csrf="+csrf+"&cid="+cidOf(1041), "Cookie", c); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: POST: %s", name, resp.Status)
		}
	}
	if resp, _ := s.ask("POST", "/logout", "csrf="+csrf, "Cookie", cookie); resp.StatusCode != http.StatusSeeOther {
		t.Error("logout: ", resp.Status)
	}
	if resp, _ := s.ask("GET", "/", "", "Cookie", cookie); resp.StatusCode != http.StatusSeeOther {
		t.Error("the cookie is good after logging out: ", resp.Status)
	}
}

func TestCodes(t *testing.T) {
	s := serve(t)
	post := func(code string) (*http.Response, string) {
		return s.ask("POST", "/login", url.Values{"code": {code}}.Encode())
	}
	l := s.Login()
	if !strings.HasPrefix(l.URL, s.URL()+"login#") || !strings.HasSuffix(l.URL, "#"+l.Code) || len(l.Code) < 20 {
		t.Errorf("login: %+v", l)
	}
	if html := redirectOf(t, l); !bytes.Contains(html, []byte(s.URL())) || bytes.Contains(html, []byte(l.Code)) {
		t.Errorf("redirect: %s", html)
	}
	resp, _ := post(l.Code)
	c := resp.Cookies()
	if resp.StatusCode != http.StatusSeeOther || len(c) != 1 || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode || c[0].Domain != "" || c[0].Path != "/" {
		t.Fatalf("login: %s %+v", resp.Status, c)
	}
	if resp, body := post(l.Code); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 || !strings.Contains(body, "used already") {
		t.Errorf("the code again: %s", resp.Status)
	}
	for _, code := range []string{"", "x", l.Code + "x", strings.Repeat("a", 1000)} {
		if resp, _ := post(code); resp.StatusCode != http.StatusForbidden {
			t.Errorf("code %.30q: %s", code, resp.Status)
		}
	}
	// Only the newest codes are good.
	old := s.Login()
	for range maxCodes {
		s.Login()
	}
	if resp, _ := post(old.Code); resp.StatusCode != http.StatusForbidden {
		t.Error("an old code: ", resp.Status)
	}
	// Codes and sessions age.
	book := newSessions()
	now := time.Now()
	book.now = func() time.Time { return now }
	anybody := users{all: true}
	p := book.pass(anybody)
	now = p.expires
	if _, err := book.redeem(p.code, 0); err == nil {
		t.Error("a code is good after its time")
	}
	token, err := book.redeem(strings.ToUpper(" "+book.pass(anybody).code+"\n"), 0) // typed, or pasted
	r := &http.Request{Header: http.Header{"Cookie": {cookieName + "=" + token}}}
	if _, in := book.of(r); err != nil || !in {
		t.Error("a code is not good in its time")
	}
	now = now.Add(sessionLife)
	if _, in := book.of(r); in {
		t.Error("a session is good after its time")
	}
	// They are bounded: the oldest goes.
	var tokens []string
	for range maxSessions + 1 {
		now = now.Add(time.Second)
		token, _ := book.redeem(book.pass(anybody).code, 0)
		tokens = append(tokens, token)
	}
	for i, token := range tokens {
		r := &http.Request{Header: http.Header{"Cookie": {cookieName + "=" + token}}}
		if _, in := book.of(r); in != (i > 0) {
			t.Errorf("session %d of %d: %v", i, len(tokens), in)
		}
	}
}

func TestHeadersAndFraming(t *testing.T) {
	s := serve(t)
	cookie, _ := s.login()
	for _, path := range []string{"/", "/login", "/app.js", "/style.css", "/icon/safe.svg", "/none", "/unpin?cid=" + cidOf(1042), "/metrics"} {
		resp, body := s.ask("GET", path, "", "Cookie", cookie)
		csp := resp.Header.Get("Content-Security-Policy")
		if csp != policy || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			resp.Header.Get("X-Frame-Options") != "DENY" || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if strings.Contains(body, " style=") || strings.Contains(body, "<style") || strings.Contains(body, "<script>") || strings.Contains(body, " onclick") {
			t.Errorf("%s has something inline", path)
		}
	}
	for _, h := range [][]string{{"Sec-Fetch-Dest", "iframe"}, {"Sec-Fetch-Dest", "frame"}, {"Sec-Fetch-Dest", "embed"}, {"Sec-Fetch-Dest", "object"},
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"},
		{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}} {
		for _, path := range []string{"/", "/app.js", "/events", "/login"} {
			if resp, _ := s.ask("GET", path, "", append(h, "Cookie", cookie)...); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%v %s: %s", h, path, resp.Status)
			}
		}
	}
	// A link to us is fine: the cookie does not come along by itself.
	if resp, _ := s.ask("GET", "/login", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); resp.StatusCode != 200 {
		t.Error("a link: ", resp.Status)
	}
}

const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>'--></style>javascript:`

func TestNamesWithHTML(t *testing.T) {
	s := serve(t)
	s.source.change(func(st *State) {
		n := time.Now()
		*st = State{Version: nasty, PhrasePending: true,
			Drive:  Drive{DID: nasty, Vault: nasty, Mountpoint: nasty, State: nasty, Durability: nasty, Since: n, Device: nasty},
			Commit: Commit{1, nasty, n, 1, 1, 2}, Commits: []Commit{{1, nasty, n, 1, 1, 2}}, Store: Store{Kind: nasty, Version: nasty},
			Egress: Egress{Configured: true, URL: nasty, Target: 2, State: nasty, Error: nasty, Hint: nasty},
			Pins: []Pin{{CID: nasty, Name: nasty, State: PinFailed, Target: 2, Peers: []PinPeer{{nasty, nasty, nasty, false, nasty}}},
				{CID: "x", State: PinState(nasty)}},
			Peers:     []Peer{{Name: nasty, ID: nasty, Version: nasty, Error: nasty, Sees: []string{nasty}}, {Name: nasty, Up: true}},
			Alerts:    []Alert{{nasty, nasty, nasty, nasty, n}, {Critical, nasty, nasty, nasty, n}},
			Errors:    []Failure{{n, nasty, nasty}},
			Devices:   []Device{{Name: nasty, ID: nasty}, {ID: nasty, Reads: true, Until: n}},
			Claims:    []Claim{{Text: nasty, By: nasty, Until: n}, {Text: nasty, By: nasty, Self: true}, {Text: nasty, Problem: nasty}},
			Snapshots: []Snapshot{{Name: nasty, CID: nasty}},
			Counters:  Counters{Bounds: []float64{1}, Ops: []Op{{Kind: nasty, Count: 1, Buckets: []uint64{1}}, {Kind: nasty}}}}
	})
	cookie, csrf := s.login()
	// The login may have seen the state before; the stream below has the new one.
	eventually(t, "the new state", func() bool {
		_, body := s.ask("GET", "/", "", "Cookie", cookie)
		return strings.Contains(body, "Stop: ")
	})
	look := func(what, body string) {
		t.Helper()
		for _, bad := range []string{"<script>alert", "<img src=x", `"><`, "'-->"} {
			if strings.Contains(body, bad) {
				i := strings.Index(body, bad)
				t.Errorf("%s: a name became HTML: %s", what, body[max(0, i-100):min(len(body), i+100)])
			}
		}
	}
	q := url.QueryEscape(nasty)
	for _, path := range []string{"/", "/?q=" + q + "&state=" + q + "&page=" + q + "&said=" + q, "/unpin?cid=" + q, "/unpin?cid=none" + q, "/icon/" + q} {
		_, body := s.ask("GET", path, "", "Cookie", cookie)
		// Two attributes in a row are how our own pages look.
		look(path, strings.ReplaceAll(body, `"><`, `" ><`))
		if strings.Contains(path, "unpin?cid=%") && !strings.Contains(body, "Give up the copies of") {
			t.Errorf("%s: %s", path, body)
		}
	}
	s.source.mu.Lock()
	s.source.actErr = errors.New(nasty)
	s.source.mu.Unlock()
	resp, body := s.ask("POST", "/retry", url.Values{"csrf": {csrf}, "cid": {nasty}}.Encode(), "Cookie", cookie)
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "did not work") {
		t.Errorf("retry: %s", resp.Status)
	}
	look("retry", strings.ReplaceAll(body, `"><`, `" ><`))
	if _, body := s.ask("GET", "/metrics", "", "Authorization", "Bearer metrics-token"); !strings.Contains(body, "ipfscloud_up 1") || strings.Contains(body, "An error") {
		t.Errorf("metrics: %s", body)
	}
}

func TestPathTraversal(t *testing.T) {
	s := serve(t)
	cookie, _ := s.login()
	for _, path := range []string{"/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/style.css/../../server.go",
		"/icon/..%2f..%2fserver.go", "/icon/%2e%2e", "/web/page.html", "/page.html", "/app.js%00.html", "/icon/", "/style.css%2f..%2fserver.go", "/icon/....//server.go"} {
		c, err := net.Dial("tcp", s.address())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\nConnection: close\r\n\r\n", path, s.name, cookie)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(path, err)
		}
		body, _ := io.ReadAll(resp.Body)
		c.Close()
		if strings.Contains(string(body), "root:") || strings.Contains(string(body), "package horizon") || strings.Contains(string(body), "{{define") {
			t.Errorf("%s: a file is served: %.200s", path, body)
		}
		if resp.StatusCode == 200 && !strings.HasPrefix(string(body), "<svg") {
			t.Errorf("%s: %s %.100s", path, resp.Status, body)
		}
	}
}
