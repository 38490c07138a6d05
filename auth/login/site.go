package login

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
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
	// Refused is told why an answer was refused, for the site's log. Whoever sent the answer
	// is not told: the reason would tell strangers what the servers that they named answered
	// to this one.
	Refused func(r *http.Request, err error)
	// Client names who sends a request, as an address, so that one client cannot take all
	// there is. Nil is the address of the connection; behind a proxy all have that of the
	// proxy, so there it should be the address that the proxy tells.
	Client func(r *http.Request) string
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
	key      [32]byte // of the cookies
	judging  *shares
	agreed   *agreements
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
	s := &Site{cfg: cfg, verifier: v, now: cfg.Now, judging: newShares(), agreed: newAgreements()}
	rand.Read(s.key[:])
	if s.now == nil {
		s.now = time.Now
	}
	if s.cfg.Client == nil {
		s.cfg.Client = connection
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
	// Nothing is remembered of it: the nonce is sealed, and the cookie follows from the nonce.
	q := s.verifier.Begin()
	http.SetCookie(w, s.cookie(s.browser(q.Nonce), int(challengeLife/time.Second)))
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	s.cfg.Page(w, r, q)
}

// browser is what the browser that was shown a nonce has as its cookie. Who knows the nonce
// alone, from the request that the page shows, cannot make it.
func (s *Site) browser(nonce string) string {
	m := hmac.New(sha256.New, s.key[:])
	m.Write([]byte(nonce))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
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

// posted is the site's answer to an answer: as OpenID has errors, and where to go.
type posted struct {
	RedirectURI string `json:"redirect_uri,omitempty"`
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
}

// refusal is all that a stranger is told, whatever went wrong: the differences would tell
// what answered at the hosts that a DID names.
const refusal = "The login was refused, or came too late. Begin again with a new request."

func (s *Site) answer(w http.ResponseWriter, r *http.Request) {
	status, p := http.StatusOK, posted{}
	l, err := s.judge(w, r)
	if err == nil {
		p.RedirectURI = s.agree(r, l)
	} else {
		status, p = http.StatusForbidden, posted{Error: "access_denied", Description: refusal}
		if s.cfg.Refused != nil {
			s.cfg.Refused(r, err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}

func (s *Site) judge(w http.ResponseWriter, r *http.Request) (*Login, error) {
	done, err := s.judging.take(s.cfg.Client(r))
	if err != nil {
		return nil, err
	}
	defer done()
	// A slow sender would keep its share. Not every server can set a deadline; where it
	// cannot, that is for the site's own limits.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(sendDeadline))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxResponse))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %v: %w", err, ErrRefused)
	}
	return s.verifier.Verify(r.Context(), string(body))
}

// agree remembers a login until its browser comes for it.
func (s *Site) agree(r *http.Request, l *Login) string {
	code := s.agreed.add(agreement{login: l, client: s.cfg.Client(r), expires: s.now().Add(challengeLife)}, s.now())
	return s.cfg.Audience + s.cfg.Path + "finish?" + url.Values{"code": {code}}.Encode()
}

func (s *Site) finish(w http.ResponseWriter, r *http.Request) {
	l := s.agreed.take(r.FormValue("code"), s.now()) // one try
	mine, err := r.Cookie(s.cookie("", 0).Name)
	if l == nil || err != nil || subtle.ConstantTimeCompare([]byte(mine.Value), []byte(s.browser(l.Nonce))) != 1 {
		http.Error(w, "This link was used before, came too late, or belongs to another browser. Begin again.", http.StatusForbidden)
		return
	}
	http.SetCookie(w, s.cookie("", -1))
	s.cfg.Done(w, r, l)
}
