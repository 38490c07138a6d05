// Package httpunix stands in for the library of that name, with which the cluster service
// speaks to its Kubo over a unix socket. The original neither closes its connections nor
// ends a request whose context is done: a pin that nobody can serve would hang forever,
// and no time limit of the service would hold.
//
// It also ends an update of a pin that makes no progress. The service does so with other
// pins only: of an update, its Kubo tells nothing before the end. The time that all of it
// takes says nothing, for an update may be of any size and the way to it slow.
//
// It has the original's exported names, as far as the service uses them, and nothing else.
package httpunix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
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

// StallEnv is the environment variable that says after what time without progress the
// service ends a pin. An update is given twice that, which is what other pins get at most.
const StallEnv = "IPFSCLOUD_PIN_STALL"

const defaultStall = 2 * time.Minute // the service's own

// ErrStalled is how an update ends that makes no progress.
var ErrStalled = errors.New("no block came")

// RoundTrip makes one request. It ends with the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Scheme != Scheme {
		return nil, fmt.Errorf("httpunix: not a URL of %s: %v", Scheme, req.URL)
	}
	plain := req.Clone(req.Context())
	plain.URL.Scheme = "http"
	resp, err := t.roundTrip(plain)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

const updatePath, statPath = "/pin/update", "/bitswap/stat"

func (t *Transport) roundTrip(req *http.Request) (*http.Response, error) {
	api, update := strings.CutSuffix(req.URL.Path, updatePath)
	if !update {
		return t.transport().RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stat := &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: api + statPath}
	go t.watch(ctx, cancel, stat.String()) // ends with ctx
	resp, err := t.transport().RoundTrip(req.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &watchedBody{resp.Body, cancel} // until then the answer must not end
	return resp, nil
}

// watchedBody ends the watch when it is closed.
type watchedBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *watchedBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// watch cancels ctx when blocks are wanted and none comes. That none is wanted is no
// standstill: what is there already is looked through.
func (t *Transport) watch(ctx context.Context, cancel context.CancelCauseFunc, stat string) {
	limit := 2 * stall()
	tick := time.NewTicker(max(limit/8, time.Millisecond))
	defer tick.Stop()
	progress, received := time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, wants, err := t.exchange(ctx, stat, limit)
		switch {
		case err == nil && (!wants || n != received):
			progress, received = time.Now(), n
		case time.Since(progress) > limit:
			cancel(fmt.Errorf("%w for %v", ErrStalled, limit))
			return
		}
	}
}

// exchange asks how many blocks a Kubo has received, and whether it wants more.
func (t *Transport) exchange(ctx context.Context, stat string, limit time.Duration) (received uint64, wants bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, stat, nil)
	if err != nil {
		return 0, false, err
	}
	resp, err := t.transport().RoundTrip(req)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, false, fmt.Errorf("httpunix: %s: %s", statPath, resp.Status)
	}
	var s struct {
		Wantlist       []json.RawMessage
		BlocksReceived uint64
	}
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s.BlocksReceived, len(s.Wantlist) > 0, err
}

func stall() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(StallEnv)); err == nil && d > 0 {
		return d
	}
	return defaultStall
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
