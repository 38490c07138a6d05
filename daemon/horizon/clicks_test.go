package horizon

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// While files are copied the page follows, and what a person does on it stays.
func TestChromiumLiveProgress(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	b := browse(t, 1200, 900)
	b.enter(s)
	b.Says("#sentence", "Everything is stored in 3 places.")
	// A person opens the numbers, and stands on a link.
	b.Click(".numbers summary")
	b.Do("focus", chromedp.Focus(`.filters a[aria-current]`))
	js[bool](b, "document.querySelector('#sentence').kept = true")
	total, before := int64(3_200_000_000), s.source.state.Counters.BytesWritten
	set := func(left int64) {
		s.source.change(func(st *State) {
			busy(st)
			st.Pending.Bytes, st.Egress.OnlyHere = left*2/3, left-left*2/3
			st.Counters.BytesWritten = before + uint64(total)
		})
	}
	set(total)
	b.Says("#sentence", "3.2 GB is only on this computer")
	b.Says("#announce", "only on this computer") // who listens hears it
	if js[string](b, "document.body.dataset.level+document.querySelector('#favicon').getAttribute('href')") != "busy/icon/busy.svg" {
		t.Error("the tab does not show it")
	}
	announced := b.Text("#announce")
	last := -1.0
	left := total
	for moved := 0; moved < 4; { // some megabytes each fiftieth of a second
		left -= 1_000_000
		set(left)
		if v := js[float64](b, "document.querySelector('progress')?.value ?? -1"); v > last {
			last = v
			moved++
		} else if v >= 0 && v < last {
			t.Fatalf("progress went back from %g to %g", last, v)
		}
		time.Sleep(20 * time.Millisecond) // the pace of the copying
	}
	estimate := regexp.MustCompile(`^\d\.\d GB is only on this computer, (about .* left|less than a minute left)\.$`)
	eventually(t, "an estimate", func() bool {
		left = max(left-1_000_000, 10_000_000)
		set(left)
		return estimate.MatchString(b.Text("#sentence"))
	})
	b.Says("#queue", "over the last minute")
	if p := js[[]float64](b, "[document.querySelector('progress').value, document.querySelector('progress').max]"); p[1] != float64(total) || p[0] <= 0 || p[0] >= p[1]/2 {
		t.Errorf("progress is %v", p)
	}
	if now := b.Text("#announce"); now != announced {
		t.Errorf("every number is announced: %q after %q", now, announced)
	}
	for left > total*6/10 {
		left -= 10_000_000
		set(left)
		time.Sleep(20 * time.Millisecond) // the pace of the copying
	}
	eventually(t, "a third is stored", func() bool { return js[bool](b, "(p => p.value > p.max / 3)(document.querySelector('progress'))") })
	js[bool](b, "document.querySelector('.numbers').open = false, scrollTo(0, 0), true")
	b.Shoot("progress")
	js[bool](b, "document.querySelector('.numbers').open = true")
	s.source.change(func(st *State) {
		c := st.Counters
		*st = good(time.Now())
		st.Counters = c
	})
	b.Says("#sentence", "Everything is stored in 3 places.")
	b.Says("#announce", "Everything is stored in 3 places.")
	if !js[bool](b, "document.querySelector('.numbers').open") {
		t.Error("what was opened is closed")
	}
	if !js[bool](b, "document.activeElement.matches('.filters a[aria-current]')") {
		t.Error("the focus was lost")
	}
	if !js[bool](b, "document.querySelector('#sentence').kept === true") {
		t.Error("the sentence was thrown away, not changed")
	}
}

func TestChromiumPeerDiesAndRetry(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	b := browse(t, 1200, 900)
	b.enter(s)
	b.Says("#peers", "3 of 3 peers are up. All 3 peers that are up see each other.")
	whole := s.source.state
	s.source.change(broken)
	b.Says("#sentence", "Everything is stored in 2 of 3 places.")
	b.Says(".detail", "office is down.")
	b.Says("#peers", "2 of 3 peers are up.")
	b.Says("#alerts", "office has not been heard of")
	if n := js[int](b, "document.querySelectorAll('.graph .down').length"); n != 1 {
		t.Errorf("%d peers are crossed out", n)
	}
	const peers, copies = `section[aria-labelledby="h-peers"]`, `section[aria-labelledby="h-copies"]`
	b.Shoot("care")
	b.ShootPart("peer-down", peers)
	s.source.change(func(st *State) { c := st.Counters; *st = whole; st.Counters = c })
	b.Says("#sentence", "Everything is stored in 3 places.")
	b.Says("#peers", "3 of 3 peers are up.")
	b.ShootPart("peer-back", peers)

	// A copy fails, and a person has it tried again.
	failed := func(state PinState, copies int) {
		s.source.change(func(st *State) {
			pins := slices.Clone(st.Pins)
			pins[2].State, pins[2].Copies = state, copies
			pins[2].Peers = []PinPeer{{Name: "attic", Held: true}, {Name: "office", Status: "pin_error", Error: "context deadline exceeded"}}
			st.Pins = pins
		})
	}
	failed(PinFailed, 1)
	b.Says("#sentence", "Everything is stored in 3 places, but 1 older commit lacks copies.")
	b.Follow(`#copies a[href*="state=failed"]`, `button[formaction="/retry"]`)
	if n := js[int](b, "document.querySelectorAll('#copies tbody tr').length"); n != 1 {
		t.Errorf("%d copies are failed", n)
	}
	b.Says("#feed", "Live")
	b.Says("#copies", "office: pin error, context deadline exceeded")
	b.ShootPart("retry", copies)
	b.Follow(`button[formaction="/retry"]`, ".said")
	b.Says(".said", "tried again")
	if retried, _ := s.source.acts(); !slices.Equal(retried, []string{cidOf(1040)}) {
		t.Errorf("retried: %v", retried)
	}
	failed(PinCopying, 1)
	b.Says("#copies", "copying")
	failed(PinHeld, 3)
	b.Says("#sentence", "Everything is stored in 3 places.")
	if strings.Contains(b.Text("#copies"), "Retry") {
		t.Error("a copy that is held can be retried")
	}
}

func TestChromiumUnpin(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := browse(t, 1000, 620)
	b.enter(s)
	link := func(n int) string { return fmt.Sprintf(`a[href="/unpin?cid=%s"]`, cidOf(n)) }
	if js[bool](b, "!!document.querySelector('"+link(1042)+"')") {
		t.Error("the copies of the newest commit can be given up")
	}
	b.Follow(link(1040), "#unpin")
	b.Says("h1", "Give up the copies of “commit 1040”?")
	b.fits()
	b.readable()
	b.Shoot("unpin")
	b.Do("dark", dark())
	b.readable()
	b.Follow(".row a", "#sentence")
	if _, unpinned := s.source.acts(); len(unpinned) > 0 {
		t.Fatalf("unpinned without a word: %v", unpinned)
	}
	b.Goto(s.URL()+"unpin?cid="+cidOf(1042), "h1")
	b.Says("main", "This is the newest commit: its copies are kept")
	if js[bool](b, "!!document.querySelector('#unpin')") {
		t.Error("the copies of the newest commit can be given up by its address")
	}
	b.Follow(".row a", "#sentence")
	b.Follow(link(1040), "#unpin")
	b.Follow("#unpin", ".said")
	if _, unpinned := s.source.acts(); !slices.Equal(unpinned, []string{cidOf(1040)}) {
		t.Errorf("unpinned: %v", unpinned)
	}
	s.source.change(func(st *State) { st.Pins = slices.Delete(slices.Clone(st.Pins), 2, 3) })
	eventually(t, "the row goes", func() bool { return !strings.Contains(b.Text("#copies"), "commit 1040") })
	// What another window has given up.
	b.Excuse("404")
	b.Goto(s.URL()+"unpin?cid="+cidOf(1040), "h1")
	b.Says("h1", "There is no such copy.")
}

// Everything works without a script but the liveness, and that is said.
func TestChromiumWithoutScript(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.source.change(broken)
	b := browse(t, 1000, 900)
	b.Do("no script", emulation.SetScriptExecutionDisabled(true))
	// Its own tools work without a script, too.
	b.Goto(s.Login().URL, "#login")
	b.Leads("login", "#sentence", chromedp.SendKeys("#code", s.Login().Code+kb.Enter))
	b.Says("#sentence", "2 of 3 places")
	b.Says(".feed", "Reload")
	if b.Text("#feed") == "Live" {
		t.Error("a page without a script says that it is live")
	}
	if n := js[int](b, `document.querySelectorAll('meta[http-equiv=refresh][content="60"]').length`); n != 1 {
		t.Error("the page does not load itself anew")
	}
	b.Leads("search", ".paging", chromedp.SendKeys("#q", "snapshot"+kb.Enter))
	b.Says(".paging", "1–1 of 1")
	b.Follow(`button[formaction="/retry"]`, ".said")
	b.Follow(".acts a", "#unpin")
	b.Follow("#unpin", ".said")
	if retried, unpinned := s.source.acts(); len(retried) != 1 || len(unpinned) != 1 {
		t.Errorf("retried %v, unpinned %v", retried, unpinned)
	}
	s.source.change(func(st *State) { *st = good(time.Now()) })
	b.Follow(".reload", "#sentence")
	b.Says("#sentence", "Everything is stored in 3 places.")
	b.Follow(`button[formaction="/logout"]`, "#login")
}

// named lists what a screen reader could not name, and what is wrong with the outline.
const named = `(() => {
  const out = [];
  const count = (s, n) => { const m = document.querySelectorAll(s).length; if (m !== n) out.push(m + ' of ' + s); };
  count('main', 1); count('h1', 1); count('header', 1); count('footer', 1); count('[aria-live]', 1);
  if (!document.documentElement.lang) out.push('no language');
  for (const e of document.querySelectorAll('a, button, input:not([type=hidden]), progress, summary, section, [role=img]')) {
    const name = (e.getAttribute('aria-label') || document.getElementById(e.getAttribute('aria-labelledby') || '')?.textContent || e.labels?.[0]?.textContent || e.textContent).trim();
    if (!name) out.push('nameless ' + e.outerHTML.slice(0, 80));
  }
  let last = 1;
  for (const h of document.querySelectorAll('h1, h2, h3')) { const n = +h.tagName[1]; if (n > last + 1) out.push('outline: ' + h.textContent); last = n; }
  const seen = new Set();
  for (const e of document.querySelectorAll('[id]')) { if (seen.has(e.id)) out.push('twice: ' + e.id); seen.add(e.id); }
  for (const e of document.querySelectorAll('svg')) if (e.getAttribute('aria-hidden') !== 'true' && e.getAttribute('role') !== 'img') out.push('a picture without a role');
  return out.join('; ');
})()`

func TestChromiumKeyboardAndReaders(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	s.source.change(broken)
	b := browse(t, 1200, 900)
	b.enter(s)
	if bad := js[string](b, named); bad != "" {
		t.Error(bad)
	}
	focus := func() string {
		return js[string](b, "(e => e.tagName + ' ' + (e.innerText || e.id || '').trim().replaceAll('\\n', ' '))(document.activeElement)")
	}
	var stops []string
	for range 60 {
		b.Do("tab", chromedp.KeyEvent(kb.Tab))
		f := focus()
		if strings.HasPrefix(f, "BODY") {
			break
		}
		if !js[bool](b, "getComputedStyle(document.activeElement).outlineStyle !== 'none'") {
			t.Errorf("the focus is not seen on %s", f)
		}
		stops = append(stops, f)
	}
	all := strings.Join(stops, "|")
	for _, want := range []string{"A Skip to the content", "BUTTON Log out", "INPUT q", "BUTTON Search", "SUMMARY The same in numbers", "A failed 1", "BUTTON Retry commit 1040", "A Unpin… commit 1040"} {
		if !strings.Contains(all, want) {
			t.Errorf("the keyboard does not reach %q: %s", want, all)
		}
	}
	if len(stops) == 0 || stops[0] != "A Skip to the content" {
		t.Errorf("the first stop: %v", stops)
	}
	b.Leads("by keyboard", ".said", chromedp.Focus(`button[formaction="/retry"]`), chromedp.KeyEvent(kb.Enter))
	if retried, _ := s.source.acts(); len(retried) == 0 {
		t.Error("Enter on Retry does nothing")
	}
}

// A page whose daemon is gone must not go on saying that all is well.
func TestChromiumNoNews(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := browse(t, 1200, 900)
	b.enter(s)
	b.Says("#sentence", "Everything is stored in 3 places.")
	b.Excuse("net::ERR_CONNECTION_REFUSED")
	b.Excuse("net::ERR_INCOMPLETE_CHUNKED_ENCODING")
	b.Excuse("net::ERR_CONNECTION_RESET")
	s.end()
	b.Says("#lost", "No news since")
	if js[string](b, "document.title") != "No news – Horizon" || b.Text("#feed") != "Not live" {
		t.Error("the page looks live")
	}
	b.readable()
}
