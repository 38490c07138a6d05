package login

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// testServer is a site that says who logged in.
func testServer(t *testing.T, now func() time.Time) *httptest.Server {
	t.Helper()
	var site *Site
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	var err error
	site, err = NewSite(SiteConfig{
		Config: Config{Audience: server.URL, Sources: none(), Now: now}, Path: "/login/",
		Done: func(w http.ResponseWriter, _ *http.Request, l *Login) { _, _ = io.WriteString(w, "you are "+l.DID) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute}
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// shown is the request that a page shows.
func shown(t *testing.T, page string) Request {
	t.Helper()
	m := regexp.MustCompile(`id="request">([^<]+)<`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no request in %s", page)
	}
	r, err := ParseRequest(html.UnescapeString(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func post(t *testing.T, r Request, text string) (int, posted) {
	t.Helper()
	resp, err := http.Post(r.ResponseURI, "application/x-www-form-urlencoded", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p posted
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, p
}

func TestSite(t *testing.T) {
	server := testServer(t, nil)
	u := newUser(t, 10)
	victim, thief := newBrowser(t), newBrowser(t)
	_, page := get(t, victim, server.URL+"/login/")
	r := shown(t, page)
	answer := u.answer(r, "one", u.log()).Encode()
	code, p := post(t, r, answer)
	if code != http.StatusOK || !strings.HasPrefix(p.RedirectURI, server.URL+"/login/finish?code=") {
		t.Fatalf("%d %+v", code, p)
	}
	if code, text := get(t, victim, p.RedirectURI); code != http.StatusOK || text != "you are "+u.did {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := get(t, victim, p.RedirectURI); code != http.StatusForbidden {
		t.Errorf("the link worked twice: %d", code)
	}
	if code, p := post(t, r, answer); code != http.StatusForbidden || p.Error != "access_denied" || p.RedirectURI != "" {
		t.Errorf("an answer was taken twice: %d %+v", code, p)
	}

	// Somebody lets the victim answer a request of theirs: they have no link, and the
	// victim's browser has not begun.
	_, page = get(t, thief, server.URL+"/login/")
	r = shown(t, page)
	_, p = post(t, r, u.answer(r, "one", u.log()).Encode())
	get(t, victim, server.URL+"/login/") // a login of the victim's own
	if code, text := get(t, victim, p.RedirectURI); code != http.StatusForbidden || strings.Contains(text, u.did) {
		t.Errorf("another browser's login: %d %s", code, text)
	}
	if code, _ := get(t, thief, server.URL+"/login/finish?code=guess"); code != http.StatusForbidden {
		t.Errorf("without the link: %d", code)
	}
	// The link is used up by the wrong browser: better nobody than the wrong one.
	if code, _ := get(t, thief, p.RedirectURI); code != http.StatusForbidden {
		t.Errorf("after the wrong browser: %d", code)
	}

	for name, do := range map[string]func() int{
		"garbage":    func() int { c, _ := post(t, r, "id_token=x"); return c },
		"much":       func() int { c, _ := post(t, r, "id_token="+strings.Repeat("x", MaxResponse)); return c },
		"get answer": func() int { c, _ := get(t, victim, server.URL+"/login/answer"); return c - 1 },
		"other path": func() int { c, _ := get(t, victim, server.URL+"/login/x"); return c - 1 },
		"post finish": func() int {
			resp, _ := victim.PostForm(p.RedirectURI, url.Values{})
			resp.Body.Close()
			return resp.StatusCode - 1
		},
	} {
		if code := do(); code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func TestSiteTooLate(t *testing.T) {
	clock := &testClock{at: time.Now()}
	server := testServer(t, clock.now)
	u := newUser(t, 10)
	b := newBrowser(t)
	_, page := get(t, b, server.URL+"/login/")
	r := shown(t, page)
	_, p := post(t, r, u.answer(r, "one", u.log()).Encode())
	clock.at = clock.at.Add(challengeLife)
	if code, _ := get(t, b, p.RedirectURI); code != http.StatusForbidden {
		t.Errorf("finished too late: %d", code)
	}
}

func TestSiteConfig(t *testing.T) {
	done := func(http.ResponseWriter, *http.Request, *Login) {}
	for name, c := range map[string]SiteConfig{
		"no path":   {Config: Config{Audience: testSite}, Done: done},
		"no done":   {Config: Config{Audience: testSite}, Path: "/login/"},
		"no origin": {Path: "/login/", Done: done},
		"a program": {Config: Config{Audience: "urn:example:x"}, Path: "/login/", Done: done},
		"http":      {Config: Config{Audience: "http://example.com"}, Path: "/login/", Done: done},
	} {
		if _, err := NewSite(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s, err := NewSite(SiteConfig{Config: Config{Audience: testSite}, Path: "/login/", Done: done})
	if err != nil {
		t.Fatal(err)
	}
	if c := s.cookie("x", 1); !c.Secure || !c.HttpOnly || !strings.HasPrefix(c.Name, "__Host-") || c.Path != "/" {
		t.Errorf("%+v", c)
	}
}
