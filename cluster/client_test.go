package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// shortTimeout is for what never answers; testTimeout is for answers, which a machine
	// that is busy may give late.
	shortTimeout = 300 * time.Millisecond
	testTimeout  = 20 * time.Second
	secret       = "s3cr3t-p4ss"
)

func newTestClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = testTimeout
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.fanout = 2 * cfg.CallTimeout
	t.Cleanup(c.Close)
	return c
}

// calls are all calls that there are.
func calls(c *Client) map[string]func(context.Context) error {
	cid := testCID(1)
	return map[string]func(context.Context) error{
		"version": func(ctx context.Context) error { _, err := c.Version(ctx); return err },
		"peers":   func(ctx context.Context) error { _, err := c.Peers(ctx); return err },
		"find":    func(ctx context.Context) error { _, err := c.Find(ctx, "a", "b"); return err },
		"alerts":  func(ctx context.Context) error { _, err := c.Alerts(ctx); return err },
		"metrics": func(ctx context.Context) error { _, err := c.metrics(ctx, "ping"); return err },
		"graph":   func(ctx context.Context) error { _, err := c.graph(ctx); return err },
		"pin": func(ctx context.Context) error {
			_, err := c.pin(ctx, cid, &options{min: 2, max: 3})
			return err
		},
		"unpin":   func(ctx context.Context) error { return c.unpin(ctx, cid) },
		"recover": func(ctx context.Context) error { return c.recover(ctx, cid) },
		"status": func(ctx context.Context) error {
			return c.status(ctx, []string{cid}, func() {}, func(*wireStatus) {})
		},
	}
}

// hang answers nothing until the client goes away.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func text(code int, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, s) //nolint:errcheck // the client may be gone
	}
}

// endless repeats something until the client goes away.
func endless(s string, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := fmt.Fprint(w, s); err != nil {
				return
			}
			if pause > 0 {
				w.(http.Flusher).Flush()
				time.Sleep(pause) // is what is slow here
			}
		}
	}
}

// What may come instead of an answer, and what the client says of it. No call hangs, and
// none panics.
func TestFaultsOfTheAPI(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for _, f := range []struct {
		name   string
		answer http.HandlerFunc
		want   error
		but    map[string]error // nil: it is no fault for these
		never  bool             // an answer: the timeout ends it
	}{
		{name: "hang", answer: hang, want: ErrUnavailable, never: true},
		{name: "hang in the body", answer: func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"cid":`) //nolint:errcheck // as above
			w.(http.Flusher).Flush()
			hang(w, r)
		}, want: ErrUnavailable, never: true},
		{name: "closed", answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: ErrUnavailable},
		{name: "no JSON", answer: text(200, "<html>Welcome to nginx</html>"), want: ErrAnswer},
		{name: "nothing", answer: text(200, ""), want: ErrAnswer, but: map[string]error{"peers": nil, "find": nil, "status": nil}},
		{name: "another type", answer: text(200, `"yes"`), want: ErrAnswer},
		{name: "other types within", answer: text(200, `[{"cid":5,"id":[],"peer_map":7,"peer":{},"version":1,"cluster_links":3}]`), want: ErrAnswer},
		{name: "cut JSON", answer: text(200, `{"cid":"bafk`), want: ErrAnswer},
		{name: "cut connection", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"cid":"`+testCID(1)+`","id":"x"}`, "\n", `{"cid`) //nolint:errcheck // as above
		}, want: ErrAnswer, but: map[string]error{"pin": nil, "unpin": nil, "recover": nil, "version": nil, "graph": nil}},
		{name: "deep", answer: text(200, strings.Repeat("[", 100_000)), want: ErrAnswer},
		{name: "huge value", answer: endless(`{"cid":"`+big, 0), want: ErrAnswer},
		{name: "huge text", answer: endless(big, 0), want: ErrAnswer},
		{name: "slow and endless", answer: endless(" ", 20*time.Millisecond), want: ErrUnavailable, never: true},
		{name: "huge header", answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", big) }, want: ErrUnavailable},
		{name: "elsewhere", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}, want: ErrAnswer},
		{name: "401", answer: text(401, `{"code":401,"message":"Unauthorized"}`), want: ErrRefused},
		{name: "403", answer: text(403, "go away"), want: ErrRefused},
		{name: "404 of another server", answer: text(404, "404 page not found"), want: ErrAnswer},
		{name: "404", answer: text(404, `{"code":404,"message":"pin is not part of the pinset"}`), want: ErrNotFound},
		{name: "500", answer: text(500, `{"code":500,"message":"not enough peers to allocate CID"}`), want: ErrCluster},
		{name: "500 without a word", answer: text(500, ""), want: ErrUnavailable},
		{name: "502", answer: text(502, "<html>bad gateway</html>"), want: ErrUnavailable},
		{name: "teapot", answer: text(418, "short and stout"), want: ErrAnswer},
		{name: "X-Stream-Error", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Stream-Error")
			fmt.Fprintf(w, `{"cid":"%s","id":"x"}`, testCID(1)) //nolint:errcheck // as above
			w.Header().Set("X-Stream-Error", "the datastore\nis closed")
		}, want: ErrCluster, but: map[string]error{"alerts": ErrAnswer, "metrics": ErrAnswer, "pin": nil, "unpin": nil, "recover": nil, "version": nil, "graph": nil}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(f.answer)
			defer s.Close()
			defer s.CloseClientConnections()
			cfg := Config{Endpoints: []string{s.URL}, User: "me", Password: secret}
			if f.never {
				cfg.CallTimeout = shortTimeout
			}
			c := newTestClient(t, cfg)
			for name, call := range calls(c) {
				want := f.want
				if w, ok := f.but[name]; ok {
					want = w
				}
				begun := time.Now()
				err := call(t.Context())
				if !isOrNil(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s tells the password: %v", name, err)
				}
				limit := 4 * testTimeout
				if f.never {
					limit = testTimeout
				}
				if took := time.Since(begun); took > limit {
					t.Errorf("%s took %v", name, took)
				}
			}
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for name, call := range calls(newTestClient(t, Config{Endpoints: []string{"http://" + l.Addr().String()}})) {
			if err := call(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("context ends", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(hang))
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, call := range calls(newTestClient(t, Config{Endpoints: []string{s.URL}})) {
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// An endpoint that fails is left alone while another one works.
func TestFailover(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"hang": hang, "garbage": text(200, "garbage"), "500": text(500, "{}"), "refuses": text(401, ""),
		"says no": text(500, `{"message":"no leader"}`),
	} {
		t.Run(name, func(t *testing.T) {
			var good, bad atomic.Int32
			t.Parallel()
			works := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				good.Add(1)
				fmt.Fprint(w, `{"version":"1.1.6"}`) //nolint:errcheck // the client may be gone
			}))
			defer works.Close()
			broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				bad.Add(1)
				answer(w, r)
			}))
			defer broken.Close()
			defer broken.CloseClientConnections()
			// The good one has to answer in this time, and the bad one costs all of it.
			c := newTestClient(t, Config{Endpoints: []string{broken.URL, "http://127.0.0.1:1", works.URL}, CallTimeout: 3 * time.Second})
			now := time.Now()
			c.choice.now = func() time.Time { return now }
			for range 5 {
				if v, err := c.Version(t.Context()); err != nil || v != "1.1.6" {
					t.Fatal(v, err)
				}
			}
			if good.Load() != 5 || bad.Load() != 1 {
				t.Errorf("%d calls of the good endpoint, %d of the bad one", good.Load(), bad.Load())
			}
			if c.Endpoint() != works.URL {
				t.Error("it names ", c.Endpoint())
			}
		})
	}
}

// What takes long because other peers do not answer is no fault of the endpoint, if that
// is alive.
func TestSlowPeersAreNoFaultOfTheEndpoint(t *testing.T) {
	t.Parallel()
	var other atomic.Int32
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			fmt.Fprint(w, `{"version":"1.1.6"}`) //nolint:errcheck // the client may be gone
			return
		}
		hang(w, r)
	}))
	defer slow.Close()
	defer slow.CloseClientConnections()
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		other.Add(1)
		hang(w, r)
	}))
	defer second.Close()
	defer second.CloseClientConnections()
	c := newTestClient(t, Config{Endpoints: []string{slow.URL, second.URL}, CallTimeout: 3 * time.Second})
	if _, err := c.Peers(t.Context()); !errors.Is(err, errSlow) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if _, err := c.Version(t.Context()); err != nil || other.Load() != 0 {
		t.Errorf("%v; the other endpoint was called %d times", err, other.Load())
	}
}

func TestConfig(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		{},
		{Endpoints: []string{""}},
		{Endpoints: []string{"127.0.0.1:9094"}},
		{Endpoints: []string{"ftp://host"}},
		{Endpoints: []string{"http://"}},
		{Endpoints: []string{"http://host/?a=b"}},
		{Endpoints: []string{"unix://socket"}},
		{Endpoints: []string{"unix:///"}},
		{Endpoints: []string{"http://ok", "http://me:" + secret + "@host"}},
		{Endpoints: []string{"http://\x7f" + secret}},
		{Endpoints: []string{"http://ok"}, User: "me", Token: "t"},
		{Endpoints: []string{"http://ok"}, CAFile: notPEM},
		{Endpoints: []string{"http://ok"}, CAFile: notPEM + ".missing"},
		{Endpoints: []string{"http://ok"}, CallTimeout: -1},
	} {
		if _, err := NewClient(c); !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), secret) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, p := range []Policy{{}, {Min: 2, Max: 1}, {Min: -1, Max: 2}, {Min: 1, Max: -1}, {Min: 1, Max: 2, Expiry: time.Second}} {
		if _, err := NewKeeper(nil, p, KeeperConfig{}); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestUnixSocketAndCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		fmt.Fprint(w, `{"version":"1.1.6"}`) //nolint:errcheck // the client may be gone
	})}}
	s.Start()
	defer s.Close()
	for _, c := range []Config{{}, {User: "me", Password: secret}, {Token: "abc"}} {
		c.Endpoints = []string{"unix://" + path}
		if _, err := newTestClient(t, c).Version(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"", "Basic bWU6czNjcjN0LXA0c3M=", "Bearer abc"}; !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
}

// Answers are read leniently: what we do not know, or do not need, may be anything.
func TestLenient(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/peers":
			fmt.Fprint(w, `{"id":"future-id","peername":"a\u0007b","version":"9","addresses":["/quantum/1"],"cluster_peers":[null],
				"ipfs":{"id":"Qm","addresses":["/future/x","/ip4/1.2.3.4/tcp/1/p2p/Qm","nonsense"],"error":""},"new":{}}
				{"id":"","error":"x"}{"id":"dead","error":"no\nroute"}`) //nolint:errcheck // the client may be gone
		case "/allocations":
			fmt.Fprintf(w, `{"cid":"%s","type":2,"name":"n","metadata":{"owner":"me"},"allocations":["x"],"timestamp":"2026-01-02T03:04:05Z","expire_at":"0001-01-01T00:00:00Z"}
				{"cid":"%s","metadata":null}`, testCID(1), testCID(2)) //nolint:errcheck // as above
		}
	}))
	defer s.Close()
	c := newTestClient(t, Config{Endpoints: []string{s.URL}})
	peers, err := c.Peers(t.Context())
	if err != nil || len(peers) != 2 {
		t.Fatal(peers, err)
	}
	if p := peers[1]; p.ID != "future-id" || !p.Up || !slices.Equal(p.IPFSAddrs, []string{"/ip4/1.2.3.4/tcp/1/p2p/Qm", "/p2p/Qm"}) {
		t.Errorf("%+v", p)
	}
	if p := peers[0]; p.Up || p.Error != "no route" {
		t.Errorf("%+v", p)
	}
	found, err := c.Find(t.Context(), OwnerKey, "me")
	if err != nil || len(found) != 1 || found[0].CID != testCID(1) || !found[0].Expires.IsZero() || found[0].Created.IsZero() {
		t.Errorf("%+v %v", found, err)
	}
	if found, err = c.Find(t.Context(), "", ""); err != nil || len(found) != 2 {
		t.Errorf("%+v %v", found, err)
	}
}

// A list is read as it comes, and only what is asked for is kept.
func TestLongList(t *testing.T) {
	pins := 100_000
	if underRace {
		pins = 5_000
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		e := json.NewEncoder(w)
		for i := range pins {
			p := wirePin{CID: testCID(i % 100), Metadata: map[string]string{OwnerKey: "other"}, Name: strings.Repeat("n", 200)}
			if i == 777 {
				p.Metadata[OwnerKey] = "me"
			}
			if e.Encode(p) != nil {
				return
			}
		}
	}))
	defer s.Close()
	c := newTestClient(t, Config{Endpoints: []string{s.URL}})
	begun := time.Now()
	if found, err := c.Find(t.Context(), OwnerKey, "me"); err != nil || len(found) != 1 {
		t.Errorf("%+v %v", found, err)
	}
	t.Logf("%d pins listed in %v", pins, time.Since(begun))
}
