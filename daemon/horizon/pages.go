package horizon

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

//go:embed web
var web embed.FS

// actionWait is for the Source to do what a button asked for.
const actionWait = 8 * time.Second

func parsePages() (*template.Template, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"bytes": bytesText, "rate": rateText, "count": countText, "plural": plural, "short": short, "clip": clip,
		"ago": agoText, "clock": clockText, "moment": moment, "span": spanText, "icon": icon, "dots": dots,
		"day":      func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
		"peerNote": peerNote, "left": leftText,
		"count64":  func(n uint64) string { return countText(int64(min(n, math.MaxInt64))) },
		"plural64": func(n int64, one, many string) string { return plural(int(n), one, many) },
		"int64":    func(n int) int64 { return int64(n) }, "since": since,
	}).ParseFS(web, "web/*.html")
	if err != nil {
		return nil, fmt.Errorf("horizon: pages: %w", err)
	}
	return t, nil
}

// handler is all that is served by TCP.
func (s *Server) handler() http.Handler {
	s.streams = make(chan struct{}, s.limits.streams)
	mux := http.NewServeMux()
	for path, kind := range map[string]string{"/style.css": "text/css; charset=utf-8", "/app.js": "text/javascript; charset=utf-8"} {
		mux.HandleFunc("GET "+path, s.asset("web"+path, kind))
	}
	mux.HandleFunc("GET /icon/{level}", s.favicon)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { s.page(w, http.StatusOK, "login", loginView{}) })
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /{$}", s.withSession(s.home))
	mux.HandleFunc("GET /events", s.withSession(s.events))
	mux.HandleFunc("GET /unpin", s.withSession(s.confirm))
	mux.HandleFunc("POST /unpin", s.withSession(s.act("unpin", s.config.Source.Unpin)))
	mux.HandleFunc("POST /retry", s.withSession(s.act("retry", s.config.Source.Retry)))
	mux.HandleFunc("POST /logout", s.withSession(func(w http.ResponseWriter, r *http.Request, _ session) {
		s.sessions.end(r)
		setCookie(w, "")
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	}))
	pages, metrics := s.guard(mux), s.guardMetrics(s.Metrics())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			metrics.ServeHTTP(w, r)
		case "/hello": // from a file, which the guard would take for another site
			s.hello(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// asset serves one file that is the same for everybody.
func (s *Server) asset(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := fs.ReadFile(web, name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data) // who asked may be gone
	}
}

func (s *Server) favicon(w http.ResponseWriter, r *http.Request) {
	level := Level(strings.TrimSuffix(r.PathValue("level"), ".svg"))
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write([]byte(faviconSVG(level)))
}

// page renders a whole page before it sends the first byte, so that what fails is seen.
func (s *Server) page(w http.ResponseWriter, status int, name string, data any) {
	text, err := s.render(name, data)
	if err != nil {
		s.config.Log.Error("horizon: page", "page", name, "error", err)
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // who asked may be gone
}

// render makes a page, or a part of one. html/template keeps what others wrote from being
// markup; but a bidirectional control in the name of a peer would still turn around what
// stands behind it.
func (s *Server) render(name string, data any) (string, error) {
	var b strings.Builder
	err := s.pages.ExecuteTemplate(&b, name, data)
	return printable.Text(b.String()), err
}

type loginView struct{ Error string }

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.refused.count("size")
		http.Error(w, "The form is too large or broken.", http.StatusRequestEntityTooLarge)
		return
	}
	token, err := s.sessions.redeem(r.PostForm.Get("code"), user(r))
	if errors.Is(err, errOtherUser) {
		s.refused.count("user")
		s.config.Log.Warn("horizon: a code was brought by a user whom it is not for", "uid", user(r))
		s.page(w, http.StatusForbidden, "login", loginView{Error: "This code is for another user of this computer. `ipfscloud horizon --for USER` makes one for you."})
		return
	}
	if err != nil {
		s.refused.count("code")
		s.page(w, http.StatusForbidden, "login", loginView{Error: "This code was used already, or is too old."})
		return
	}
	setCookie(w, token)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) home(w http.ResponseWriter, r *http.Request, o session) {
	v := s.view(s.watcher.fresh(r.Context()), queryOf(r.URL.Query()))
	v.CSRF, v.Said = o.csrf, said(r.URL.Query().Get("said"))
	s.page(w, http.StatusOK, "page", v)
}

// said is what the page tells after an action: one of our own texts only.
func said(key string) string {
	switch key {
	case "retry":
		return "The copies are being tried again."
	case "unpin":
		return "The copies are being given up."
	}
	return ""
}

func findPin(s State, cid string) (Pin, bool) {
	for _, p := range s.Pins {
		if p.CID == cid {
			return p, true
		}
	}
	return Pin{}, false
}

// confirm asks before copies are given up.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request, o session) {
	snap := s.watcher.fresh(r.Context())
	p, ok := findPin(snap.state, r.URL.Query().Get("cid"))
	if !ok {
		s.fail(w, http.StatusNotFound, "There is no such copy.", "It may have been given up already.")
		return
	}
	s.page(w, http.StatusOK, "unpin", confirmView{Now: time.Now(), Pin: p, CSRF: o.csrf})
}

type confirmView struct {
	Now  time.Time
	Pin  Pin
	CSRF string
}

type failView struct{ Sentence, Detail string }

func (s *Server) fail(w http.ResponseWriter, status int, sentence, detail string) {
	s.page(w, status, "fail", failView{sentence, clip(detail, 500)})
}

// act does what a button asks for, with a pin that is known.
func (s *Server) act(name string, do func(context.Context, string) error) func(http.ResponseWriter, *http.Request, session) {
	return func(w http.ResponseWriter, r *http.Request, _ session) {
		cid := r.PostForm.Get("cid")
		snap := s.watcher.fresh(r.Context())
		err := ErrNoPin
		pin, ok := findPin(snap.state, cid)
		if ok && pin.Newest && name == "unpin" {
			s.fail(w, http.StatusConflict, "The copies of the newest commit are kept.", "They can be given up when those of a newer commit are there.")
			return
		}
		if ok {
			ctx, cancel := context.WithTimeout(r.Context(), actionWait)
			defer cancel()
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(actionWait + s.limits.write))
			err = do(ctx, cid)
		}
		s.watcher.changed()
		switch {
		case errors.Is(err, ErrNoPin):
			s.fail(w, http.StatusNotFound, "There is no such copy.", "It may have been given up already.")
		case err != nil:
			s.config.Log.Warn("horizon: "+name, "cid", cid, "error", err)
			s.fail(w, http.StatusBadGateway, "That did not work.", err.Error())
		default:
			s.config.Log.Info("horizon: "+name, "cid", cid)
			http.Redirect(w, r, "/?"+url.Values{"said": {name}}.Encode(), http.StatusSeeOther)
		}
	}
}
