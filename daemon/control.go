package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// ErrNotRunning: no daemon answers for this home.
var ErrNotRunning = errors.New("the drive is not mounted")

// The control protocol: HTTP with JSON over a unix socket of mode 0600, for processes of
// the same user and of root. An error is {"error": text, "kind": name}.

// kinds are the meanings that travel over the control socket.
var kinds = []struct {
	name string
	err  error
}{
	{"busy", fs.ErrBusy}, {"integrity", fs.ErrIntegrity}, {"unavailable", fs.ErrUnavailable},
	{"not_found", fs.ErrNotFound}, {"not_dir", fs.ErrNotDir}, {"read_only", fs.ErrReadOnly}, {"no_space", fs.ErrNoSpace},
	{"invalid", fs.ErrInvalid},
}

type wireError struct {
	Error string `json:"error"`
	Kind  string `json:"kind,omitempty"`
}

// control serves the control socket until it is closed.
func (s *Service) control() (io.Closer, error) {
	path := s.p.Home.controlSocket()
	// The lock is ours: a socket that is there was left by a daemon that died.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Status(), nil) })
	mux.HandleFunc("POST /sync", func(w http.ResponseWriter, r *http.Request) {
		d := fs.Durability(r.FormValue("durability"))
		if d == "" {
			d = fs.DurabilityIPFS
		}
		reply(w, struct{}{}, s.tree.Sync(r.Context(), d))
	})
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		i, err := s.tree.Info(r.Context(), r.FormValue("path"))
		reply(w, pathInfo(i), err)
	})
	mux.HandleFunc("POST /unmount", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.Stop(r.Context(), r.FormValue("flush") == "true"))
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := srv.Serve(&ownerListener{l}); !errors.Is(err, http.ErrServerClosed) {
			s.p.Log.Error("control socket", "error", err)
		}
	}()
	return closer(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(srv.Shutdown(ctx), os.RemoveAll(path)) // lets the last answer out
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

// Stop ends the drive as `ipfscloud umount` asks: fs.ErrBusy if it is in use, and then it
// goes on.
func (s *Service) Stop(ctx context.Context, flush bool) error {
	r := stopRequest{flush: flush, done: make(chan error, 1)}
	select {
	case s.stop <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.server.Done():
		return nil
	}
	return <-r.done
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := wireError{Error: err.Error()}
		for _, k := range kinds {
			if errors.Is(err, k.err) {
				e.Kind = k.name
				break
			}
		}
		w.WriteHeader(http.StatusInternalServerError)
		v = e
	}
	// The one who asked may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// ownerListener lets in only processes of this user and of root.
type ownerListener struct{ net.Listener }

func (l *ownerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if u, ok := c.(*net.UnixConn); ok && samePeer(u) {
			return c, nil
		}
		c.Close()
	}
}

func samePeer(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return err == nil && credErr == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// Client speaks to the running daemon of a home.
type Client struct{ http *http.Client }

// Connect finds the daemon of a home; ErrNotRunning if there is none.
func Connect(ctx context.Context, h Home) (*Client, error) {
	path := h.controlSocket()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	c, err := dial(ctx, "", "")
	if err != nil {
		return nil, ErrNotRunning
	}
	c.Close()
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

func (c *Client) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("asking the daemon: %w: %w", fs.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var e wireError
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return fmt.Errorf("the daemon answers %s", resp.Status)
	}
	for _, k := range kinds {
		if k.name == e.Kind {
			return remoteError{e.Error, k.err}
		}
	}
	return remoteError{e.Error, nil}
}

// remoteError is an error of the daemon: its text, and its meaning here.
type remoteError struct {
	text    string
	meaning error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.meaning }

// Status asks where the drive stands.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.call(ctx, "GET", "/status", &s)
	return s, err
}

// Sync waits until all changes have a durability.
func (c *Client) Sync(ctx context.Context, durability string) error {
	return c.call(ctx, "POST", "/sync?durability="+durability, &struct{}{})
}

// Info describes a path of the drive, relative to its top.
func (c *Client) Info(ctx context.Context, path string) (i PathInfo, err error) {
	err = c.call(ctx, "GET", "/info?path="+query(path), &i)
	return i, err
}

// Unmount ends the drive; with flush, after its commit.
func (c *Client) Unmount(ctx context.Context, flush bool) error {
	return c.call(ctx, "POST", fmt.Sprintf("/unmount?flush=%t", flush), &struct{}{})
}

func query(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// Within returns path relative to the mountpoint of the drive, or fs.ErrNotFound.
func (s Status) Within(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	rel, err := filepath.Rel(s.Mountpoint, abs)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%s is not on the drive at %s: %w", path, s.Mountpoint, fs.ErrNotFound)
	}
	return rel, nil
}

// AwaitEnd returns when no daemon has the drive of a home any more: a new one may start.
func AwaitEnd(ctx context.Context, h Home) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := takeLock(h.lockFile())
		if err == nil {
			return f.Close()
		}
		if !errors.Is(err, fs.ErrBusy) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not end: %w", ctx.Err())
		}
	}
}
