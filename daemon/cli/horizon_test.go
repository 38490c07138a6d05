package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon/browsertest"
)

// pageLink is what `ipfscloud horizon --json` prints.
type pageLink struct{ URL, Code string }

// page starts a real Chromium, and has a link into the page of a drive drawn.
func (d *drive) page(t *testing.T) (b *browsertest.Tab, link pageLink) {
	t.Helper()
	b = browsertest.Open(t, 1200, 1400)
	for _, gone := range []string{"CONNECTION_REFUSED", "CONNECTION_RESET", "INCOMPLETE_CHUNKED_ENCODING"} {
		b.Excuse("net::ERR_" + gone) // after the unmount
	}
	if err := json.Unmarshal([]byte(d.ok("horizon", "--json")), &link); err != nil {
		t.Fatal(err)
	}
	return b, link
}

// browse opens the page of a drive by its link.
func (d *drive) browse(t *testing.T) *browsertest.Tab {
	t.Helper()
	b, link := d.page(t)
	b.Goto(link.URL, "#sentence")
	return b
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

	// Login by a code, typed as from another window.
	b, link := d.page(t)
	address, _, _ := strings.Cut(link.URL, "#")
	b.Goto(address, "#code")
	b.Do("type", chromedp.SendKeys("#code", link.Code))
	b.Leads("login", "#sentence", chromedp.KeyEvent(kb.Enter))
	b.Says("#feed", "Live")

	// Progress, while files are written, committed and copied: some of it is stored, and
	// some is not.
	content, began := bytes.Repeat([]byte{1}, 1<<19), time.Now()
	for n, seen := 0, false; !seen; n++ {
		time.Sleep(100 * time.Millisecond) // the pace of the writer
		if time.Since(began) > longest {
			t.Fatalf("no progress is seen: %s; %s", b.Text("#sentence"), b.Text("#queue"))
		}
		if err := os.WriteFile(d.on(fmt.Sprint("file", n)), content, 0o600); err != nil {
			t.Fatal(err)
		}
		p := browsertest.JS[[]float64](b, "(p => p ? [p.value, p.max] : [])(document.querySelector('progress'))")
		seen = len(p) == 2 && 0 < p[0] && p[0] < p[1]
	}
	b.Says("#sentence", "only on this computer")
	b.Look("real-progress")
	t.Log("progress was seen after ", time.Since(began))
	d.ok("sync", "--durability", "egress:3")
	b.Says("#sentence", "Everything is stored in 3 places")

	// A peer dies: what it held is missing, and a person may have it tried again.
	if err := f.Nodes()[2].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("a node is gone: the page says so after", b.Says("#peers", "2 of 3 peers are up."))
	t.Log("and counts without it after", b.Says("#sentence", "2 of 3 places"))
	if n := browsertest.JS[int](b, "document.querySelectorAll('.graph .down').length"); n != 1 {
		t.Errorf("%d peers are crossed out", n)
	}
	b.Says("#copies", fmt.Sprintf("commit %d newest", d.status().Commit.Sequence))
	b.Says("#copies", "2 of 3")
	b.Look("real-peer-down")
	b.Follow(`button[formaction="/retry"]`, ".said")
	b.Says(".said", "tried again")
	if err := f.Nodes()[2].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("it is back: the page says so after", b.Says("#peers", "3 of 3 peers are up. All 3 peers"))
	t.Log("and counts with it after", b.Says("#sentence", "Everything is stored in 3 places"))
	d.umount()
	b.Says("#lost", "No news since")
}

// The page tells of the identity's devices and claims.
func TestHorizonShowsIdentity(t *testing.T) {
	t.Parallel()
	d, club := newHome(t), newHome(t)
	for _, h := range []*drive{d, club} {
		h.init()
		h.login()
	}
	d.ok("id", "claim", "self", "name=Ann <b>of the hill</b>")
	d.write(d.path("claim"), club.ok("id", "claim", "issue", d.whoami().DID, "member=since 2019"))
	d.ok("id", "claim", "add", d.path("claim"), "--log", filepath.Join(club.home.Keystore, "did.jsonl"))
	d.mount()
	b := d.browse(t)
	b.Says("#identity", "Ann <b>of the hill</b>")
	b.Says("#identity", "self-signed")
	b.Says("#identity", "since 2019")
	b.Says("#identity", "issued")
	b.Says("#identity", d.whoami().DeviceName)
	d.umount()
	d.ok("logout")
}

// metric reads one metric from the control socket; -1 if there is none.
func (d *drive) metric(name string) float64 {
	d.t.Helper()
	all := d.scrape()
	if v, ok := all[name]; ok {
		return v
	}
	return -1
}

// scrape reads all metrics that have no label, from the control socket.
func (d *drive) scrape() map[string]float64 {
	d.t.Helper()
	c := http.Client{Timeout: longest, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.path("run/control.sock"))
	}}}
	resp, err := c.Get("http://control/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// The metrics of a real drive tell what happens on it.
func TestMetricsOfADrive(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	d.sh(`head -c 3000000 /dev/urandom > file; cat file > /dev/null`)
	d.ok("sync")
	all := d.scrape()
	for name, least := range map[string]float64{"ipfscloud_up": 1, "ipfscloud_written_bytes_total": 3e6, "ipfscloud_commits_total": 1,
		"ipfscloud_commit_sequence": 1, "ipfscloud_commit_timestamp_seconds": 1.7e9, "ipfscloud_store_used_bytes": 1, "ipfscloud_store_free_bytes": 1,
		`ipfscloud_drive_state{state="mounted"}`: 1, `ipfscloud_operation_duration_seconds_count{kind="write"}`: 1} {
		if all[name] < least {
			t.Errorf("%s is %g", name, all[name])
		}
	}
	for _, none := range []string{"ipfscloud_store_full", "ipfscloud_pending_bytes", `ipfscloud_alerts{severity="critical"}`, "ipfscloud_egress_configured"} {
		if v, ok := all[none]; !ok || v != 0 {
			t.Errorf("%s is %g", none, v)
		}
	}
	d.umount()
}
