package httpunix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// server answers on a unix socket; the path /hang is never answered.
func server(t *testing.T) (client *http.Client, hung chan struct{}) {
	t.Helper()
	hung = make(chan struct{}, 1)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done() // the caller has gone
			hung <- struct{}{}
			return
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}), hung
}

func serve(t *testing.T, answer http.HandlerFunc) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: answer}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	unix := &Transport{DialTimeout: time.Second}
	unix.RegisterLocation("ipfs", path)
	tr := &http.Transport{}
	tr.RegisterProtocol(Scheme, unix)
	return &http.Client{Transport: tr}
}

func TestAnswers(t *testing.T) {
	c, _ := server(t)
	for range 3 {
		resp, err := c.Post(Scheme+"://ipfs/api/v0/id", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "/api/v0/id" {
			t.Errorf("%q, %v", b, err)
		}
		_ = resp.Body.Close()
	}
	if _, err := c.Get(Scheme + "://elsewhere/"); err == nil {
		t.Error("a location that was not registered answers")
	}
}

func TestEndsWithItsContext(t *testing.T) {
	c, hung := server(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, Scheme+"://ipfs/hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request past its deadline: %v", err)
	}
	select {
	case <-hung:
	case <-time.After(time.Minute):
		t.Error("the connection of a request that has ended stays open")
	}
}

// An update that waits for blocks of which none comes ends, also when its Kubo says nothing
// at all. One that goes on, or looks through what it has, does not, however long it takes.
func TestStuckUpdateEnds(t *testing.T) {
	const limit = time.Second
	t.Setenv(StallEnv, (limit / 2).String())
	for name, c := range map[string]struct {
		stat  func(n int) string // the answer to the n-th question
		stuck bool
	}{
		"nothing comes": {func(int) string { return `{"Wantlist":[{"/":"bafy"}],"BlocksReceived":7}` }, true},
		"no answer":     {func(int) string { return "" }, true},
		"blocks come":   {func(n int) string { return fmt.Sprintf(`{"Wantlist":[{"/":"bafy"}],"BlocksReceived":%d}`, n) }, false},
		"local":         {func(int) string { return `{"Wantlist":[],"BlocksReceived":7}` }, false},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 1)
			var asked atomic.Int64
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/api/v0/bitswap/stat":
					text := c.stat(int(asked.Add(1)))
					if text == "" {
						<-r.Context().Done()
					}
					_, _ = io.WriteString(w, text)
				case "/api/v0/pin/update":
					select {
					case <-r.Context().Done():
						ended <- struct{}{}
					case <-time.After(3 * limit):
						_, _ = io.WriteString(w, r.URL.RawQuery)
					}
				}
			})
			begun := time.Now()
			resp, err := client.Post(Scheme+"://ipfs/api/v0/pin/update?arg=a&arg=b&unpin=false", "", nil)
			if !c.stuck {
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || string(b) != "arg=a&arg=b&unpin=false" {
					t.Errorf("%q, %v", b, err)
				}
				_ = resp.Body.Close()
				return
			}
			if took := time.Since(begun); !errors.Is(err, ErrStalled) || took > 5*limit/2 {
				t.Fatalf("after %v: %v", took, err)
			}
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("the Kubo is not told that nobody waits any more")
			}
		})
	}
}
