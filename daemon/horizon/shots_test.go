package horizon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// dark makes the browser prefer dark pages.
func dark() chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}})
}

// fits fails if the page is wider than the window.
func (b *tab) fits() {
	b.t.Helper()
	if over := js[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		b.t.Errorf("the page is %d pixels wider than the window: %s", over,
			js[string](b, `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.unseen')).map(e => e.tagName + '.' + e.className).slice(0, 5).join(' ')`))
	}
}

// faint lists texts whose contrast with what is behind them is less than WCAG's AA wants.
const faint = `(() => {
  const rgb = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const out = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    const e = n.parentElement, s = getComputedStyle(e);
    if (!n.data.trim() || e.closest('.unseen, noscript, script, svg, .skip, [hidden]') || s.visibility === 'hidden' || !e.getClientRects().length) continue;
    let a = lum(rgb(s.color)), b = lum(behind(e));
    if (a < b) [a, b] = [b, a];
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) out.push(n.data.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return out.join('; ');
})()`

func (b *tab) readable() {
	b.t.Helper()
	if f := js[string](b, faint); f != "" {
		b.t.Error("too faint: ", f)
	}
}

// busy is a drive whose data is on its way.
func busy(st *State) {
	now := time.Now()
	st.Pending = Pending{Ops: 312, Bytes: 1_340_000_000, Oldest: now.Add(-48 * time.Second)}
	st.Egress.OnlyHere, st.Egress.Copies = 760_000_000, 1
	pins := append([]Pin(nil), st.Pins...)
	pins[0].State, pins[0].Copies, pins[0].Since = PinCopying, 1, now.Add(-20*time.Second)
	pins[0].Peers = []PinPeer{{Name: "attic", Status: "pinned", Held: true}, {Name: "office", Status: "pinning"}, {Name: "rented", Status: "pin_queued"}}
	st.Pins = pins
	commits := append([]Commit(nil), st.Commits...)
	commits[0].Copies = 1
	st.Commits = commits
}

// broken is a drive with a dead peer, and what comes of it.
func broken(st *State) {
	now := time.Now()
	st.Egress.Copies, st.Egress.Since = 2, now.Add(-14*time.Minute)
	peers := append([]Peer(nil), st.Peers...)
	peers[1].Up, peers[1].LastSeen, peers[1].Sees = false, now.Add(-14*time.Minute), nil
	peers[0].Sees, peers[2].Sees = []string{peers[2].ID}, []string{peers[0].ID}
	peers[1].Errors, peers[1].Error = 2, "connection refused"
	st.Peers = peers
	pins := append([]Pin(nil), st.Pins...)
	for i := range pins {
		pins[i].Copies, pins[i].State, pins[i].Since = 2, PinShort, now.Add(-14*time.Minute)
		pins[i].Peers = []PinPeer{{Name: "attic", Status: "pinned", Held: true}, {Name: "rented", Status: "pinned", Held: true},
			{Name: "office", Status: "cluster_error", Error: "connection refused"}}
	}
	pins[2].State = PinFailed
	pins[2].Peers = []PinPeer{{Name: "attic", Status: "pinned", Held: true}, {Name: "rented", Status: "pin_error", Error: "context deadline exceeded"},
		{Name: "office", Status: "cluster_error", Error: "connection refused"}}
	pins[2].Copies = 1
	st.Pins = pins
	commits := append([]Commit(nil), st.Commits...)
	for i := range commits {
		commits[i].Copies = 2
	}
	st.Commits = commits
	st.Alerts = []Alert{{Severity: Warning, Text: "The peer office has not been heard of for 14 minutes", Action: "See whether its machine is on, or let another take its part:",
		Command: "ipfscloud egress peers", Since: now.Add(-14 * time.Minute)}}
	st.Errors = []Failure{{now.Add(-3 * time.Minute), "egress", "rented: pin " + short(st.Commits[2].CID) + ": context deadline exceeded"},
		{now.Add(-14 * time.Minute), "egress", "office: connection refused"}}
}

// alone is a drive without Egress.
func alone(st *State) {
	st.Egress, st.Pins, st.Peers = Egress{}, nil, nil
	st.PhrasePending = true
}

// Every kind of day, light and dark, wide and narrow: nothing hangs over, everything can
// be read. With IPFSCLOUD_LOOKS=DIR it leaves pictures of all of them there.
func TestChromiumLooks(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	fresh := s.source.state
	shown := map[string]string{"safe-light": "safe", "safe-dark": "dark", "care-narrow": "narrow"}
	b := browse(t, 1200, 900)
	b.enter(s)
	for _, day := range []struct {
		name, sentence string
		change         func(*State)
	}{
		{"safe", "Everything is stored in 3 places.", func(*State) {}},
		{"busy", "2.1 GB is only on this computer", busy},
		{"care", "Everything is stored in 2 of 3 places.", broken},
		{"alone", "There is one copy of your data: on this computer.", alone},
		{"stop", "Stop: The head that the store shows is older than the one accepted before.", func(st *State) {
			st.Drive.State = ReadOnly
			st.Alerts = []Alert{{Severity: Critical, Text: "The head that the store shows is older than the one accepted before",
				Action: "Somebody rolled the store back, or restored an old backup of it. See what differs:", Command: "ipfscloud fsck", Since: time.Now()}}
		}},
	} {
		s.source.change(func(st *State) { *st = fresh; day.change(st) })
		for _, look := range []struct {
			name       string
			wide, high int64
			media      chromedp.Action
		}{
			{"light", 1200, 900, emulation.SetEmulatedMedia()},
			{"dark", 1200, 900, dark()},
			{"narrow", 390, 844, emulation.SetEmulatedMedia()},
			{"narrow-dark", 320, 640, dark()},
		} {
			b.Do("look", look.media, emulation.SetDeviceMetricsOverride(look.wide, look.high, 1, look.wide < 500))
			b.Says("#sentence", day.sentence)
			b.fits()
			b.readable()
			b.Look(day.name + "-" + look.name)
			if name := shown[day.name+"-"+look.name]; name != "" {
				b.Shoot(name)
			}
		}
	}
}

// The pictures that `make screenshots` takes are all shown, and small.
func TestScreenshotsAreShown(t *testing.T) {
	dir := filepath.Join("..", "..", "contrib", "screenshots")
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, name := range []string{"safe", "login", "progress", "care", "peer-down", "peer-back", "retry", "unpin", "dark", "narrow"} {
		file, err := os.Stat(filepath.Join(dir, name+".png"))
		if err != nil {
			t.Error(err)
			continue
		}
		sum += file.Size()
		if !strings.Contains(string(page), "("+name+".png)") {
			t.Errorf("%s is not shown beside the pictures", name)
		}
		if !strings.Contains(string(readme), "contrib/screenshots/"+name+".png") {
			t.Errorf("the README does not show %s", name)
		}
	}
	if sum > 800_000 {
		t.Errorf("the pictures take %d bytes", sum)
	}
}
