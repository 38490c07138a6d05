// Package browsertest gives tests a real Chromium: one tab that clicks, types and looks as
// a person does, and knows when a page is there.
//
// Two things make such tests fail on a busy machine, and this package sees to both. A
// browser throws clicks away until it has painted a page for the first time, so nothing is
// clicked before. And what a test waits for may stand on the page that is being left, so
// a step that leads to another page waits for another document.
//
// Only tests import it.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	lifetime = 8 * time.Minute // of a browser
	patience = 90 * time.Second
	pause    = 30 * time.Millisecond // between looks
)

// Tab is one page of a Chromium of the test's own. What its console complains of fails the
// test: a script or style that a policy refused, too. It is for one goroutine.
type Tab struct {
	context.Context
	t testing.TB

	mu       sync.Mutex
	excused  []string
	problems []string
}

// Open starts a Chromium whose window is so wide and high. It ends with the test. Without a
// Chromium on this machine the test is skipped.
func Open(t testing.TB, wide, high int) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: contrib/install-needs test installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(wide, high),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("no-proxy-server", true),
		// It asks nobody for anything of its own accord. rebound.example is a name whose owner
		// has it resolve to this machine.
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("host-resolver-rules", "MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	limited, stop := context.WithTimeout(context.Background(), lifetime)
	allocated, end := chromedp.NewExecAllocator(limited, options...)
	ctx, closeTab := chromedp.NewContext(allocated)
	b := &Tab{Context: ctx, t: t}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		closeTab()
		end()
		stop()
		for _, p := range b.complaints() {
			t.Error("the browser complains: ", p)
		}
	})
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Source == log.SourceSecurity {
				b.complain(fmt.Sprintf("%s %s", e.Entry.Text, e.Entry.URL))
			}
		case *runtime.EventExceptionThrown:
			b.complain(e.ExceptionDetails.Error())
		}
	})
	b.Do("start", emulation.SetDeviceMetricsOverride(int64(wide), int64(high), 1, false))
	return b
}

func (b *Tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// Excuse expects a complaint of the browser.
func (b *Tab) Excuse(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.excused = append(b.excused, part)
}

func (b *Tab) complaints() (out []string) {
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

// Do runs actions that stay on the page.
func (b *Tab) Do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// JS evaluates an expression on the page.
func JS[T any](b *Tab, expression string) (out T) {
	b.t.Helper()
	b.Do(expression, chromedp.Evaluate(expression, &out))
	return out
}

// Text is what an element says, as it is seen; "" if there is none.
func (b *Tab) Text(selector string) string {
	b.t.Helper()
	return JS[string](b, textOf(selector))
}

func textOf(selector string) string {
	return "(document.querySelector(" + quote(selector) + ")?.innerText || '').trim()"
}

// quote writes a string for a script.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string can be written
		panic(err)
	}
	return string(b)
}

// Says waits until an element says one of some things, and returns how long that took.
func (b *Tab) Says(selector string, parts ...string) time.Duration {
	b.t.Helper()
	begin := time.Now()
	last := ""
	b.until(func() string { return fmt.Sprintf("%s does not say any of %q, but %q", selector, parts, last) }, func() bool {
		if chromedp.Run(b, chromedp.Evaluate(textOf(selector), &last)) != nil { // between two pages
			return false
		}
		for _, p := range parts {
			if strings.Contains(last, p) {
				return true
			}
		}
		return false
	})
	return time.Since(begin)
}

// until waits for a condition.
func (b *Tab) until(complaint func() string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(pause) {
		if b.Err() != nil {
			b.t.Fatalf("%s; the browser is gone: %v", complaint(), context.Cause(b))
		}
		if time.Now().After(end) {
			b.t.Fatal(complaint())
		}
	}
}

// seen is a script that tells whether an element is shown.
func seen(selector string) string {
	return "(e => !!e && e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0)(document.querySelector(" + quote(selector) + "))"
}

// there is a script that tells whether the page is loaded and was painted: only then does
// a browser take clicks.
const there = `document.readyState === 'complete' && performance.getEntriesByType('paint').length > 0`

// Leads runs actions that lead to another page, and waits until that is there and shows an
// element. The page that is left does not count, if it is the same one or looks the same.
func (b *Tab) Leads(what, selector string, actions ...chromedp.Action) {
	b.t.Helper()
	// Each document has a time of its own from which it counts.
	left := JS[float64](b, "performance.timeOrigin")
	b.Do(what, actions...)
	var now struct {
		Origin     float64
		Seen, Here bool
		At         string
	}
	script := "({Origin: performance.timeOrigin, Seen: " + seen(selector) + ", Here: " + there + ", At: location.href.split('#')[0]})"
	b.until(func() string {
		if now.Origin == left {
			return what + ": it leads to no other page than " + now.At
		}
		return fmt.Sprintf("%s: it leads to %s, which does not show %s (loaded and painted: %t)", what, now.At, selector, now.Here)
	}, func() bool {
		err := chromedp.Run(b, chromedp.Evaluate(script, &now))
		return err == nil && now.Origin != left && now.Seen && now.Here
	})
}

// Goto opens an address, and waits for an element.
func (b *Tab) Goto(url, selector string) {
	b.t.Helper()
	b.Leads("open "+strings.SplitN(url, "#", 2)[0], selector, chromedp.Navigate(url))
}

// Follow clicks on what leads to another page, and waits for an element there.
func (b *Tab) Follow(selector, then string) {
	b.t.Helper()
	b.Leads("click on "+selector, then, b.press(selector))
}

// Click clicks on an element that stays on its page.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.Do("click on "+selector, b.press(selector))
}

// press waits until an element stands still and nothing lies upon it, as a person would,
// and clicks in its middle.
func (b *Tab) press(selector string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		b.t.Helper()
		type place struct {
			X, Y float64
			Hit  bool
		}
		script := "(e => { if (!e || !(" + there + ")) return null; e.scrollIntoView({block: 'nearest', behavior: 'instant'});" +
			"const r = e.getClientRects()[0]; if (!r) return null; const X = r.x + r.width / 2, Y = r.y + r.height / 2, at = document.elementFromPoint(X, Y);" +
			"return {X, Y, Hit: !!at && (e === at || e.contains(at))}; })(document.querySelector(" + quote(selector) + "))"
		var before, now *place
		b.until(func() string { return fmt.Sprintf("%s cannot be clicked: %+v", selector, now) }, func() bool {
			before, now = now, nil
			if chromedp.Evaluate(script, &now).Do(ctx) != nil || now == nil || before == nil {
				return false
			}
			return now.Hit && *now == *before
		})
		return chromedp.MouseClickXY(now.X, now.Y).Do(ctx)
	})
}
