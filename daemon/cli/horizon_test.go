package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// browser is a real Chromium with the page of a drive open.
type browser struct {
	context.Context
	t *testing.T
}

// chromium starts a browser.
func chromium(t *testing.T) *browser {
	t.Helper()
	need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.WindowSize(1200, 1400),
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("no-proxy-server", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	limited, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	allocated, end := chromedp.NewExecAllocator(limited, options...)
	ctx, closeTab := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		closeTab()
		end()
		stop()
	})
	return &browser{ctx, t}
}

// browse opens the page by the link that the program prints.
func (d *drive) browse(t *testing.T) *browser {
	t.Helper()
	b := chromium(t)
	var link struct{ URL string }
	if err := json.Unmarshal([]byte(d.ok("horizon", "--json")), &link); err != nil {
		t.Fatal(err)
	}
	b.do("login", chromedp.Navigate(link.URL), chromedp.WaitVisible("#sentence"))
	return b
}

func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// says waits until an element says one of some things, and returns how long that took.
func (b *browser) says(selector string, parts ...string) time.Duration {
	b.t.Helper()
	begin := time.Now()
	for {
		var text string
		b.do(selector, chromedp.Evaluate(fmt.Sprintf("(document.querySelector(%q)?.innerText || '').trim()", selector), &text))
		for _, p := range parts {
			if strings.Contains(text, p) {
				return time.Since(begin)
			}
		}
		if time.Since(begin) > 2*time.Minute {
			b.t.Fatalf("%s does not say any of %q, but %q", selector, parts, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// shoot takes a picture for people, if they asked for one.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("IPFSCLOUD_SCREENSHOTS")
	if dir == "" {
		return
	}
	var png []byte
	b.do("screenshot", chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// The page of a real drive with a real Egress, in a real browser: it says what is so,
// while it changes.
func TestHorizonTellsTheTruth(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 3})
	d := newHome(t)
	d.init()
	d.use(f)
	d.login()
	d.mount()
	b := d.browse(t)
	d.sh(`for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/urandom > $i; done`)
	b.says("#sentence", "only on this computer")
	d.ok("sync", "--durability", "egress:3")
	t.Log("all copies made: the page says so after", b.says("#sentence", "stored in 3 places", "stored in 4 places"))
	b.shoot("real-safe")
	if err := f.Nodes()[2].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("a node is gone: the page says so after", b.says("#sentence", "2 places", "2 of 3", "3 places"))
	b.says("#peers", "silent", "down", "not answer", "gone")
	b.shoot("real-gone")
	if err := f.Nodes()[2].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("it is back: the page says so after", b.says("#tiles", "3 of 3"))
	d.umount()
	b.says("#lost", "No news since")
}

// The page tells of the identity's devices and claims.
func TestHorizonShowsIdentity(t *testing.T) {
	d := newHome(t)
	d.init()
	d.login()
	d.ok("id", "claim", "self", "name=Ann <b>of the hill</b>")
	d.mount()
	b := d.browse(t)
	b.says("#identity", "Ann <b>of the hill</b>")
	b.says("#identity", "self-signed")
	b.says("#identity", d.whoami().DeviceName)
	d.umount()
	d.ok("logout")
}
