package horizon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/peercred"
)

// Config is what a Server is made of.
type Config struct {
	Source Source
	// Listen is a loopback address with a port, as 127.0.0.1:0; port 0 takes a free one.
	// Empty is 127.0.0.1:0. The port is taken at 127.0.0.1 and at ::1.
	Listen string
	// Listeners were made before, for example by systemd, on loopback and with one port;
	// Listen does not count then. If that of 127.0.0.1 or of ::1 is missing, it is added.
	Listeners []net.Listener
	Log       *slog.Logger
	// MetricsToken is asked at each scrape for the bearer token of /metrics; without it,
	// or while it returns "", there are no metrics by TCP.
	MetricsToken func() string
}

// limits are what one Server grants, together and to each. Tests tighten them.
type limits struct {
	conns    int           // connections at once
	others   int           // of them of other users of the machine who have no session
	otherOne int           // of these of one user
	streams  int           // connections for live news
	header   time.Duration // to send a request's header
	read     time.Duration // to send a request
	write    time.Duration // to take an answer, or one piece of live news
	idle     time.Duration // between two requests
	beat     time.Duration // between signs of life in live news
	body     int64
}

func defaultLimits() limits {
	return limits{conns: 96, others: 24, otherOne: 8, streams: 12, header: 5 * time.Second, read: 10 * time.Second,
		write: 10 * time.Second, idle: time.Minute, beat: 5 * time.Second, body: 4096}
}

// Server is the page. It serves from Serve until its context ends.
type Server struct {
	config   Config
	limits   limits
	name     string // the host name without a port
	port     int
	asks     bool // the kernel tells who connects
	sessions *sessions
	watcher  *watcher
	pages    *template.Template
	refused  *refusals
	streams  chan struct{} // a token for each live stream
	added    chan net.Listener

	mu        sync.Mutex     // guards the rest
	listeners []net.Listener // the first is there always
	lacks     bool           // ::1, which this machine does not have yet
}

// New takes the port at both addresses of loopback, and draws the page's name. ErrListen if
// it cannot.
func New(c Config) (*Server, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Listeners) > 0 {
		c.Listen = c.Listeners[0].Addr().String()
	}
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	all, lacks, err := own(c.Listen, c.Listeners)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	s := &Server{config: c, limits: defaultLimits(), listeners: all, port: portOf(all[0]), lacks: lacks, added: make(chan net.Listener, 1), sessions: newSessions(), pages: pages,
		// A letter first, as host names want it. 100 bits: other users of the machine do not guess it.
		name:    "h" + strings.ToLower(rand.Text()[:20]) + ".localhost",
		watcher: newWatcher(c.Source, c.Log), refused: newRefusals()}
	if err := peercred.TCPWorks(); err != nil {
		c.Log.Warn("horizon: this system does not tell which user connects: the page's codes and cookies are good for whoever has them", "error", err)
	} else {
		s.asks = true
	}
	return s, nil
}

// Serve serves until the context ends, and gives the port back. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watcher.run(ctx)
	}()
	h := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: s.limits.header, ReadTimeout: s.limits.read, WriteTimeout: s.limits.write, IdleTimeout: s.limits.idle,
		MaxHeaderBytes: 16 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    withConn,
		ErrorLog:       slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	served, gate, serving := make(chan error), newGate(s.limits), 0
	begin := func(l net.Listener) {
		serving++
		go func() { served <- h.Serve(&listener{Listener: l, gate: gate, asks: s.asks}) }()
	}
	s.mu.Lock()
	for _, l := range s.listeners {
		begin(l)
	}
	s.mu.Unlock()
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case l := <-s.added:
			begin(l)
		case err = <-served: // one address without the other is worse than none
			serving--
		case <-ctx.Done():
		}
	}
	cancel()
	limited, stop := context.WithTimeout(context.Background(), 3*time.Second)
	if h.Shutdown(limited) != nil {
		h.Close()
	}
	stop()
	for ; serving > 0; serving-- {
		if e := <-served; err == nil || errors.Is(err, http.ErrServerClosed) {
			err = e
		}
	}
	_ = s.Close() // one that was added in this moment; the others are closed
	<-watched
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close gives the port back when Serve was not called.
func (s *Server) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if cerr := l.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	s.lacks = false // Login takes no more
	return err
}

// complete takes ::1, if this machine has it now and had not at the start. ErrListen where
// somebody else was faster.
func (s *Server) complete() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lacks {
		return nil
	}
	l, err := listenAt(netip.AddrPortFrom(six(), uint16(s.port)))
	switch {
	case noSuchAddress(err):
		return nil
	case err != nil:
		return fmt.Errorf("%w: this machine has IPv6 now, and a browser would look there first: %w", ErrListen, err)
	}
	s.lacks = false
	s.listeners = append(s.listeners, l)
	s.added <- l // has room for the only one
	return nil
}

func portOf(l net.Listener) int {
	a, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil { // a TCP listener has a port
		return 0
	}
	return int(a.Port())
}

// URL is where the page is. Its host name is resolved by browsers, and by systemd.
func (s *Server) URL() string {
	return "http://" + net.JoinHostPort(s.name, strconv.Itoa(s.Port())) + "/"
}

// Port is where the page listens, for forwarding it.
func (s *Server) Port() int { return s.port }

// Login draws a code that opens the page once, within two minutes, for the owner, for root
// and for the given users of the machine. ErrListen when another program has taken one of
// the addresses at which a browser would look.
func (s *Server) Login(uids ...int) (Login, error) {
	if err := s.complete(); err != nil {
		return Login{}, err
	}
	p := s.sessions.pass(users{all: !s.asks, uids: append([]int{0, os.Geteuid()}, uids...)})
	return Login{URL: s.URL() + "login#" + p.code, Code: p.code, Expires: p.expires, page: s.URL(), pass: p}, nil
}
