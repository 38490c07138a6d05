package cli

import (
	"encoding/json"
	"testing"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon/browsertest"
)

// browse opens the page of a drive in a real Chromium, by the link that the program prints.
func (d *drive) browse(t *testing.T) *browsertest.Tab {
	t.Helper()
	b := browsertest.Open(t, 1200, 1400)
	for _, gone := range []string{"CONNECTION_REFUSED", "CONNECTION_RESET", "INCOMPLETE_CHUNKED_ENCODING"} {
		b.Excuse("net::ERR_" + gone) // after the unmount
	}
	var link struct{ URL string }
	if err := json.Unmarshal([]byte(d.ok("horizon", "--json")), &link); err != nil {
		t.Fatal(err)
	}
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
	b := d.browse(t)
	d.sh(`for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/urandom > $i; done`)
	b.Says("#sentence", "only on this computer")
	d.ok("sync", "--durability", "egress:3")
	t.Log("all copies made: the page says so after", b.Says("#sentence", "stored in 3 places", "stored in 4 places"))
	b.Shoot("real-safe", true)
	if err := f.Nodes()[2].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("a node is gone: the page says so after", b.Says("#sentence", "2 places", "2 of 3", "3 places"))
	b.Says("#peers", "silent", "down", "not answer", "gone")
	b.Shoot("real-gone", true)
	if err := f.Nodes()[2].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Log("it is back: the page says so after", b.Says("#tiles", "3 of 3"))
	d.umount()
	b.Says("#lost", "No news since")
}

// The page tells of the identity's devices and claims.
func TestHorizonShowsIdentity(t *testing.T) {
	d := newHome(t)
	d.init()
	d.login()
	d.ok("id", "claim", "self", "name=Ann <b>of the hill</b>")
	d.mount()
	b := d.browse(t)
	b.Says("#identity", "Ann <b>of the hill</b>")
	b.Says("#identity", "self-signed")
	b.Says("#identity", d.whoami().DeviceName)
	d.umount()
	d.ok("logout")
}
