package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/auth/login"
)

// Login for programs on this machine, over the control socket. auth/login/README.md has
// the protocol.

const (
	audiencesMax = 64 // programs that ask, of one run
	askingMax    = 16 // requests that wait for the owner
	ownerWait    = 2 * time.Minute
)

// logins is what the control socket knows of them.
type logins struct {
	home  Home
	ended <-chan struct{} // the drive is gone: nobody waits any longer

	mu        sync.Mutex // guards the rest
	verifiers map[string]*login.Verifier
	asking    map[string]*asking // by id
}

// asking is a request that waits for the owner.
type asking struct {
	request login.Request
	since   time.Time
	answer  chan string // takes one: the answer, or "" for no
}

// AskedLogin is a request that waits for the owner.
type AskedLogin struct {
	ID       string    `json:"id"`
	Audience string    `json:"audience"`
	Request  string    `json:"request"`
	Since    time.Time `json:"since"`
}

// LoggedIn is who has logged in to a program.
type LoggedIn struct {
	ID          string   `json:"id"` // of the account: it stays when the DID moves
	DID         string   `json:"did"`
	KeyID       string   `json:"key_id"`
	Version     string   `json:"version"` // of the DID document
	Nonce       string   `json:"nonce"`
	Credentials []*Claim `json:"credentials,omitempty"`
}

func newLogins(h Home, ended <-chan struct{}) *logins {
	return &logins{home: h, ended: ended, verifiers: make(map[string]*login.Verifier), asking: make(map[string]*asking)}
}

func (l *logins) handle(mux *http.ServeMux) {
	mux.HandleFunc("POST /login/begin", func(w http.ResponseWriter, r *http.Request) {
		text, err := l.begin(r.FormValue("audience"), r.FormValue("claims"))
		reply(w, map[string]string{"request": text}, err)
	})
	mux.HandleFunc("POST /login/respond", func(w http.ResponseWriter, r *http.Request) {
		text, err := l.respond(r.Context(), r.FormValue("request"))
		reply(w, map[string]string{"response": text}, err)
	})
	mux.HandleFunc("POST /login/verify", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 2*login.MaxResponse)
		got, err := l.verify(r.Context(), r.FormValue("audience"), r.FormValue("response"))
		reply(w, got, err)
	})
	mux.HandleFunc("GET /login/asked", func(w http.ResponseWriter, r *http.Request) { reply(w, l.asked(), nil) })
	mux.HandleFunc("POST /login/decide", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 2*login.MaxResponse)
		reply(w, struct{}{}, l.decide(r.FormValue("id"), r.FormValue("response")))
	})
}

// verifier of a program. It stays, for its challenges are good with it only.
func (l *logins) verifier(audience string, begin bool) (*login.Verifier, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.verifiers[audience]; v != nil {
		return v, nil
	}
	if !begin {
		return nil, fmt.Errorf("%.80q has not begun a login: %w", audience, login.ErrRefused)
	}
	if len(l.verifiers) >= audiencesMax {
		return nil, fmt.Errorf("%d programs log in already: %w", len(l.verifiers), login.ErrBusy)
	}
	sum := sha256.Sum256([]byte(audience)) // each has its own: a directory has one user
	logs, err := login.NewDir(filepath.Join(l.home.State, "logins", hex.EncodeToString(sum[:8])))
	if err != nil {
		return nil, err
	}
	v, err := login.New(login.Config{Audience: audience, Logs: logs, Sources: []webvh.Source{loginSource{l.home, newHTTPSource(l.home)}}})
	if err == nil {
		l.verifiers[audience] = v
	}
	return v, err
}

func (l *logins) begin(audience, claims string) (string, error) {
	v, err := l.verifier(audience, true)
	if err != nil {
		return "", err
	}
	r := v.Begin()
	if claims != "" {
		r.Claims = strings.Split(claims, ",")
	}
	_, err = login.ParseRequest(r.String())
	return r.String(), err
}

// respond asks the owner, who answers with `ipfscloud id login`.
func (l *logins) respond(ctx context.Context, text string) (string, error) {
	r, err := login.ParseRequest(text)
	if err == nil && r.ResponseURI != "" {
		err = fmt.Errorf("it wants its answer posted: `ipfscloud id login` does that: %w", login.ErrInvalid)
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, ownerWait)
	defer cancel()
	a := &asking{request: r, since: time.Now(), answer: make(chan string, 1)}
	id := rand.Text()
	l.mu.Lock()
	full := len(l.asking) >= askingMax
	if !full {
		l.asking[id] = a
	}
	l.mu.Unlock()
	if full {
		return "", fmt.Errorf("%d logins wait for the owner: %w", askingMax, login.ErrBusy)
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.asking, id)
	}()
	select {
	case answer := <-a.answer:
		if answer == "" {
			return "", ErrSaidNo
		}
		return answer, nil
	case <-l.ended:
		return "", fmt.Errorf("the drive was unmounted before the owner answered: %w", login.ErrUnavailable)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf("the owner did not answer within %v: %w", ownerWait, login.ErrRefused)
		}
		return "", ctx.Err()
	}
}

func (l *logins) asked() []AskedLogin {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []AskedLogin{}
	for id, a := range l.asking {
		list = append(list, AskedLogin{ID: id, Audience: a.request.Audience, Request: a.request.String(), Since: a.since})
	}
	slices.SortFunc(list, func(a, b AskedLogin) int { return a.Since.Compare(b.Since) })
	return list
}

func (l *logins) decide(id, answer string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.asking[id]
	if a == nil {
		return fmt.Errorf("no such login waits: %w", ErrNotFound)
	}
	delete(l.asking, id)
	a.answer <- answer // never blocks: it is out of the map after one
	return nil
}

func (l *logins) verify(ctx context.Context, audience, response string) (*LoggedIn, error) {
	v, err := l.verifier(audience, false)
	if err != nil {
		return nil, err
	}
	got, err := v.Verify(ctx, response)
	if err != nil {
		return nil, err
	}
	return &LoggedIn{ID: got.ID, DID: got.DID, KeyID: got.KeyID, Version: got.Version.ID, Nonce: got.Nonce, Credentials: got.Credentials}, nil
}

const loginSourceDeadline = 4 * time.Second // less than the control socket has at its end

func newHTTPSource(h Home) webvh.Source {
	return webvh.NewHTTP(webvh.HTTPConfig{Transport: foreign(h), Deadline: loginSourceDeadline})
}

// loginSource has the log of our own identity, of which nobody else is asked: the question
// would tell a gateway of a DID that may not be published. Others are asked for on the web.
type loginSource struct {
	home Home
	web  webvh.Source
}

// Log implements webvh.Source.
func (s loginSource) Log(ctx context.Context, id webvh.ID) ([]byte, error) {
	if b := auth.OwnLog(s.home.Keystore, id.String()); b != nil {
		return b, nil
	}
	return s.web.Log(ctx, id)
}

// Witness implements webvh.Source.
func (s loginSource) Witness(ctx context.Context, id webvh.ID) ([]byte, error) {
	if auth.OwnLog(s.home.Keystore, id.String()) != nil {
		return nil, fmt.Errorf("our own log has no witnesses: %w", did.ErrNotFound)
	}
	return s.web.Witness(ctx, id)
}

// AskedLogins lists the requests of programs that wait for the owner.
func (c *Client) AskedLogins(ctx context.Context) (list []AskedLogin, err error) {
	err = c.call(ctx, http.MethodGet, "/login/asked", &list)
	return list, err
}

// DecideLogin gives a program the owner's answer, or "" for no.
func (c *Client) DecideLogin(ctx context.Context, id, answer string) error {
	return c.form(ctx, "/login/decide", url.Values{"id": {id}, "response": {answer}}, &struct{}{})
}

// BeginLogin makes a request in the name of a program.
func (c *Client) BeginLogin(ctx context.Context, audience string, claims ...string) (request string, err error) {
	var out struct{ Request string }
	err = c.form(ctx, "/login/begin", url.Values{"audience": {audience}, "claims": {strings.Join(claims, ",")}}, &out)
	return out.Request, err
}

// RespondLogin asks the owner to answer a request, and waits.
func (c *Client) RespondLogin(ctx context.Context, request string) (response string, err error) {
	var out struct{ Response string }
	err = c.form(ctx, "/login/respond", url.Values{"request": {request}}, &out)
	return out.Response, err
}

// VerifyLogin judges an answer in the name of the program that began.
func (c *Client) VerifyLogin(ctx context.Context, audience, response string) (who LoggedIn, err error) {
	err = c.form(ctx, "/login/verify", url.Values{"audience": {audience}, "response": {response}}, &who)
	return who, err
}

func (c *Client) form(ctx context.Context, path string, values url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://daemon"+path, strings.NewReader(values.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.do(req, out)
}
