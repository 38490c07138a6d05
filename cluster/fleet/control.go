package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/peercred"
)

const (
	controlSocket = "fleet.sock"
	trustTime     = 5 * time.Minute // restarts all nodes of a machine
)

// control answers other programs of this user over a socket.
type control struct {
	path   string
	server *http.Server
	ended  chan error
}

func serve(f *Fleet) (*control, error) {
	path := filepath.Join(f.dir, controlSocket)
	if f.sockets != "" {
		path = filepath.Join(f.sockets, controlSocket)
	}
	// We hold the lock: a socket that is there was left by a supervisor that was killed.
	l, err := peercred.Listen(path)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(f.Status(r.Context())) // the caller may have gone
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		f.ask()
		_, _ = w.Write([]byte("{}\n"))
	})
	mux.HandleFunc("POST /trust", func(w http.ResponseWriter, r *http.Request) {
		err := f.Trust(r.Context(), strings.Split(r.URL.Query().Get("ids"), ",")...)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("{}\n"))
	})
	c := &control{
		path: path, ended: make(chan error, 1),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: callTime, ErrorLog: nil},
	}
	go func() { c.ended <- c.server.Serve(l) }()
	return c, nil
}

func (c *control) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.server.Shutdown(ctx)
	if err != nil {
		err = c.server.Close()
	}
	if e := <-c.ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// asking returns a client for the supervisor of a directory.
func asking(dir string) (*client, *state, error) {
	s, _, err := readState(dir)
	if err != nil {
		return nil, nil, err
	}
	up, err := running(dir)
	if err != nil {
		return nil, s, err
	}
	if !up || s.Running == nil {
		return nil, s, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	return unixClient(s.Running.Socket), s, nil
}

// ReadStatus asks the supervisor of a fleet how it is doing. Of a fleet that is not
// running it tells what there is, with ErrNotRunning.
func ReadStatus(ctx context.Context, dir string) (Status, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Status{}, err
	}
	c, s, err := asking(dir)
	if errors.Is(err, ErrNotRunning) {
		return s.status(dir), err
	} else if err != nil {
		return Status{}, err
	}
	defer c.http.CloseIdleConnections()
	var out Status
	if err := c.get(ctx, "/status", &out); err != nil {
		return s.status(dir), err
	}
	return out, nil
}

// Shutdown asks the supervisor of a fleet to stop it, and returns when it has.
func Shutdown(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c, _, err := asking(dir)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	var none struct{}
	if err := c.post(ctx, "/stop", &none); err != nil {
		return err
	}
	return poll(ctx, func(context.Context) error {
		if up, err := running(dir); err != nil || !up {
			return err
		}
		return ErrBusy
	})
}
