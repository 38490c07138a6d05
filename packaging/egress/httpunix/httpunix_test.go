package httpunix

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// server answers on a unix socket; the path /hang is never answered.
func server(t *testing.T) (client *http.Client, hung chan struct{}) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hung = make(chan struct{}, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done() // the caller has gone
			hung <- struct{}{}
			return
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	unix := &Transport{DialTimeout: time.Second}
	unix.RegisterLocation("ipfs", path)
	tr := &http.Transport{}
	tr.RegisterProtocol(Scheme, unix)
	return &http.Client{Transport: tr}, hung
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
