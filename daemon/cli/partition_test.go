package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon"
)

const netnsEnv = "IPFSCLOUD_TEST_NETNS"

// A machine of the fleet is cut off from all others, and comes back. The cut is a route,
// in a network of the test's own.
func TestEgressPartition(t *testing.T) {
	if os.Getenv(netnsEnv) == "" {
		t.Parallel()
		needRoot(t)
		need(t, "unshare", "ip")
		fleettest.Binaries(t) // which may need the network to build
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "unshare", "--net", "--", os.Args[0], "-test.run=^TestEgressPartition$", "-test.v")
		cmd.Env = append(os.Environ(), netnsEnv+"=1")
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("link", "set", "lo", "up")
	f := fleettest.Up(t, fleet.Config{Peers: 2})
	token, err := f.Token().Encode()
	if err != nil {
		t.Fatal(err)
	}
	const far = "127.0.0.3"
	dir := filepath.Join(t.TempDir(), "far")
	if err := fleet.Join(t.Context(), token, fleet.Config{Dir: dir, Name: "far", Listen: far, Binaries: fleettest.Binaries(t)}); err != nil {
		t.Fatal(err)
	}
	fleettest.Up(t, fleet.Config{Dir: dir})

	d := newHome(t)
	d.init()
	d.use(f)
	d.login()
	d.mount()
	// The policy follows the number of peers, also when one is seen late.
	d.await("a third peer", time.Minute, func(s *daemon.EgressStatus) bool { return s.Target == 3 })
	d.sh("head -c 500000 /dev/urandom > before")
	d.ok("sync", "--durability", "egress:3")
	ip("route", "add", "blackhole", far, "table", "local")
	t.Log("cut off: told after", d.await("a cut", 30*time.Second, func(s *daemon.EgressStatus) bool { return s.Copies == 2 }))
	d.sh("head -c 500000 /dev/urandom > meanwhile; sync -f meanwhile")
	d.ok("sync", "--durability", "egress:2")
	ip("route", "del", "blackhole", far, "table", "local")
	t.Log("healed: all copies after", d.awaitCopies("copies after the cut", 3*time.Minute, 3))
	want := sums(t, d.mnt)
	d.ok("umount", d.mnt)
	d.mount()
	if got := sums(t, d.mnt); got != want {
		t.Errorf("after the cut:\n%s\nwant:\n%s", got, want)
	}
	d.ok("umount", d.mnt)
}
