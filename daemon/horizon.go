package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
// logged, and returned for those who ask for the page.
func (s *Service) startHorizon() (*horizonServer, error) {
	c := s.p.Config.Horizon
	if !c.Enabled || s.p.Snapshot != "" { // it would tell of the newest data
		return nil, errors.New("it is turned off in the configuration, or the drive shows a snapshot")
	}
	given, err := givenListeners()
	if err != nil {
		err = fmt.Errorf("the socket of systemd: %w", err)
		s.p.Log.Warn("there is no page", "error", err)
		return nil, err
	}
	page, err := horizon.New(horizon.Config{Source: s.page, Listen: c.Listen, Listeners: given, Log: s.p.Log, MetricsToken: func() string {
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
		for _, l := range given {
			l.Close()
		}
		s.p.Log.Warn("there is no page", "error", err)
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &horizonServer{server: page, cancel: cancel, done: make(chan struct{})}
	go func() { // ends with stop
		defer close(h.done)
		if err := page.Serve(ctx); err != nil {
			s.p.Log.Error("the page has ended", "error", err)
		}
	}()
	return h, nil
}

// givenListeners are the sockets that systemd has opened for the page, if it has: that of
// 127.0.0.1, that of ::1, or both. The page adds the one that is missing.
func givenListeners() ([]net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for i, l := range all {
		if l == nil {
			for _, other := range slices.DeleteFunc(all, func(l net.Listener) bool { return l == nil }) {
				other.Close()
			}
			return nil, fmt.Errorf("the socket number %d of %d is not a stream socket", i+1, len(all))
		}
	}
	return all, nil
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

// pageLogin makes one for the owner, root and the given users.
func (s *Service) pageLogin(uids ...int) (PageLogin, error) {
	if s.horizon == nil {
		return PageLogin{}, fmt.Errorf("this drive has no page: %w: %w", s.noPage, fs.ErrNotFound)
	}
	l, err := s.horizon.server.Login(uids...)
	if err != nil {
		return PageLogin{}, err
	}
	html, err := l.Redirect()
	return PageLogin{URL: l.URL, Code: l.Code, Port: s.horizon.server.Port(), Expires: l.Expires, HTML: html}, err
}

// userIDs are the users of the machine that a request for a login names. Whoever may use the
// control socket could read the page for them as well.
func userIDs(r *http.Request) (uids []int, err error) {
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("the form: %w: %w", fs.ErrInvalid, err)
	}
	for _, text := range r.Form["uid"] {
		u, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("user id %.20q: %w", text, fs.ErrInvalid)
		}
		uids = append(uids, int(u))
	}
	return uids, nil
}

// metrics answers a scrape over the control socket.
func (s *Service) metrics(w http.ResponseWriter, r *http.Request) {
	if s.horizon == nil {
		reply(w, nil, fs.ErrNotFound)
		return
	}
	s.horizon.server.Metrics().ServeHTTP(w, r)
}

// Page asks the daemon for a way into its page, for the browser of its owner, of root, or of
// one of the given users of this machine.
func (c *Client) Page(ctx context.Context, uids ...int) (l PageLogin, err error) {
	var list []string
	for _, u := range uids {
		list = append(list, strconv.Itoa(u))
	}
	err = c.form(ctx, "/page", url.Values{"uid": list}, &l)
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
