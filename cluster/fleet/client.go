package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const callTime = 10 * time.Second // for one call to a process of this machine

// client calls one HTTP server.
type client struct {
	base       string
	user, pass string
	http       *http.Client
}

func newTransport() *http.Transport {
	return &http.Transport{IdleConnTimeout: 10 * time.Second, MaxIdleConnsPerHost: 4}
}

// unixClient calls a server on a unix socket.
func unixClient(path string) *client {
	t := newTransport()
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &client{base: "http://localhost", http: &http.Client{Transport: t}}
}

// trust makes a transport accept what the authority in a file has signed, and nothing else.
func trust(t *http.Transport, caFile string) error {
	pem, err := safefile.ReadNamed(caFile, 1<<20)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%w: no certificate in %s", ErrConfig, caFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

// statusError is an answer that is not a success.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.code, e.text) }

func (c *client) get(ctx context.Context, path string, into any) error {
	return c.call(ctx, http.MethodGet, path, callTime, func(d *json.Decoder) error { return d.Decode(into) })
}

func (c *client) post(ctx context.Context, path string, into any) error {
	return c.postFor(ctx, path, into, callTime)
}

func (c *client) postFor(ctx context.Context, path string, into any, limit time.Duration) error {
	return c.call(ctx, http.MethodPost, path, limit, func(d *json.Decoder) error { return d.Decode(into) })
}

func (c *client) call(ctx context.Context, method, path string, limit time.Duration, read func(*json.Decoder) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.pass)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return &statusError{code: resp.StatusCode, text: string(b)}
	}
	if err := read(json.NewDecoder(resp.Body)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// peerID is what a cluster peer says of itself, or of another.
type peerID struct {
	ID    string `json:"id"`
	Name  string `json:"peername"`
	Error string `json:"error"`
	IPFS  struct {
		ID    string `json:"id"`
		Error string `json:"error"`
	} `json:"ipfs"`
}

// peers are all that a cluster peer sees, itself included.
func (c *client) peers(ctx context.Context) (all []peerID, err error) {
	err = c.call(ctx, http.MethodGet, "/peers", callTime, func(d *json.Decoder) error {
		for {
			var id peerID
			if err := d.Decode(&id); err != nil {
				return err
			}
			all = append(all, id)
		}
	})
	return all, err
}

// metric tells of which peers a valid value of a metric is known.
func (c *client) metric(ctx context.Context, name string) (map[string]bool, error) {
	var all []struct {
		Peer   string `json:"peer"`
		Valid  bool   `json:"valid"`
		Expire int64  `json:"expire"`
	}
	if err := c.get(ctx, "/monitor/metrics/"+name, &all); err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, m := range all {
		known[m.Peer] = m.Valid && m.Expire > time.Now().UnixNano()
	}
	return known, nil
}
