package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	connectTime = 5 * time.Second
	// shunTime is how long an endpoint that failed is tried last.
	shunTime     = 30 * time.Second
	maxHeaders   = 64 << 10
	idleConnTime = time.Minute
)

// endpoint is the REST API of one peer.
type endpoint struct {
	name string // as configured
	base string // without a slash at the end
	http *http.Client

	place *place
}

// newEndpoint reads http://HOST:PORT, https://HOST:PORT or unix:///PATH. It connects to
// nothing.
func newEndpoint(s string, roots *x509.CertPool) (*endpoint, error) {
	u, err := url.Parse(s)
	if err != nil { // whose text may hold a password
		return nil, fmt.Errorf("%w: an endpoint is not a URL", ErrConfig)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: credentials do not belong into the URL of %s", ErrConfig, u.Host)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: %q is more than the address of an endpoint", ErrConfig, s)
	}
	at := newPlace(u)
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            at.dial,
		TLSHandshakeTimeout:    connectTime,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        idleConnTime,
		DisableCompression:     true,
	}
	e := &endpoint{name: s, base: strings.TrimRight(s, "/"), place: at, http: &http.Client{
		Transport: t,
		// The credentials are for this endpoint alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return nil, fmt.Errorf("%w: no host in %q", ErrConfig, s)
		}
	case "unix":
		if u.Host != "" || u.Path == "" || u.Path == "/" {
			return nil, fmt.Errorf("%w: %q: want unix:///PATH", ErrConfig, s)
		}
		path := u.Path
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: connectTime}).DialContext(ctx, "unix", path)
		}
		e.base = "http://localhost"
	default:
		return nil, fmt.Errorf("%w: %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", ErrConfig, s)
	}
	return e, nil
}

// readRoots reads the authorities to trust; nil is those of the system.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := safefile.ReadNamed(file, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("%w: authority to trust: %w", ErrConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: no certificate in %s", ErrConfig, file)
	}
	return pool, nil
}

// choice remembers which endpoint works.
type choice struct {
	mu      sync.Mutex
	current int
	failed  []time.Time // zero: not, or it has worked since
	now     func() time.Time
}

// order is in which order to try the endpoints: first the one that worked last, then
// those of which nothing bad is known, then the others, the longest failed first.
func (c *choice) order() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]int, len(c.failed))
	for i := range all {
		all[i] = i
	}
	now := c.now()
	rank := func(i int) time.Time {
		if now.Sub(c.failed[i]) > shunTime {
			return time.Time{}
		}
		return c.failed[i]
	}
	slices.SortStableFunc(all, func(a, b int) int {
		if n := rank(a).Compare(rank(b)); n != 0 {
			return n
		}
		switch c.current {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	return all
}

func (c *choice) worked(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.failed[i] = i, time.Time{}
}

func (c *choice) didNot(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[i] = c.now()
}

func (c *choice) used() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}
