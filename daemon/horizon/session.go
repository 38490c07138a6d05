package horizon

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
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

// session is a browser that brought a code.
type session struct {
	csrf    string
	expires time.Time
	users   users
}

// pass lets a browser in once: by its code, or by a proof that the redirect file makes with
// its key. Either uses up both.
type pass struct {
	code    string
	id      string // names it to the server; no secret
	key     []byte // for proofs; it is in the redirect file and here
	expires time.Time
	users   users
	asked   [][2]string // the nonces of the browser and of us, of the latest few questions
}

// sessions knows the codes given out and the browsers let in, these by the hash of what
// they hold: a comparison of hashes tells nothing by the time it takes.
type sessions struct {
	now func() time.Time

	mu     sync.Mutex
	passes []*pass // the oldest first
	open   map[[32]byte]session
}

func newSessions() *sessions {
	return &sessions{now: time.Now, open: map[[32]byte]session{}}
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

// pass draws one. Only the newest few are good.
func (s *sessions) pass(u users) *pass {
	p := &pass{code: strings.ToLower(rand.Text()), id: strings.ToLower(rand.Text()), key: make([]byte, 32), users: u}
	rand.Read(p.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.expires = s.now().Add(codeLife)
	s.passes = append(s.passes, p)
	s.passes = s.passes[max(0, len(s.passes)-maxCodes):]
	return p
}

// errOtherUser: the code is good, for somebody else.
var errOtherUser = errors.New("the code is for another user")

// prove answers the question of a redirect file whether this is the server that made it.
// Who asks for a pass that is not theirs gets no proof.
func (s *sessions) prove(id, theirs string, uid int) (ours, proof string, ok bool) {
	if len(theirs) < 32 || len(theirs) > 128 {
		return "", "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.passes {
		if same(id, p.id) && s.now().Before(p.expires) && p.users.has(uid) {
			ours = rand.Text()
			p.asked = append(p.asked, [2]string{theirs, ours})
			p.asked = p.asked[max(0, len(p.asked)-maxCodes):]
			return ours, p.proof(proofOfServer, theirs, ours), true
		}
	}
	return "", "", false
}

// What each side proves with the key of a pass. The words differ, so that nobody can hand
// one side's proof back as the other's.
const (
	proofOfServer = "horizon/server"
	proofOfFile   = "horizon/file"
)

// proof is HMAC-SHA-256, in hex, of the words and both nonces, with newlines between.
func (p *pass) proof(who, theirs, ours string) string {
	m := hmac.New(sha256.New, p.key)
	m.Write([]byte(who + "\n" + theirs + "\n" + ours))
	return hex.EncodeToString(m.Sum(nil))
}

// opens tells whether words are the code of a pass, or "id.proof" to one of its questions.
func (p *pass) opens(words string) bool {
	if same(words, p.code) {
		return true
	}
	id, proof, ok := strings.Cut(words, ".")
	if !ok || !same(id, p.id) {
		return false
	}
	for _, q := range p.asked {
		if same(proof, p.proof(proofOfFile, q[0], q[1])) {
			return true
		}
	}
	return false
}

// redeem takes a code or a proof, which is used up by it, for a cookie. One that comes from
// a user whom it is not for stays good: they have no way to spoil it for the owner.
func (s *sessions) redeem(words string, uid int) (token string, err error) {
	words = strings.ToLower(strings.TrimSpace(words))
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *pass
	for i, x := range s.passes {
		if !x.opens(words) {
			continue
		}
		if !x.users.has(uid) {
			return "", errOtherUser
		}
		p = x
		s.passes = slices.Delete(s.passes, i, i+1)
		break
	}
	if p == nil || !s.now().Before(p.expires) {
		return "", errCode
	}
	for len(s.open) >= maxSessions {
		delete(s.open, earliest(s.open, func(o session) time.Time { return o.expires }))
	}
	token = rand.Text()
	s.open[sha256.Sum256([]byte(token))] = session{csrf: rand.Text(), expires: s.now().Add(sessionLife), users: p.users}
	return token, nil
}

// errCode: nobody gave that code out, or it was used, or is too old.
var errCode = errors.New("the code is not good")

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
	// A cookie that another user has seen is no use to them.
	if !ok || !o.users.has(user(r)) {
		return session{}, false
	}
	recognise(r)
	return o, true
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
