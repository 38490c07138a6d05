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
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is what a Server is made of.
type Config struct {
	Source Source
	// Listen is a loopback address with a port, as 127.0.0.1:0; port 0 takes a free one.
	// Empty is 127.0.0.1:0.
	Listen string
	// Listener is one that was made before, for example by systemd, on loopback; Listen
	// does not count then.
	Listener net.Listener
	Log      *slog.Logger
	// MetricsToken is asked at each scrape for the bearer token of /metrics; without it,
	// or while it returns "", there are no metrics by TCP.
	MetricsToken func() string
}

// limits are what one Server grants, together and to each. Tests tighten them.
type limits struct {
	conns   int           // connections at once
	streams int           // of them for live news
	header  time.Duration // to send a request's header
	read    time.Duration // to send a request
	write   time.Duration // to take an answer, or one piece of live news
	beat    time.Duration // between signs of life in live news
	body    int64
}

func defaultLimits() limits {
	return limits{conns: 64, streams: 12, header: 5 * time.Second, read: 10 * time.Second, write: 10 * time.Second,
		beat: 5 * time.Second, body: 4096}
}

// Server is the page. It serves from Serve until its context ends.
type Server struct {
	config   Config
	limits   limits
	name     string // the host name without a port
	listener net.Listener
	sessions *sessions
	watcher  *watcher
	pages    *template.Template
	refused  *refusals
	streams  chan struct{} // a token for each live stream
	close    sync.Once
}

// New takes the address, and draws the page's name. ErrListen if it cannot.
func New(c Config) (*Server, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Listener != nil {
		c.Listen = c.Listener.Addr().String()
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%w: %s is not a loopback address", ErrListen, host)
	}
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	l := c.Listener
	if l == nil {
		if l, err = net.Listen("tcp", c.Listen); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrListen, err)
		}
	}
	s := &Server{config: c, limits: defaultLimits(), listener: l, sessions: newSessions(), pages: pages,
		// A letter first, as host names want it. 100 bits: other users of the machine do not guess it.
		name:    "h" + strings.ToLower(rand.Text()[:20]) + ".localhost",
		watcher: newWatcher(c.Source, c.Log), refused: newRefusals()}
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
		ReadHeaderTimeout: s.limits.header, ReadTimeout: s.limits.read, WriteTimeout: s.limits.write, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(limitConns(s.listener, s.limits.conns)) }()
	var err error
	select {
	case <-ctx.Done():
		limited, stop := context.WithTimeout(context.Background(), 3*time.Second)
		if h.Shutdown(limited) != nil {
			h.Close()
		}
		stop()
		err = <-served
	case err = <-served:
		cancel()
	}
	<-watched
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close gives the port back when Serve was not called.
func (s *Server) Close() (err error) {
	s.close.Do(func() { err = s.listener.Close() })
	return err
}

// URL is where the page is. Its host name is resolved by browsers, and by systemd.
func (s *Server) URL() string {
	_, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil { // a TCP listener has a port
		return "http://" + s.name + "/"
	}
	return "http://" + net.JoinHostPort(s.name, port) + "/"
}

// Port is where the page listens, for forwarding it.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	n, _ := strconv.Atoi(port)
	return n
}

// Login draws a code that opens the page once, within two minutes.
func (s *Server) Login() Login {
	code, expires := s.sessions.code()
	return Login{URL: s.URL() + "login#" + code, Code: code, Expires: expires}
}

// limitConns hands out at most n connections at a time; further ones are closed at once,
// so that they do not wait for those that do nothing.
func limitConns(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, free: make(chan struct{}, n)}
}

type limitedListener struct {
	net.Listener
	free chan struct{} // a token for each open connection
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: c, free: l.free}, nil
		default:
			c.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free chan struct{}
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
