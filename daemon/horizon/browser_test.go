package horizon

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cluster-labs/ipfscloud/daemon/browsertest"
)

// tab is one page of a real Chromium.
type tab struct {
	*browsertest.Tab
	t *testing.T
}

func browse(t *testing.T, wide, high int) *tab {
	t.Helper()
	return &tab{browsertest.Open(t, wide, high), t}
}

func js[T any](b *tab, expression string) T {
	b.t.Helper()
	return browsertest.JS[T](b.Tab, expression)
}

// enter logs in by the link that a terminal shows.
func (b *tab) enter(s *site) {
	b.t.Helper()
	b.Goto(s.Login().URL, "#sentence")
	b.Says("#feed", "Live")
}

// anHour gives a server an hour behind it.
func anHour(s *Server) {
	d := s.config.Source.(*driven)
	now := time.Now()
	end := d.state
	counts := [len3][]uint64{}
	for k := range counts {
		counts[k] = make([]uint64, len(end.Counters.Bounds))
	}
	for i := slots; i >= 1; i-- {
		x := float64(slots-i) / slots
		burst := func(at, width float64) float64 { return math.Exp(-math.Pow((x-at)/width, 2)) }
		busy := 0.02 + burst(.22, .05) + .55*burst(.3, .02) + .8*burst(.68, .06) + .25*burst(.9, .015)
		wobble := 1 + .25*math.Sin(float64(i)*1.7) + .15*math.Sin(float64(i)*.61)
		end.Counters.BytesWritten += uint64(2.4e8 * busy * wobble)
		end.Counters.BytesRead += uint64(1.6e8 * (.1 + burst(.45, .1) + .4*burst(.8, .05)) * wobble)
		end.Pending.Bytes = int64(1.1e9 * busy * wobble)
		end.Counters.Ops = nil
		for k, kind := range drawnKinds() {
			counts[k][1+k] += 900
			counts[k][2+k] += 60 + uint64(300*busy*wobble)
			op := Op{Kind: kind, Buckets: slices.Clone(counts[k])}
			for _, n := range op.Buckets {
				op.Count += n
			}
			op.Seconds = float64(op.Count) / 1e3
			end.Counters.Ops = append(end.Counters.Ops, op)
		}
		s.watcher.history.add(now.Add(-time.Duration(i)*slot), end)
	}
	d.change(func(st *State) { st.Counters = end.Counters })
	s.watcher.history.recent = nil // the rate of now is not of then
}

func TestChromiumLogin(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := browse(t, 1000, 620)
	b.Goto(s.URL(), "#login") // nobody is logged in
	code := s.Login().Code
	b.Do("type the code", chromedp.SendKeys("#code", code))
	b.readable()
	b.Shoot("login")
	b.Follow("#login button", "#sentence")
	b.Says("#sentence", "Everything is stored in 3 places.")
	b.Follow(`button[formaction="/logout"]`, "#login")
	// By the link, which has the code in it.
	b.enter(s)
	if url := js[string](b, "location.href"); url != s.URL() {
		t.Errorf("after the login: %s", url)
	}
	if c := js[string](b, "document.cookie"); c != "" {
		t.Errorf("scripts see the cookie: %s", c)
	}
	// A code is good once, and says so.
	b.Excuse("403")
	l := s.Login()
	if _, err := s.sessions.redeem(l.Code, os.Geteuid()); err != nil {
		t.Fatal(err)
	}
	b.Goto(l.URL, "#problem")
	b.Says("#problem", "used already")
	if js[string](b, "location.hash") != "" {
		t.Error("the code stays in the address")
	}
	// Through the file that `ipfscloud horizon` gives to a browser.
	file := filepath.Join(t.TempDir(), "open.html")
	if err := os.WriteFile(file, redirectOf(t, s.Login()), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Leads("the redirect file", "#sentence", chromedp.Navigate("file://"+file))
	b.Says("#feed", "Live")
	b.Follow(`button[formaction="/logout"]`, "#login")
}
