package horizon

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/peercred"
)

// unknownUser stands for a peer of whom the kernel does not tell.
const unknownUser = -1

// gate bounds the connections of all listeners together, so that nobody can take all of
// them. A new connection is always let in; when there is no room, one goes that has shown
// no session: of other users' connections before the owner's, and the oldest first. The
// owner's browser thus gets in however many wait, and one that is logged in stays.
type gate struct {
	all      int // connections at once
	others   int // of them of other users than the owner and root, without a session
	otherOne int // of these of one user

	mu   sync.Mutex // guards the rest, and known of each connection
	open map[*conn]struct{}
}

func newGate(l limits) *gate {
	return &gate{all: l.conns, others: l.others, otherOne: l.otherOne, open: map[*conn]struct{}{}}
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	gate  *gate
	user  int // who has the other end, or unknownUser
	since time.Time
	known bool // a session came by it
}

// owners tells whether it is of the owner or root.
func (c *conn) owners() bool { return c.user >= 0 && peercred.Trusted(uint32(c.user)) }

// Close gives its place back.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// admit counts a connection, and returns one that has to go for it, or nil.
func (g *gate) admit(c *conn) (victim *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	strangers, byUser := 0, map[int]int{}
	for o := range g.open {
		if !o.known && !o.owners() {
			strangers++
			byUser[o.user]++
		}
	}
	most := func(o *conn) bool {
		for _, n := range byUser {
			if n > byUser[o.user] {
				return false
			}
		}
		return true
	}
	stranger := func(o *conn) bool { return !o.known && !o.owners() }
	switch {
	case !c.owners() && byUser[c.user] >= g.otherOne:
		victim = g.oldest(func(o *conn) bool { return stranger(o) && o.user == c.user })
	case !c.owners() && strangers >= g.others:
		victim = g.oldest(func(o *conn) bool { return stranger(o) && most(o) })
	case len(g.open) >= g.all:
		for _, which := range []func(o *conn) bool{
			func(o *conn) bool { return stranger(o) && most(o) },
			func(o *conn) bool { return !o.known },
			func(*conn) bool { return true },
		} {
			if victim = g.oldest(which); victim != nil {
				break
			}
		}
	}
	delete(g.open, victim)
	g.open[c] = struct{}{}
	return victim
}

func (g *gate) oldest(which func(*conn) bool) (first *conn) {
	for c := range g.open {
		if which(c) && (first == nil || c.since.Before(first.since)) {
			first = c
		}
	}
	return first
}

// listener counts what it accepts.
type listener struct {
	net.Listener
	gate *gate
	asks bool // who connects is asked for
}

func (l *listener) Accept() (net.Conn, error) {
	in, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: in, gate: l.gate, user: unknownUser, since: time.Now()}
	if l.asks {
		if uid, err := peercred.TCP(in); err == nil {
			c.user = int(uid)
		}
	}
	if victim := l.gate.admit(c); victim != nil {
		victim.Conn.Close()
	}
	return c, nil
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// user is who sends a request.
func user(r *http.Request) int {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.user
	}
	return unknownUser
}

// recognise notes that a session came by the connection of a request.
func recognise(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.gate.mu.Lock()
		c.known = true
		c.gate.mu.Unlock()
	}
}

// users are those who may use a code, and the session that it opened. Whoever relays a
// browser's words to us connects as a user of their own, and a code or a cookie that they
// have seen is no use to them.
type users struct {
	all  bool // this system does not tell who connects
	uids []int
}

func (u users) has(uid int) bool { return u.all || uid >= 0 && slices.Contains(u.uids, uid) }
