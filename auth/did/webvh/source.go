package webvh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
)

// Source is a place that may have the log of a DID. It is not trusted.
type Source interface {
	// Log returns the log. did.ErrNotFound, did.ErrUnavailable, did.ErrInvalid.
	Log(ctx context.Context, id ID) ([]byte, error)
	// Witness returns the proofs of the witnesses; it is asked for only when the log needs them.
	Witness(ctx context.Context, id ID) ([]byte, error)
}

// Store is a Source of our own that keeps logs, by SCID: a DID may move, and its log goes
// with it. A Save is whole or not at all.
type Store interface {
	Source
	Save(ctx context.Context, id ID, log, witness []byte) error
}

// HTTPConfig configures a Source on the web.
type HTTPConfig struct {
	// Transport sends the requests; nil is fetch.New(), which reaches public servers only.
	Transport http.RoundTripper
	// Deadline of one file; zero is 10 seconds.
	Deadline time.Duration
}

const redirects = 3

// NewHTTP returns the Source that the specification names: the HTTPS URL of the DID.
func NewHTTP(cfg HTTPConfig) Source {
	if cfg.Deadline == 0 {
		cfg.Deadline = 10 * time.Second
	}
	if cfg.Transport == nil {
		cfg.Transport = fetch.New()
	}
	return &web{client: &http.Client{Transport: cfg.Transport, CheckRedirect: checkRedirect}, deadline: cfg.Deadline}
}

type web struct {
	client   *http.Client
	deadline time.Duration
}

func (w *web) Log(ctx context.Context, id ID) ([]byte, error) { return w.get(ctx, id.LogURL(), MaxLog) }

func (w *web) Witness(ctx context.Context, id ID) ([]byte, error) {
	return w.get(ctx, id.WitnessURL(), MaxWitness)
}

var errRedirect = errors.New("redirect refused")

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > redirects || req.URL.Scheme != "https" || net.ParseIP(req.URL.Hostname()) != nil {
		return fmt.Errorf("to %.200s after %d: %w", req.URL, len(via), errRedirect)
	}
	return nil
}

func (w *web) get(ctx context.Context, url string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, w.deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, invalid(KindLog, "%v", err)
	}
	resp, err := w.client.Do(req)
	if errors.Is(err, errRedirect) || errors.Is(err, fetch.ErrForbidden) {
		return nil, invalid(KindLog, "%v", err)
	}
	if err != nil {
		return nil, unavailable("%v", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return nil, notFound("%s: %s", url, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return nil, unavailable("%s: %s", url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, unavailable("%s: %v", url, err)
	}
	if int64(len(body)) > limit {
		return nil, invalid(KindLog, "%s has more than %d bytes", url, limit)
	}
	return body, nil
}

func unavailable(format string, args ...any) error {
	return &did.Error{Name: did.NameInternal, Reason: fmt.Sprintf(format, args...), Err: did.ErrUnavailable}
}

// Memory is a Store that forgets with the process.
type Memory struct {
	mu   sync.Mutex
	logs map[string][2][]byte // log and witness file by SCID
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty one.
func NewMemory() *Memory { return &Memory{logs: make(map[string][2][]byte)} }

func (m *Memory) get(id ID, i int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	both, ok := m.logs[id.SCID]
	if !ok {
		return nil, notFound("%s is not known here", id)
	}
	return both[i], nil
}

// Log returns the log.
func (m *Memory) Log(_ context.Context, id ID) ([]byte, error) { return m.get(id, 0) }

// Witness returns the proofs.
func (m *Memory) Witness(_ context.Context, id ID) ([]byte, error) { return m.get(id, 1) }

// Save keeps both.
func (m *Memory) Save(_ context.Context, id ID, log, witness []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs[id.SCID] = [2][]byte{append([]byte(nil), log...), append([]byte(nil), witness...)}
	return nil
}
