package cluster_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
)

// truthTime is how soon what a Keeper says must be true again.
const truthTime = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within polls until a condition holds, and prints how long that took.
func within(t testing.TB, limit time.Duration, what string, ok func() bool, state func() any) {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > limit {
			t.Fatalf("%s: not within %v: %+v", what, limit, state())
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
	t.Logf("%s: after %.1f s", what, time.Since(begun).Seconds())
}

// rpc calls a node's Kubo.
func rpc(ctx context.Context, n *fleet.Node, path, contentType string, body io.Reader) ([]byte, error) {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.RPC())
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/v0/"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return b, err
}

// add puts some data into a node's Kubo, unpinned, and returns its CID.
func add(t testing.TB, n *fleet.Node, size int) string {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32()) //nolint:gosec // any bytes
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "file")
	must(t, err)
	_, err = part.Write(data)
	must(t, errors.Join(err, w.Close()))
	out, err := rpc(t.Context(), n, "add?pin=false&cid-version=1&quiet=true", w.FormDataContentType(), &body)
	must(t, err)
	var added struct{ Hash string }
	must(t, json.Unmarshal(out, &added))
	return added.Hash
}

// has asks a node's Kubo whether it has a CID pinned.
func has(ctx context.Context, n *fleet.Node, cid string) bool {
	_, err := rpc(ctx, n, "pin/ls?type=recursive&arg="+cid, "", nil)
	return err == nil
}

// actions records what a Keeper does.
type actions struct {
	slog.Handler
	mu   sync.Mutex
	done []string
}

func (a *actions) Handle(ctx context.Context, r slog.Record) error {
	var do, cid string
	r.Attrs(func(at slog.Attr) bool {
		switch at.Key {
		case "do":
			do = at.Value.String()
		case "cid":
			cid = at.Value.String()
		}
		return true
	})
	if do != "" {
		a.mu.Lock()
		a.done = append(a.done, do+" "+cid)
		a.mu.Unlock()
	}
	return a.Handler.Handle(ctx, r)
}

func (a *actions) did(do, cid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.done {
		if d == do+" "+cid {
			return true
		}
	}
	return false
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func newLog(t testing.TB) *actions {
	return &actions{Handler: slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// run starts a Keeper and ends it with the test.
func run(t testing.TB, k *cluster.Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error("the keeper ended with ", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func clientOf(t testing.TB, i *fleet.Info, only ...int) *cluster.Client {
	t.Helper()
	c := cluster.Config{CAFile: i.CAFile, User: i.Username, Password: i.Password}
	for n, e := range i.Endpoints {
		if len(only) == 0 || n == only[0] {
			c.Endpoints = append(c.Endpoints, e.URL)
		}
	}
	client, err := cluster.NewClient(c)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func httpClient(t testing.TB, i *fleet.Info) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(i.CAFile)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// token has a node make one.
func token(t testing.TB, i *fleet.Info) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.Endpoints[0].URL+"/token", nil)
	must(t, err)
	req.SetBasicAuth(i.Username, i.Password)
	resp, err := httpClient(t, i).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	var made struct{ Token string }
	must(t, json.NewDecoder(resp.Body).Decode(&made))
	if made.Token == "" {
		t.Fatal("no token: ", resp.Status)
	}
	return made.Token
}

// forward lets a unix socket lead to a TCP port, through TLS if there is an authority to
// trust.
func forward(t testing.TB, path, to, caFile string) {
	t.Helper()
	dial := func() (net.Conn, error) { return net.Dial("tcp", to) }
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		must(t, err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		dial = func() (net.Conn, error) {
			return tls.Dial("tcp", to, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
		}
	}
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := dial()
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() { // ends when either side does
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
}
