package horizon

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is one page of a real Chromium. What its console complains of fails the test: a
// script or style that the policy refused, too.
type tab struct {
	context.Context
	t *testing.T

	mu       sync.Mutex
	excused  []string
	problems []string
}

// browse opens a Chromium of the test's own.
func browse(t *testing.T, wide, high int) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: contrib/install-needs test installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(wide, high),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("no-proxy-server", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	limited, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	allocated, end := chromedp.NewExecAllocator(limited, options...)
	ctx, closeTab := chromedp.NewContext(allocated)
	out := &tab{Context: ctx, t: t}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		closeTab()
		end()
		stop()
		for _, p := range out.complaints() {
			t.Error("the browser complains: ", p)
		}
	})
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Source == log.SourceSecurity {
				out.complain(fmt.Sprintf("%s %s", e.Entry.Text, e.Entry.URL))
			}
		case *runtime.EventExceptionThrown:
			out.complain(e.ExceptionDetails.Error())
		}
	})
	out.do("start", emulation.SetDeviceMetricsOverride(int64(wide), int64(high), 1, false))
	return out
}

func (b *tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// excuse expects a complaint.
func (b *tab) excuse(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.excused = append(b.excused, part)
}

func (b *tab) complaints() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, p := range b.problems {
		for _, e := range b.excused {
			if strings.Contains(p, e) {
				continue next
			}
		}
		out = append(out, p)
	}
	return out
}

func (b *tab) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// js evaluates an expression.
func js[T any](b *tab, expression string) (out T) {
	b.t.Helper()
	b.do(expression, chromedp.Evaluate(expression, &out))
	return out
}

// text is what an element says, as it is seen.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return js[string](b, fmt.Sprintf("(document.querySelector(%q)?.innerText || '').trim()", selector))
}

// says waits until an element says something.
func (b *tab) says(selector, part string) {
	b.t.Helper()
	last := ""
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		if last = b.text(selector); strings.Contains(last, part) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s does not say %q but %q", selector, part, last)
		}
	}
}

// enter logs in by the link that a terminal shows.
func (b *tab) enter(s *site) {
	b.t.Helper()
	b.do("login", chromedp.Navigate(s.Login().URL), chromedp.WaitVisible("#sentence"))
	b.says("#feed", "Live")
}

// shoot takes a picture for people, if they asked for one.
func (b *tab) shoot(name string, whole bool) {
	b.t.Helper()
	dir := os.Getenv("IPFSCLOUD_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	action := chromedp.CaptureScreenshot(&png)
	if whole {
		action = chromedp.FullScreenshot(&png, 100)
	}
	b.do("screenshot", action)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
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
	s := serve(t)
	b := browse(t, 1200, 900)
	b.enter(s)
	b.says("#sentence", "Everything is stored in 3 places.")
	if url := js[string](b, "location.href"); url != s.URL() {
		t.Errorf("after the login: %s", url)
	}
	if c := js[string](b, "document.cookie"); c != "" {
		t.Errorf("scripts see the cookie: %s", c)
	}
	// A code is good once, and says so.
	b.excuse("403")
	b.do("the code again", chromedp.Navigate("about:blank"))
	l := s.Login()
	if _, ok := s.sessions.redeem(l.Code); !ok {
		t.Fatal("the code is not good")
	}
	b.do("the code again", chromedp.Navigate(l.URL), chromedp.WaitVisible("#problem"))
	b.says("#problem", "used already")
	if js[string](b, "location.hash") != "" {
		t.Error("the code stays in the address")
	}
	// Through the file that `ipfscloud horizon` gives to a browser.
	file := filepath.Join(t.TempDir(), "open.html")
	if err := os.WriteFile(file, s.Login().Redirect(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do("the redirect file", chromedp.Navigate("about:blank"), chromedp.Navigate("file://"+file), chromedp.WaitVisible("#sentence"))
	b.says("#feed", "Live")
	b.do("log out", chromedp.Click(`button[formaction="/logout"]`), chromedp.WaitVisible("#login"))
}
