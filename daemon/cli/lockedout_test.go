package cli

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// A machine has the drive mounted, and its owner recovers the identity elsewhere. The first one
// learns of it by itself, says what happened and when, writes no more, and gives back what it
// wrote and the recovered drive does not have: while it is mounted, and after it cannot log in.
func TestMountedMachineIsLockedOut(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 1, TLS: true})
	a, c := newHome(t), newHome(t)
	a.write(a.home.Config, "[egress]\ncheck_every = \"3s\"\n")
	for _, d := range []*drive{a, c} {
		d.use(f)
	}
	a.init()
	a.login()
	a.mount()
	a.sh("echo before > before; sync -f before")
	a.ok("sync", "--durability", "egress:1")
	a.ok("snapshot", "create", "kept")
	a.await("the copy of the snapshot", time.Minute, func(*daemon.EgressStatus) bool {
		var all []daemon.Snapshot
		a.json(&all, "snapshot", "list")
		return len(all) == 1 && all[0].Copies == 1
	})

	got := c.recover("--phrase-in", a.path("phrase"))
	a.sh("echo after > after; head -c 3000000 /dev/urandom > large; sync -f after; cp large ../large")
	var kept []daemon.Snapshot
	if c.json(&kept, "snapshot", "list"); len(kept) != 1 || len(kept[0].Keyring) == 0 {
		t.Errorf("snapshots of the lost machine: %+v", kept)
	}
	c.login()
	c.mount()
	c.sh("test -e before; echo recovered > recovered; sync -f recovered")
	c.ok("sync", "--durability", "egress:1")
	locked := func(s *daemon.Status) bool {
		return s.State == "read-only" && slices.ContainsFunc(s.Alerts, func(x string) bool {
			return strings.Contains(x, "locked out") && strings.Contains(x, "recovered with the recovery phrase at 2")
		})
	}
	took := a.awaitStatus("the lock-out", 60*time.Second, locked)
	t.Logf("it learnt of version %s within %v", got.Version, took.Round(time.Millisecond))
	if _, err := shell(a.mnt, "echo no > no"); err == nil {
		t.Error("it goes on writing")
	}
	if s := a.status(); s.Safe == nil || s.Safe.Level == "safe" {
		t.Errorf("it says %+v", s.Safe)
	}
	check := func(when string, flags ...string) {
		t.Helper()
		dir := a.path("exported " + when)
		a.ok(append([]string{"aside", "export", dir}, flags...)...)
		if got := a.readFile(filepath.Join(dir, "files", "after")); got != "after\n" {
			t.Errorf("%s: %q", when, got)
		}
		if a.readFile(filepath.Join(dir, "files", "large")) != a.readFile(filepath.Join(a.dir, "large")) {
			t.Errorf("%s: the large file differs", when)
		}
	}
	check("while it is mounted")
	a.run("umount", a.mnt)
	a.mount()
	a.awaitStatus("the lock-out, mounted again", 30*time.Second, locked)
	check("mounted again")
	a.run("umount", a.mnt)
	a.ok("logout")
	a.says(ExitRefused, "not in the DID document", append([]string{"login"}, a.passfile()...)...)
	check("without a login", a.passfile()...)
	a.ok("aside", "discard")
	c.umount()
}
