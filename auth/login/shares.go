package login

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	sendDeadline = 30 * time.Second // to send an answer
	judgeAll     = 128              // answers that are judged at a time
	judgeOne     = 8                // of them of one client
	agreedMax    = 1024             // logins that wait for their browser
	agreedBytes  = 32 << 20         // of credentials in them
)

// connection names the client by the address it connects from; of IPv6 by the network,
// for one client has a whole one. It is "" for addresses that are not public: they are a
// proxy's, behind which there are many clients.
func connection(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return ""
	}
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// shares bounds what is done at a time, and what of it for one client.
type shares struct {
	mu  sync.Mutex // guards the rest
	all int
	by  map[string]int
}

func newShares() *shares { return &shares{by: make(map[string]int)} }

// take takes a share, which done gives back. ErrBusy. A client without a name is bounded
// by the sum alone.
func (s *shares) take(client string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= judgeAll || client != "" && s.by[client] >= judgeOne {
		return nil, fmt.Errorf("%d answers are being judged, %d of them of %q: %w", s.all, s.by[client], client, ErrBusy)
	}
	s.all++
	s.by[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.by[client]--; s.by[client] == 0 {
			delete(s.by, client)
		}
	}, nil
}

// agreement is a login whose browser has not come for it yet.
type agreement struct {
	login   *Login
	client  string // who sent the answer
	expires time.Time
	bytes   int
}

// agreements are those that wait, by the code of their link. Each took a signature that
// verified; when there is no room, the oldest of the client that has the most goes, so that
// one client displaces its own.
type agreements struct {
	mu    sync.Mutex // guards the rest
	by    map[string]agreement
	bytes int
}

func newAgreements() *agreements { return &agreements{by: make(map[string]agreement)} }

func (g *agreements) drop(code string) {
	g.bytes -= g.by[code].bytes
	delete(g.by, code)
}

// add keeps an agreement, and returns the code for it.
func (g *agreements) add(a agreement, now time.Time) (code string) {
	for _, c := range a.login.Credentials {
		a.bytes += len(c.JWT)
	}
	code = rand.Text()
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, old := range g.by {
		if !now.Before(old.expires) {
			g.drop(k)
		}
	}
	for len(g.by) > 0 && (len(g.by) >= agreedMax || g.bytes+a.bytes > agreedBytes) {
		g.drop(g.victim())
	}
	g.by[code] = a
	g.bytes += a.bytes
	return code
}

// victim is the oldest of the client that has the most. mu is held, and there is one.
func (g *agreements) victim() (code string) {
	count := make(map[string]int)
	most := ""
	for _, a := range g.by {
		if count[a.client]++; count[a.client] > count[most] {
			most = a.client
		}
	}
	for k, a := range g.by {
		if a.client == most && (code == "" || a.expires.Before(g.by[code].expires)) {
			code = k
		}
	}
	return code
}

// take takes an agreement out; nil for none.
func (g *agreements) take(code string, now time.Time) *Login {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.by[code]
	if !ok {
		return nil
	}
	g.drop(code)
	if !now.Before(a.expires) {
		return nil
	}
	return a.login
}
