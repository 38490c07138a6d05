package horizon

import (
	"net"
	"net/http"
	"strings"
	"sync"
)

// policy is what the browser may do with our pages: load our own style, script and icons,
// talk to us, send forms to us, and nothing else; nobody may frame them.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types horizon"

func secureHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: with that, browsers send "Origin: null" with our own forms.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// guard lets a request through to the pages, or says why not. The checks do not depend on
// each other: each stops the attack it is for alone.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secureHeaders(w.Header())
		if reason, status := s.refuse(r); reason != "" {
			s.refused.count(reason)
			s.config.Log.Debug("horizon: refused", "reason", reason, "method", r.Method, "remote", r.RemoteAddr)
			w.Header().Set("Connection", "close")
			http.Error(w, "Refused ("+reason+"). `ipfscloud horizon` opens the page.", status)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.limits.body)
		next.ServeHTTP(w, r)
	})
}

// refuse returns why a request is not for us, or "".
func (s *Server) refuse(r *http.Request) (reason string, status int) {
	// A page of somebody else whose name was made to resolve to 127.0.0.1 has another Host.
	if !s.ourHost(r.Host) {
		return "host", http.StatusMisdirectedRequest
	}
	if r.ContentLength > s.limits.body {
		return "size", http.StatusRequestEntityTooLarge
	}
	site, dest := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Dest")
	own := site == "" || site == "same-origin"
	switch dest {
	case "iframe", "frame", "embed", "object", "fencedframe":
		return "framed", http.StatusForbidden
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		// A link elsewhere may lead to us; nothing of ours may be part of another page.
		if !own && site != "none" && (r.Header.Get("Sec-Fetch-Mode") != "navigate" || dest != "document") {
			return "cross-site", http.StatusForbidden
		}
	case http.MethodPost:
		// Port and all: another port of the same name is somebody else.
		if r.Header.Get("Origin") != "http://"+r.Host {
			return "origin", http.StatusForbidden
		}
		if !own {
			return "cross-site", http.StatusForbidden
		}
		if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); t != "application/x-www-form-urlencoded" {
			return "type", http.StatusUnsupportedMediaType
		}
	default:
		return "method", http.StatusMethodNotAllowed
	}
	return "", 0
}

// ourHost: our name with any port, for SSH may forward another one to us.
func (s *Server) ourHost(host string) bool {
	rest, ok := strings.CutPrefix(host, s.name)
	if !ok {
		return false
	}
	if rest == "" {
		return true
	}
	port, ok := strings.CutPrefix(rest, ":")
	if !ok || port == "" || len(port) > 5 {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// loopbackHost: what a scraper on this machine calls us. A name that was made to resolve
// to us is none of these.
func (s *Server) loopbackHost(host string) bool {
	if s.ourHost(host) {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// withSession lets through who is logged in; a form must also carry the session's token.
func (s *Server) withSession(next func(http.ResponseWriter, *http.Request, session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, ok := s.sessions.of(r)
		if !ok {
			s.refused.count("session")
			if r.Method == http.MethodGet && r.URL.Path == "/" {
				http.Redirect(w, r, "/login", http.StatusSeeOther)
				return
			}
			http.Error(w, "Not logged in. `ipfscloud horizon` opens the page.", http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				s.refused.count("size")
				http.Error(w, "The form is too large or broken.", http.StatusRequestEntityTooLarge)
				return
			}
			if !same(r.PostForm.Get("csrf"), o.csrf) {
				s.refused.count("csrf")
				http.Error(w, "Refused (form). Reload the page and try again.", http.StatusForbidden)
				return
			}
		}
		next(w, r, o)
	}
}

// refusals counts requests that were not let through.
type refusals struct {
	mu sync.Mutex
	by map[string]uint64
}

func newRefusals() *refusals { return &refusals{by: map[string]uint64{}} }

func (r *refusals) count(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[reason]++
}

func (r *refusals) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]uint64{}
	for k, v := range r.by {
		out[k] = v
	}
	return out
}
