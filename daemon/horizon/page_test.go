package horizon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Whatever there is, the page stays small, and news are no larger.
func TestPageIsSmall(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	long := strings.Repeat("€<&\"", 2000)
	s.source.change(func(st *State) {
		*st = State{Version: long, Drive: Drive{DID: long, Vault: long, Mountpoint: long, State: long, Durability: long},
			Store: Store{Kind: long, Version: long}, Egress: Egress{Configured: true, URL: long, Target: 30, Error: long}, Counters: st.Counters}
		for i := range 40 {
			p := Peer{Name: long, ID: fmt.Sprint(i) + long, Version: long, Up: true, Error: long, Errors: 1}
			for j := range 40 {
				p.Sees = append(p.Sees, fmt.Sprint(j)+long)
			}
			st.Peers = append(st.Peers, p)
		}
		for i := range 10_000 {
			p := Pin{CID: fmt.Sprintf("bafy%d", i), Name: long, State: PinFailed, Target: 30}
			for range 30 {
				p.Peers = append(p.Peers, PinPeer{Name: long, Status: long, Error: long})
			}
			st.Pins = append(st.Pins, p)
		}
		for range 1000 {
			st.Alerts = append(st.Alerts, Alert{Severity: Critical, Text: long, Action: long, Command: long})
			st.Errors = append(st.Errors, Failure{Part: long, Text: long})
			st.Commits = append(st.Commits, Commit{CID: long, Target: 12})
			st.Devices = append(st.Devices, Device{Name: long})
			st.Claims = append(st.Claims, Claim{Text: long, By: long, Problem: long})
			st.Snapshots = append(st.Snapshots, Snapshot{Name: long})
			st.Observer.Sizes = append(st.Observer.Sizes, SizeClass{1 << 20, 1})
			st.Observer.Rhythm = append(st.Observer.Rhythm, 3)
		}
	})
	const most = 300_000
	cookie, _ := s.login()
	var page string
	eventually(t, "the large state", func() bool {
		_, page = s.ask("GET", "/", "", "Cookie", cookie)
		return strings.Contains(page, "10,000")
	})
	sum := len(page)
	for _, path := range []string{"/app.js", "/style.css", "/icon/stop.svg"} {
		_, body := s.ask("GET", path, "")
		sum += len(body)
	}
	t.Logf("%d bytes, with script and style %d", len(page), sum)
	if sum > most {
		t.Errorf("the page is %d bytes", sum)
	}
	snap := s.watcher.now()
	data, err := s.difference(s.view(snap, query{Page: 1}), map[string]string{})
	var parts news
	if err := json.Unmarshal(data, &parts); err != nil {
		t.Fatal(err)
	}
	for id, html := range parts.Parts {
		t.Logf("%s: %d", id, len(html))
	}
	if err != nil || len(data) > 2*most { // HTML in JSON
		t.Errorf("the news are %d bytes, %v", len(data), err)
	}
	for _, q := range []string{"page=501", "page=999999999", "page=-1", "page=x", "state=held", "state=none", "q=bafy9999", "q=" + url.QueryEscape(long)[:300]} {
		if resp, _ := s.ask("GET", "/?"+q, "", "Cookie", cookie); resp.StatusCode != 200 {
			t.Errorf("%s: %s", q, resp.Status)
		}
	}
}

func TestCopies(t *testing.T) {
	var pins []Pin
	for i := range 60 {
		pins = append(pins, Pin{CID: fmt.Sprintf("cid%02d", i), Name: fmt.Sprintf("Commit %d", i), State: PinHeld})
	}
	pins[7].State, pins[9].State = PinShort, PinLost
	all := copiesOf(pins, query{Page: 1})
	if len(all.Rows) != rowsCopies || all.Rows[0].CID != "cid09" || all.Rows[1].CID != "cid07" || all.Prev != "" || all.Next != "/?page=2#copies" || all.Found != 60 {
		t.Errorf("all: %+v", all)
	}
	last := copiesOf(pins, query{Page: 99})
	if last.From != 41 || last.To != 60 || last.Next != "" || last.Prev != "/?page=2#copies" {
		t.Errorf("the last page: %d-%d %s %s", last.From, last.To, last.Prev, last.Next)
	}
	found := copiesOf(pins, query{Page: 1, State: PinHeld, Text: "commit 1"})
	if found.Found != 11 { // 1 and 10 to 19
		t.Errorf("found %d", found.Found)
	}
	if none := copiesOf(nil, query{Page: 3, State: PinLost}); len(none.Rows) != 0 || len(none.Filters) != 2 {
		t.Errorf("of none: %+v", none)
	}
}

// stream reads live news.
func (s *site) stream(ctx context.Context, cookie string) (*http.Response, *bufio.Scanner) {
	s.t.Helper()
	r, _ := http.NewRequestWithContext(ctx, "GET", s.URL()+"events", nil)
	r.Header.Set("Cookie", cookie)
	c := s.client()
	c.Timeout = 0
	resp, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return resp, lines
}

// until reads events until one of a kind satisfies, or fails.
func until(t *testing.T, lines *bufio.Scanner, kind string, ok func(data string) bool) {
	t.Helper()
	is := ""
	for lines.Scan() {
		if k, found := strings.CutPrefix(lines.Text(), "event: "); found {
			is = k
		}
		if data, found := strings.CutPrefix(lines.Text(), "data: "); found && is == kind && ok(data) {
			return
		}
	}
	t.Fatalf("the stream ended before %s: %v", kind, lines.Err())
}

func TestEvents(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.limits.beat, s.limits.streams = 50*time.Millisecond, 2
		s.limits.read, s.limits.write = 200*time.Millisecond, 200*time.Millisecond // a stream lives longer than either
	})
	cookie, csrf := s.login()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, lines := s.stream(ctx, cookie)
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Error(resp.Header)
	}
	any := func(string) bool { return true }
	var n news
	until(t, lines, "news", func(data string) bool { return json.Unmarshal([]byte(data), &n) == nil })
	if len(n.Parts) != len(parts()) || n.Level != Safe {
		t.Errorf("the first news: %d parts, %s", len(n.Parts), n.Level)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		until(t, lines, "beat", any)
	}
	s.source.change(func(st *State) { st.Egress.Copies = 2 })
	until(t, lines, "news", func(data string) bool {
		n = news{}
		return json.Unmarshal([]byte(data), &n) == nil && n.Level == Care
	})
	if _, whole := n.Parts["observer"]; whole || n.Parts["verdict"] == "" {
		t.Errorf("news tell what did not change")
	}
	// No more streams than granted.
	second, _ := s.stream(ctx, cookie)
	third, _ := s.stream(ctx, cookie)
	if second.StatusCode != 200 || third.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("streams: %s, %s", second.Status, third.Status)
	}
	third.Body.Close()
	second.Body.Close() // who goes away makes room
	eventually(t, "room for a stream", func() bool { return len(s.streams) == 1 })
	// Logging out ends them.
	s.ask("POST", "/logout", "csrf="+csrf, "Cookie", cookie)
	until(t, lines, "end", any)
	eventually(t, "the end of the stream", func() bool { return len(s.streams) == 0 })
}

// A drive that does not answer does not stop the page, and is not called safe.
func TestSourceFails(t *testing.T) {
	s := serve(t, func(s *Server) { s.watcher.wait = 200 * time.Millisecond })
	cookie, csrf := s.login()
	say := func() string {
		_, body := s.ask("GET", "/", "", "Cookie", cookie)
		return body
	}
	s.source.mu.Lock()
	s.source.err = errors.New("the socket is closed")
	s.source.mu.Unlock()
	eventually(t, "the error", func() bool { return strings.Contains(say(), "did not answer just now: the socket is closed") })
	s.source.mu.Lock()
	s.source.err, s.source.hang = nil, true
	s.source.mu.Unlock()
	eventually(t, "the deadline", func() bool { return strings.Contains(say(), "deadline") })
	if v := viewOf(time.Now().Add(time.Minute), s.watcher.snap, query{}).Verdict; v.Level != Unknown {
		t.Errorf("old news: %+v", v)
	}
	s.source.mu.Lock()
	s.source.hang, s.source.actErr = false, ErrNoPin
	s.source.mu.Unlock()
	if resp, _ := s.ask("POST", "/retry", url.Values{"csrf": {csrf}, "cid": {cidOf(1040)}}.Encode(), "Cookie", cookie); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a pin that is gone: %s", resp.Status)
	}
	if resp, _ := s.ask("POST", "/retry", url.Values{"csrf": {csrf}, "cid": {"never"}}.Encode(), "Cookie", cookie); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a pin that never was: %s", resp.Status)
	}
	if retried, _ := s.source.acts(); len(retried) != 1 {
		t.Errorf("the source was asked for %v", retried)
	}
}
