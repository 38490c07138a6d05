package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	_ "embed"
)

// SiteConfig configures a Site.
type SiteConfig struct {
	// Config of the Verifier. Audience is the site's origin; ResponseURI is filled in.
	Config
	// Path under which the Site is served, such as "/login/".
	Path string
	// Done is called when somebody has logged in, with the request of their browser: begin a
	// session, and answer the request.
	Done func(w http.ResponseWriter, r *http.Request, l *Login)
	// Page shows a request to a browser; nil is a plain page that says what to do.
	Page func(w http.ResponseWriter, r *http.Request, q Request)
}

// Site logs the users of a web site in. It serves three things under its path: a page with
// a request; "answer", where the user's program posts what the user has agreed to; and
// "finish", to which that program is told to lead the user's browser. Only the browser
// that was shown the request can finish with its answer, so that nobody gets into
// somebody's account by having them answer a request that is not theirs.
type Site struct {
	cfg      SiteConfig
	verifier *Verifier
	now      func() time.Time

	mu     sync.Mutex         // guards the rest
	asked  map[string]attempt // by nonce
	agreed map[string]attempt // by code
}

// attempt is a login of one browser.
type attempt struct {
	browser string // its cookie
	expires time.Time
	login   *Login // once it is agreed to
}

var _ http.Handler = (*Site)(nil)

//go:embed page.html
var pageText string

// NewSite returns a Site. ErrInvalid.
func NewSite(cfg SiteConfig) (*Site, error) {
	if !strings.HasPrefix(cfg.Path, "/") || !strings.HasSuffix(cfg.Path, "/") || cfg.Done == nil || strings.HasPrefix(cfg.Audience, "urn:") {
		return nil, fmt.Errorf("a site has an origin, a path between slashes, and Done: %w", ErrInvalid)
	}
	cfg.ResponseURI = cfg.Audience + cfg.Path + "answer"
	v, err := New(cfg.Config)
	if err != nil {
		return nil, err
	}
	s := &Site{cfg: cfg, verifier: v, now: cfg.Now, asked: make(map[string]attempt), agreed: make(map[string]attempt)}
	if s.now == nil {
		s.now = time.Now
	}
	if cfg.Page == nil {
		page, err := template.New("page").Parse(pageText)
		if err != nil {
			return nil, err
		}
		s.cfg.Page = func(w http.ResponseWriter, _ *http.Request, q Request) {
			// The browser may be gone; there is nobody to tell.
			_ = page.Execute(w, map[string]any{"Site": q.Audience, "Request": q.String(), "Link": template.URL(q.String()), "Claims": q.Claims})
		}
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	switch what, ok := strings.CutPrefix(r.URL.Path, s.cfg.Path); {
	case ok && what == "" && r.Method == http.MethodGet:
		s.begin(w, r)
	case ok && what == "answer" && r.Method == http.MethodPost:
		s.answer(w, r)
	case ok && what == "finish" && r.Method == http.MethodGet:
		s.finish(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *Site) begin(w http.ResponseWriter, r *http.Request) {
	q, err := s.verifier.Begin()
	if err != nil {
		http.Error(w, "Too many people log in just now. Try again in a minute.", http.StatusServiceUnavailable)
		return
	}
	browser, expires := rand.Text(), s.now().Add(challengeLife)
	s.mu.Lock()
	s.sweep()
	s.asked[q.Nonce] = attempt{browser: browser, expires: expires}
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(browser, int(challengeLife/time.Second)))
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	s.cfg.Page(w, r, q)
}

// cookie ties an attempt to a browser. Lax: the link that finishes comes from elsewhere.
func (s *Site) cookie(value string, age int) *http.Cookie {
	c := &http.Cookie{Name: "did-login", Value: value, Path: s.cfg.Path, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if strings.HasPrefix(s.cfg.Audience, "https:") {
		// A name that no neighbour of the site can set.
		c.Name, c.Path, c.Secure = "__Host-did-login", "/", true
	}
	return c
}

// sweep forgets what is too late. mu is held.
func (s *Site) sweep() {
	now := s.now()
	for _, m := range []map[string]attempt{s.asked, s.agreed} {
		for k, a := range m {
			if !now.Before(a.expires) {
				delete(m, k)
			}
		}
	}
}

// posted is the site's answer to an answer: as OpenID has errors, and where to go.
type posted struct {
	RedirectURI string `json:"redirect_uri,omitempty"`
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
}

func (s *Site) answer(w http.ResponseWriter, r *http.Request) {
	status, p := http.StatusOK, posted{}
	l, err := s.judge(w, r)
	if err == nil {
		p.RedirectURI, err = s.agree(l)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrUnavailable):
		status, p = http.StatusServiceUnavailable, posted{Error: "temporarily_unavailable", Description: err.Error()}
	default:
		status, p = http.StatusForbidden, posted{Error: "access_denied", Description: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}

func (s *Site) judge(w http.ResponseWriter, r *http.Request) (*Login, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxResponse))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %v: %w", err, ErrRefused)
	}
	return s.verifier.Verify(r.Context(), string(body))
}

// agree remembers a login until its browser comes for it.
func (s *Site) agree(l *Login) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	a, ok := s.asked[l.Nonce]
	delete(s.asked, l.Nonce)
	if !ok {
		return "", fmt.Errorf("the login took too long: %w", ErrRefused)
	}
	a.login = l
	code := rand.Text()
	s.agreed[code] = a
	return s.cfg.Audience + s.cfg.Path + "finish?" + url.Values{"code": {code}}.Encode(), nil
}

func (s *Site) finish(w http.ResponseWriter, r *http.Request) {
	code := r.FormValue("code")
	s.mu.Lock()
	s.sweep()
	a, ok := s.agreed[code]
	delete(s.agreed, code) // one try
	s.mu.Unlock()
	mine, err := r.Cookie(s.cookie("", 0).Name)
	if !ok || err != nil || subtle.ConstantTimeCompare([]byte(mine.Value), []byte(a.browser)) != 1 {
		http.Error(w, "This link was used before, came too late, or belongs to another browser. Begin again.", http.StatusForbidden)
		return
	}
	http.SetCookie(w, s.cookie("", -1))
	s.cfg.Done(w, r, a.login)
}
