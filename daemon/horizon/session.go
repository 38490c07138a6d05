package horizon

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	codeLife    = 2 * time.Minute
	maxCodes    = 4
	sessionLife = 24 * time.Hour
	maxSessions = 16
	cookieName  = "horizon"
)

// Login opens the page once. Whoever has it sees the page, so it goes to a terminal or
// into a file that only its owner reads, and never into an argument of a process.
type Login struct {
	URL     string // with the code in its fragment, which browsers do not send
	Code    string // for typing it in
	Expires time.Time
}

// Redirect is an HTML file that opens the page, for a browser that is given its name. It
// must have mode 0600, and may be deleted when the code has expired.
func (l Login) Redirect() []byte {
	u, code := template.HTMLEscapeString(l.URL), template.HTMLEscapeString(l.Code)
	return []byte(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Horizon</title>` +
		`<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url=` + u + `">` +
		`<p><a href="` + u + `">Open Horizon</a>. The code, if it asks: <code>` + code + "</code></p></html>\n")
}

// session is a browser that brought a code.
type session struct {
	csrf    string
	expires time.Time
}

// sessions knows the codes given out and the browsers let in, by the hash of what they
// hold: a comparison of hashes tells nothing by the time it takes.
type sessions struct {
	now func() time.Time

	mu    sync.Mutex
	codes map[[32]byte]time.Time
	open  map[[32]byte]session
}

func newSessions() *sessions {
	return &sessions{now: time.Now, codes: map[[32]byte]time.Time{}, open: map[[32]byte]session{}}
}

// earliest is the key whose time is the earliest.
func earliest[V any](m map[[32]byte]V, when func(V) time.Time) (first [32]byte) {
	var at time.Time
	for k, v := range m {
		if t := when(v); at.IsZero() || t.Before(at) {
			first, at = k, t
		}
	}
	return first
}

// code draws a code. Only the newest few are good.
func (s *sessions) code() (string, time.Time) {
	code := strings.ToLower(rand.Text())
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.codes) >= maxCodes {
		delete(s.codes, earliest(s.codes, func(t time.Time) time.Time { return t }))
	}
	expires := s.now().Add(codeLife)
	s.codes[sha256.Sum256([]byte(code))] = expires
	return code, expires
}

// redeem takes a code, which is used up by it, for a cookie.
func (s *sessions) redeem(code string) (token string, ok bool) {
	key := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(code))))
	s.mu.Lock()
	defer s.mu.Unlock()
	expires, ok := s.codes[key]
	delete(s.codes, key)
	if !ok || !s.now().Before(expires) {
		return "", false
	}
	for len(s.open) >= maxSessions {
		delete(s.open, earliest(s.open, func(o session) time.Time { return o.expires }))
	}
	token = rand.Text()
	s.open[sha256.Sum256([]byte(token))] = session{csrf: rand.Text(), expires: s.now().Add(sessionLife)}
	return token, true
}

func sessionKey(r *http.Request) (key [32]byte, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return key, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}

// of is the session of a request.
func (s *sessions) of(r *http.Request) (session, bool) {
	key, ok := sessionKey(r)
	if !ok {
		return session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.open[key]
	if ok && !s.now().Before(o.expires) {
		delete(s.open, key)
		ok = false
	}
	return o, ok
}

// end forgets the session of a request.
func (s *sessions) end(r *http.Request) {
	if key, ok := sessionKey(r); ok {
		s.mu.Lock()
		delete(s.open, key)
		s.mu.Unlock()
	}
}

// same compares secrets without telling by the time how much of them is right.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return a != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// setCookie hands a browser its session, or with an empty token takes it back.
func setCookie(w http.ResponseWriter, token string) {
	age := int(sessionLife / time.Second)
	if token == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: token, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}
