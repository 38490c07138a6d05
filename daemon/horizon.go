package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/cluster-labs/ipfscloud/daemon/horizon"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// horizonServer is the page while it is served.
type horizonServer struct {
	server *horizon.Server
	cancel context.CancelFunc
	done   chan struct{}
}

// startHorizon serves the page. A drive without it is still a drive: what goes wrong is
// logged.
func (s *Service) startHorizon() *horizonServer {
	c := s.p.Config.Horizon
	if !c.Enabled || s.p.Snapshot != "" { // it would tell of the newest data
		return nil
	}
	given, err := s.givenListener()
	if err != nil {
		s.p.Log.Warn("there is no page: the socket of systemd", "error", err)
		return nil
	}
	page, err := horizon.New(horizon.Config{Source: s.page, Listen: c.Listen, Listener: given, Log: s.p.Log, MetricsToken: func() string {
		if c.MetricsTokenFile == "" {
			return ""
		}
		b, err := safefile.ReadSecret(c.MetricsTokenFile, tokenMax)
		if err != nil {
			s.p.Log.Warn("the token for metrics", "error", err)
		}
		return strings.TrimSpace(string(b))
	}})
	if err != nil {
		s.p.Log.Warn("there is no page", "error", err)
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &horizonServer{server: page, cancel: cancel, done: make(chan struct{})}
	go func() { // ends with stop
		defer close(h.done)
		if err := page.Serve(ctx); err != nil {
			s.p.Log.Error("the page has ended", "error", err)
		}
	}()
	return h
}

// givenListener is the socket that systemd has opened for the page, if it has.
func (s *Service) givenListener() (net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	for _, l := range all[1:] {
		l.Close()
	}
	if len(all) > 1 || all[0] == nil {
		return nil, fmt.Errorf("want one stream socket, not %d", len(all))
	}
	return all[0], nil
}

func (h *horizonServer) stop() {
	if h != nil {
		h.cancel()
		<-h.done
	}
}

// PageLogin opens Horizon's page once.
type PageLogin struct {
	URL     string    `json:"url"` // with the code in it: for a terminal, and never for arguments
	Code    string    `json:"code"`
	Port    int       `json:"port"`
	Expires time.Time `json:"expires"`
	HTML    []byte    `json:"html"` // a file that opens the page in a browser; it must be 0600
}

func (s *Service) pageLogin() (PageLogin, error) {
	if s.horizon == nil {
		return PageLogin{}, fmt.Errorf("this drive has no page: it is turned off in the configuration, or see its log: %w", fs.ErrNotFound)
	}
	l := s.horizon.server.Login()
	return PageLogin{URL: l.URL, Code: l.Code, Port: s.horizon.server.Port(), Expires: l.Expires, HTML: l.Redirect()}, nil
}

// metrics answers a scrape over the control socket.
func (s *Service) metrics(w http.ResponseWriter, r *http.Request) {
	if s.horizon == nil {
		reply(w, nil, fs.ErrNotFound)
		return
	}
	s.horizon.server.Metrics().ServeHTTP(w, r)
}

// Page asks the daemon for a way into its page.
func (c *Client) Page(ctx context.Context) (l PageLogin, err error) {
	err = c.call(ctx, http.MethodPost, "/page", &l)
	return l, err
}

// redirectFile is where the file lies that opens the page in a browser.
func (h Home) redirectFile() string { return filepath.Join(h.Run, "horizon.html") }

// WriteRedirect makes the file that opens the page in a browser, for this user alone, and
// returns its path.
func (h Home) WriteRedirect(l PageLogin) (string, error) {
	path := h.redirectFile()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	f, err := safefile.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(l.HTML)
	return path, errors.Join(err, f.Close())
}

// committed passes the news of a commit on. It returns at once.
func (s *Service) committed(h fs.HeadInfo) {
	s.page.committed(h)
	if s.egress != nil {
		s.egress.committed(h)
	}
}
