package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/peercred"
	"github.com/cluster-labs/ipfscloud/fs"
)

// The control protocol: HTTP with JSON over a unix socket of mode 0600, for processes of
// the same user and of root. An error is {"error": text, "kind": name}.

// kinds are the meanings that travel over the control socket.
var kinds = []struct {
	name string
	err  error
}{
	{"login_refused", auth.ErrRefused}, {"rollback", auth.ErrRollback}, {"unavailable_did", auth.ErrUnavailable}, {"login_invalid", auth.ErrInvalid}, {"login_busy", auth.ErrBusy},
	{"no_session", auth.ErrNoSession}, {"no_egress", ErrNoEgress}, {"egress_refused", ErrEgressRefused}, {"busy", fs.ErrBusy}, {"integrity", fs.ErrIntegrity}, {"unavailable", fs.ErrUnavailable},
	{"not_found", fs.ErrNotFound}, {"exists", fs.ErrExist}, {"not_supported", fs.ErrNotSupported}, {"not_dir", fs.ErrNotDir}, {"other_writer", fs.ErrOtherWriter}, {"read_only", fs.ErrReadOnly}, {"no_space", fs.ErrNoSpace},
	{"no_name", auth.ErrNoName}, {"no_network", ErrNoNetwork}, {"invalid", fs.ErrInvalid},
}

type wireError struct {
	Error string `json:"error"`
	Kind  string `json:"kind,omitempty"`
}

// control is the server of the control socket.
type control struct {
	listener *peercred.Listener
	http     http.Server
}

// control serves the control socket.
func (s *Service) control() (*control, error) {
	path := s.p.Home.controlSocket()
	// The lock is ours: a socket that is there was left by a daemon that died.
	l, err := peercred.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		st := s.Status()
		st.Safe = s.judge(&st)
		reply(w, st, nil)
	})
	mux.HandleFunc("POST /sync", func(w http.ResponseWriter, r *http.Request) {
		d, err := fs.DurabilityIPFS, error(nil)
		if v := r.FormValue("durability"); v != "" {
			d, err = fs.ParseDurability(v)
		}
		if err == nil {
			err = s.sync(r.Context(), d)
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		i, err := s.tree.Info(r.Context(), r.FormValue("path"))
		reply(w, pathInfo(i), err)
	})
	mux.HandleFunc("GET /pins", func(w http.ResponseWriter, r *http.Request) {
		p, err := s.listPins()
		reply(w, p, err)
	})
	mux.HandleFunc("GET /snapshots", func(w http.ResponseWriter, r *http.Request) { reply(w, s.listSnapshots(), nil) })
	mux.HandleFunc("POST /snapshots", func(w http.ResponseWriter, r *http.Request) {
		x, err := s.makeSnapshot(r.Context(), r.FormValue("name"))
		reply(w, x, err)
	})
	mux.HandleFunc("DELETE /snapshots", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.removeSnapshot(r.FormValue("name")))
	})
	mux.HandleFunc("POST /pins/retry", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.retryPin(r.FormValue("cid")))
	})
	mux.HandleFunc("POST /pins/unpin", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.unpin(r.FormValue("cid")))
	})
	mux.HandleFunc("GET /aside", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.listAsides()
		reply(w, all, err)
	})
	mux.HandleFunc("POST /aside/export", func(w http.ResponseWriter, r *http.Request) {
		x, err := s.exportAside(r.Context(), r.FormValue("name"), r.FormValue("dir"))
		reply(w, x, err)
	})
	mux.HandleFunc("DELETE /aside", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.discardAside(r.FormValue("name"), r.FormValue("force") == "true"))
	})
	mux.HandleFunc("POST /rekey", func(w http.ResponseWriter, r *http.Request) {
		h, err := s.tree.Rekey(r.Context(), r.FormValue("epoch") == "new")
		reply(w, h, err)
	})
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		p, err := s.names.now(r.Context())
		reply(w, p, err)
	})
	s.logins.handle(mux)
	mux.HandleFunc("GET /profile", profile)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("POST /page", func(w http.ResponseWriter, r *http.Request) {
		uids, err := userIDs(r)
		var l PageLogin
		if err == nil {
			l, err = s.pageLogin(uids...)
		}
		reply(w, l, err)
	})
	mux.HandleFunc("POST /unmount", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.Stop(r.Context(), r.FormValue("flush") == "true"))
	})
	c := &control{listener: l}
	c.http.Handler, c.http.ReadHeaderTimeout = mux, 10*time.Second
	go func() { // ends with unlink
		err := c.http.Serve(l)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.p.Log.Error("control socket", "error", err)
		}
	}()
	return c, nil
}

// unlink takes the socket away; who is connected stays.
func (c *control) unlink() { c.listener.Close() }

// close lets the last answers out.
func (c *control) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.http.Shutdown(ctx)
	if errors.Is(err, net.ErrClosed) { // the listener, by unlink
		return nil
	}
	return err
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

// sync makes what was changed before the call as durable as d says. Past the journal it also
// gives back the space of what was removed.
func (s *Service) sync(ctx context.Context, d fs.Durability) error {
	if d != fs.DurabilityLocal {
		if err := s.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
			return err
		}
		if err := s.tree.Sweep(ctx); err != nil {
			return err
		}
	}
	return s.tree.Sync(ctx, d)
}
