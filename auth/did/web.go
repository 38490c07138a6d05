package did

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	ariesvdr "github.com/hyperledger/aries-framework-go/pkg/framework/aries/api/vdr"
	ariesweb "github.com/hyperledger/aries-framework-go/pkg/vdr/web"

	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
)

// WebMethod is did:web, for reading. What it says is as good as the domain and its TLS
// certificate, and it has no history: a version is the hash of the document, and no
// rollback can be seen.
type WebMethod struct {
	Fixed
	vdr      *ariesweb.VDR
	base     http.RoundTripper
	deadline time.Duration
}

var _ Method = (*WebMethod)(nil)

// WebConfig configures did:web.
type WebConfig struct {
	// Transport sends the requests; nil is fetch.New(), which reaches public servers only.
	Transport http.RoundTripper
	// Deadline of one resolution; zero is 10 seconds.
	Deadline time.Duration
}

const webRedirects = 3

// NewWeb returns did:web.
func NewWeb(cfg WebConfig) *WebMethod {
	m := &WebMethod{vdr: ariesweb.New(), base: cfg.Transport, deadline: cfg.Deadline}
	if m.base == nil {
		m.base = fetch.New()
	}
	if m.deadline == 0 {
		m.deadline = 10 * time.Second
	}
	return m
}

// Can is resolve only: a did:web is made by putting a file on a server.
func (*WebMethod) Can() Operations { return CanResolve }

// Name is "web".
func (*WebMethod) Name() string { return "web" }

// Create returns ErrNotSupported: a did:web is made by putting a file on a server.
func (*WebMethod) Create(context.Context, Change, Signer) (*Document, error) {
	return nil, lacks("create")
}

// Resolve fetches did.json of the domain, within the deadline.
func (m *WebMethod) Resolve(ctx context.Context, id string) (*Document, error) {
	if err := checkWeb(id); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.deadline)
	defer cancel()
	rec := &recorder{ctx: ctx, base: m.base}
	client := &http.Client{Transport: rec, CheckRedirect: webRedirect}
	opts := []ariesvdr.DIDMethodOption{ariesvdr.WithOption(ariesweb.HTTPClientOpt, client)}
	_, err := m.vdr.Read(id, opts...)
	switch {
	case rec.status == http.StatusOK && rec.err == nil:
		// Aries has fetched the document and has its own opinion about it, which loses
		// members and rejects some newer documents: the bytes decide.
		err = nil
	case rec.status == http.StatusNotFound || rec.status == http.StatusGone:
		return nil, fmt.Errorf("the server says %d: %w", rec.status, ErrNotFound)
	case errors.Is(rec.err, ErrInvalid) || errors.Is(err, ErrInvalid):
		return nil, err
	case errors.Is(rec.err, fetch.ErrForbidden):
		return nil, fmt.Errorf("%s leads to %w: %w", id, rec.err, ErrInvalid)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer in time: %w", ErrUnavailable)
	default:
		return nil, fmt.Errorf("%v: %w", err, ErrUnavailable)
	}
	doc, err := Parse(id, rec.body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(rec.body)
	doc.Version = Version{ID: "sha256-" + hex.EncodeToString(sum[:])}
	return doc, nil
}

func webRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > webRedirects {
		return fmt.Errorf("more than %d redirects: %w", webRedirects, ErrInvalid)
	}
	if req.URL.Scheme != "https" || isAddress(req.URL.Hostname()) {
		return fmt.Errorf("redirect to %.200s: %w", req.URL, ErrInvalid)
	}
	return nil
}

// checkWeb lets through a host, an optional port and plain path segments: unescaped,
// the parts of a did:web can otherwise become another host, path or query.
func checkWeb(id string) error {
	specific, ok := strings.CutPrefix(id, "did:web:")
	if _, err := methodOf(id); err != nil || !ok {
		return fmt.Errorf("%.200q is not a did:web: %w", id, ErrInvalid)
	}
	parts := strings.Split(specific, ":")
	host, err := url.PathUnescape(parts[0])
	if err != nil {
		return fmt.Errorf("host in %s: %w", id, ErrInvalid)
	}
	u, err := url.Parse("https://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("host in %s: %w", id, ErrInvalid)
	}
	if isAddress(u.Hostname()) {
		return fmt.Errorf("%s has an IP address for a domain: %w", id, ErrInvalid)
	}
	for _, p := range parts[1:] {
		if s, err := url.PathUnescape(p); err != nil || s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\?#%") {
			return fmt.Errorf("path in %s: %w", id, ErrInvalid)
		}
	}
	return nil
}

// isAddress tells whether a host is an IP address in any of the spellings that programs
// take for one: a name never ends in a number.
func isAddress(host string) bool {
	last := strings.TrimSuffix(host, ".")
	last = strings.ToLower(last[strings.LastIndexByte(last, '.')+1:])
	return strings.ContainsAny(host, ":[]") || last == "" || strings.Trim(last, "0123456789") == "" ||
		strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == ""
}

// recorder is a transport that obeys ctx, bounds the answer, and keeps its bytes: aries
// does none of it. It serves one request and its redirects, one after the other.
type recorder struct {
	ctx    context.Context
	base   http.RoundTripper
	status int
	body   []byte
	err    error
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.status, r.body, r.err = 0, nil, nil
	resp, err := r.base.RoundTrip(req.WithContext(r.ctx))
	if err != nil {
		r.err = err
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxDocument+1))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && len(body) > MaxDocument {
		err = fmt.Errorf("answer of more than %d bytes: %w", MaxDocument, ErrInvalid)
	}
	if err != nil {
		r.err = err
		return nil, err
	}
	r.status, r.body = resp.StatusCode, body
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
