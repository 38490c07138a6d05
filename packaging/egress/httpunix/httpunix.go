// Package httpunix stands in for the library of that name, with which the cluster service
// speaks to its Kubo over a unix socket. The original neither closes its connections nor
// ends a request whose context is done: a pin that nobody can serve would hang forever,
// and no time limit of the service would hold.
//
// It has the original's exported names, as far as the service uses them, and nothing else.
package httpunix

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Scheme is the scheme of URLs that a Transport serves: http+unix://LOCATION/PATH.
const Scheme = "http+unix"

// Transport makes requests over the unix sockets that were registered with it.
type Transport struct {
	DialTimeout           time.Duration
	RequestTimeout        time.Duration
	ResponseHeaderTimeout time.Duration

	mu    sync.Mutex
	paths map[string]string
	inner *http.Transport
}

var _ http.RoundTripper = (*Transport)(nil)

// RegisterLocation makes loc, as the host of a URL, mean the socket at path.
func (t *Transport) RegisterLocation(loc, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths = make(map[string]string)
	}
	if _, have := t.paths[loc]; have {
		panic("location " + loc + " already registered")
	}
	t.paths[loc] = path
}

// RoundTrip makes one request. It ends with the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Scheme != Scheme {
		return nil, fmt.Errorf("httpunix: not a URL of %s: %v", Scheme, req.URL)
	}
	plain := req.Clone(req.Context())
	plain.URL.Scheme = "http"
	resp, err := t.transport().RoundTrip(plain)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

func (t *Transport) transport() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inner == nil {
		t.inner = &http.Transport{
			DialContext:           t.dial,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       time.Minute,
			ResponseHeaderTimeout: t.ResponseHeaderTimeout,
			DisableCompression:    true,
		}
	}
	return t.inner
}

func (t *Transport) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	path, ok := t.paths[host]
	t.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("httpunix: unknown location %q", host)
	}
	d := net.Dialer{Timeout: t.DialTimeout}
	return d.DialContext(ctx, "unix", path)
}
