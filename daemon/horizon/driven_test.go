package horizon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// driven is a Source that a test drives.
type driven struct {
	mu       sync.Mutex
	state    State
	err      error
	hang     bool
	retried  []string
	unpinned []string
	actErr   error
	changed  func() // tells the Server that what it knows is old
}

func (d *driven) State(ctx context.Context) (State, error) {
	d.mu.Lock()
	s, err, hang := d.state, d.err, d.hang
	d.mu.Unlock()
	if hang {
		<-ctx.Done()
		return State{}, ctx.Err()
	}
	return s, err
}

func (d *driven) Retry(_ context.Context, cid string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retried = append(d.retried, cid)
	return d.actErr
}

func (d *driven) Unpin(_ context.Context, cid string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unpinned = append(d.unpinned, cid)
	return d.actErr
}

// change replaces the state: fn is given a copy whose slices it must replace, not write to.
// The next page shows it.
func (d *driven) change(fn func(*State)) {
	d.mu.Lock()
	fn(&d.state)
	d.mu.Unlock()
	d.changed()
}

func (d *driven) acts() (retried, unpinned []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.retried...), append([]string(nil), d.unpinned...)
}

func cidOf(n int) string {
	return fmt.Sprintf("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy%07d", n)
}

// good is a drive of which everything is stored in three places.
func good(now time.Time) State {
	peer := func(i int, name string) Peer {
		p := Peer{Name: name, ID: fmt.Sprintf("12D3KooWPeer%d", i), Version: "1.1.6", Up: true, LastSeen: now, Free: int64(i+1) * 210e9, Pins: 4}
		for j := range 3 {
			if j != i {
				p.Sees = append(p.Sees, fmt.Sprintf("12D3KooWPeer%d", j))
			}
		}
		return p
	}
	s := State{
		Version: "0.3.0",
		Drive: Drive{DID: "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", Vault: "4f1d2c9a7be0", Mountpoint: "/home/ada/Cloud",
			State: Mounted, Durability: "local", Since: now.Add(-26 * time.Hour), Device: "workbench"},
		Commit:  Commit{Sequence: 1042, CID: cidOf(1042), Time: now.Add(-2 * time.Minute)},
		Store:   Store{Kind: "embedded", Version: "Kubo 0.43.0", Used: 48_300_000_000, Free: 312_000_000_000},
		Egress:  Egress{Configured: true, URL: "https://egress.example.org:9094", Target: 3, Copies: 3, State: EgressOK, Since: now.Add(-90 * time.Second)},
		Peers:   []Peer{peer(0, "attic"), peer(1, "office"), peer(2, "rented")},
		Devices: []Device{{Name: "workbench", This: true, Write: true}, {Name: "notebook", Reads: true}},
		Claims:  []Claim{{Text: "member: since 2019", By: "did:webvh:QmClub:club.example", Until: now.AddDate(1, 0, 0)}, {Text: "name: Ada", Self: true}},
		Counters: Counters{BytesRead: 9e9, BytesWritten: 4e9, Commits: 42, Bounds: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1},
			CacheHits: 900, CacheMisses: 100, CacheBytes: 3e9, CacheLimit: 4e9},
		Observer: Observer{Blocks: 48211, Bytes: 49_100_000_000, Sizes: []SizeClass{{4096, 3120}, {16384, 4410}, {65536, 1890}, {262144, 980}, {1048576, 37811}},
			Rhythm: []int{0, 0, 1, 0, 0, 0, 0, 4, 12, 18, 9, 3, 11, 16, 21, 14, 6, 2, 0, 1, 5, 8, 3, 7}},
	}
	for i := range 4 {
		c := Commit{Sequence: uint64(1042 - i), CID: cidOf(1042 - i), Time: now.Add(-time.Duration(2+11*i) * time.Minute), Bytes: int64(38e6 * (i + 1)), Copies: 3, Target: 3}
		s.Commits = append(s.Commits, c)
		p := Pin{CID: c.CID, Name: fmt.Sprintf("commit %d", c.Sequence), State: PinHeld, Since: c.Time, Copies: 3, Target: 3, Newest: i == 0}
		if i == 3 {
			p.Name = "snapshot before-the-move"
			s.Snapshots = []Snapshot{{Name: "before-the-move", CID: c.CID, Sequence: c.Sequence, Time: c.Time}}
		}
		for _, q := range s.Peers {
			p.Peers = append(p.Peers, PinPeer{Name: q.Name, ID: q.ID, Status: "pinned", Held: true})
		}
		s.Pins = append(s.Pins, p)
	}
	return s
}

// site is a running Server, and a browser of a test's own.
type site struct {
	*Server
	source *driven
	t      *testing.T
	done   chan error
	end    context.CancelFunc
}

// serve runs a Server over a driven source until the test ends.
func serve(t *testing.T, adjust ...func(*Server)) *site {
	t.Helper()
	d := &driven{state: good(time.Now())}
	s, err := New(Config{Source: d, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), MetricsToken: func() string { return "metrics-token" }})
	if err != nil {
		t.Fatal(err)
	}
	d.changed = s.watcher.changed
	s.watcher.often, s.watcher.seldom = 50*time.Millisecond, 50*time.Millisecond
	for _, fn := range adjust {
		fn(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := &site{Server: s, source: d, t: t, done: make(chan error, 1), end: cancel}
	go func() { out.done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-out.done:
			if err != nil {
				t.Error("serve: ", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server does not end")
		}
	})
	return out
}

func (s *site) address() string { return s.listeners[0].Addr().String() }

// Login draws a code.
func (s *site) Login() Login {
	s.t.Helper()
	l, err := s.Server.Login()
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// client dials the server whatever the name is, keeps no cookies, and follows nothing.
func (s *site) client() *http.Client {
	dialer := net.Dialer{}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", s.address())
	}}
	return &http.Client{Transport: tr, Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask sends one request; header pairs follow. "Host" sets the host, an empty value removes.
func (s *site) ask(method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, strings.TrimSuffix(s.URL(), "/")+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://"+r.Host)
	}
	for i := 0; i+1 < len(header); i += 2 {
		switch {
		case header[i] == "Host":
			r.Host = header[i+1]
		case header[i+1] == "":
			r.Header.Del(header[i])
		default:
			r.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := s.client().Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

// login returns a cookie for the header, and the token of forms.
func (s *site) login() (cookie, csrf string) {
	s.t.Helper()
	resp, body := s.ask("POST", "/login", url.Values{"code": {s.Login().Code}}.Encode())
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		s.t.Fatalf("login: %s %s", resp.Status, body)
	}
	cookie = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	_, page := s.ask("GET", "/", "", "Cookie", cookie)
	m := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		s.t.Fatal("no token in the page:\n", page)
	}
	return cookie, m[1]
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatal("not in time: ", what)
		}
	}
}
