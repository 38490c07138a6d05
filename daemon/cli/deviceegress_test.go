package cli

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// Two machines with a node each, and nothing between them but an Egress: the second one joins,
// catches up, and takes over through it.
func TestDeviceJoinsOverEgress(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 1, TLS: true})
	a, b := newHome(t), newHome(t)
	a.use(f)
	a.init()
	a.login()
	a.mount()
	a.sh("mkdir x; echo first > x/file; head -c 300000 /dev/urandom > x/blob; sync -f x")

	b.says(ExitNotFound, "egress use", append([]string{"device", "add", "--egress"}, b.passfile()...)...)
	b.useToken(f)
	request := asks{}
	b.json(&request, append([]string{"device", "add", "--egress"}, b.passfile()...)...)
	b.says(ExitNotFound, "no answer", append([]string{"device", "add", "--egress", "--wait", "1ms", "--code", "AAAA-AAAA"}, b.passfile()...)...)
	a.says(ExitNotFound, "none with this code", append([]string{"device", "approve", "--egress", "--code", "AAAA-AAAA"}, a.passfile()...)...)
	var answer answers
	a.json(&answer, append([]string{"device", "approve", "--egress", "--code", request.Code}, a.passfile()...)...)
	if answer.Device != request.Device {
		t.Fatalf("%+v for %+v", answer, request)
	}
	b.says(ExitRefused, "does not match", append([]string{"device", "add", "--egress", "--code", "AAAA-AAAA"}, b.passfile()...)...)
	b.ok(append([]string{"device", "add", "--egress", "--code", answer.Code}, b.passfile()...)...)
	b.login()
	b.mount()
	want := sums(t, a.mnt)
	if got := sums(t, b.mnt); got != want || b.status().State != "read-only" {
		t.Errorf("the second device has\n%s\nthe first\n%s\n%+v", got, want, b.status())
	}
	b.umount()
	a.sh("echo second > x/file; sync -f x")
	a.ok("sync", "--durability", "egress:1")
	b.mount()
	if got := b.sh("cat x/file"); got != "second\n" {
		t.Errorf("mounted again, the second device has %q", got)
	}
	b.umount()
	a.sh("echo third > x/file; sync -f x")
	a.ok("sync", "--durability", "egress:1")
	a.umount()
	b.ok("device", "take-over")
	b.mount()
	if got := b.sh("cat x/file; echo fourth > x/file; sync -f x"); got != "third\n" {
		t.Errorf("taking over, the second device has %q", got)
	}
	b.ok("sync", "--durability", "egress:1")
	a.mount()
	if got := a.sh("cat x/file"); got != "fourth\n" || a.status().State != "read-only" {
		t.Errorf("the first device has %q, %+v", got, a.status())
	}
	// Who was relieved leaves the copies of the other one alone.
	a.await("the first device sees Egress", time.Minute, func(s *daemon.EgressStatus) bool { return s.Peers > 0 })
	a.umount()
	b.ok("sync", "--durability", "egress:1")
	want = sums(t, b.mnt)
	b.umount()

	// Both machines are lost. The phrase and the Egress give all back, and lock them out.
	c := newHome(t)
	c.use(f)
	if r := c.recover("--phrase-in", a.path("phrase")); auth.SelfCertifying(r.DID) != auth.SelfCertifying(a.whoami().DID) || r.Vault == "" {
		t.Errorf("%+v", r)
	}
	c.login()
	c.mount()
	if got := sums(t, c.mnt); got != want {
		t.Errorf("recovered from Egress:\n%s\nwant\n%s", got, want)
	}
	c.sh("echo fifth > x/file; sync -f x")
	c.ok("sync", "--durability", "egress:1")
	c.umount()
	for _, lost := range []*drive{a, b} {
		lost.ok("logout")
		lost.says(ExitRefused, "not in the DID document", append([]string{"login"}, lost.passfile()...)...)
	}
}

// A device that takes over tells Egress before the command returns: the other one, which is
// mounted all the while, learns of it although the new writer is never mounted, and does not
// say that its changes are stored.
func TestTakeOverIsTold(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 1, TLS: true})
	a, b := newHome(t), newHome(t)
	for _, d := range []*drive{a, b} {
		d.write(d.home.Config, "[egress]\ncheck_every = \"5s\"\n")
	}
	a.use(f)
	a.init()
	a.login()
	a.mount()
	a.sh("echo first > file; sync -f file")
	b.use(f)
	a.join(b)
	a.ok("sync", "--durability", "egress:1")
	b.ok("device", "take-over")
	a.awaitStatus("the writer learns that it was relieved", time.Minute, func(s *daemon.Status) bool { return s.State == "read-only" })
	if out, err := shell(a.mnt, "echo more > more"); err == nil {
		t.Errorf("a device that was relieved writes: %s", out)
	}
	a.umount()
	b.mount()
	if got := b.sh("cat file; echo second > file"); got != "first\n" {
		t.Errorf("the new writer has %q", got)
	}
	b.ok("sync", "--durability", "egress:1")
	b.umount()
}

// A device that was approved and has nowhere to get the data from says what to do. So does one
// whose password for Egress was changed.
func TestDeviceWithoutSource(t *testing.T) {
	t.Parallel()
	a, b := newHome(t), newHome(t)
	a.withNodes()
	a.init()
	a.login()
	a.mount()
	a.sh("echo kept > file; sync -f file")
	a.join(b)
	b.says(ExitNotFound, "ipfscloud egress use", "mount", b.mnt)

	t.Cleanup(func() { a.run("egress", "down") })
	a.umount()
	a.ok("egress", "up", "--peers", "1")
	a.mount()
	a.ok("sync", "--durability", "egress:1")
	info, err := fleet.Load(filepath.Join(a.dir, "egress"))
	if err != nil || len(info.Endpoints) != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	use := []string{"egress", "use", info.Endpoints[0].URL, "--auth-file", b.path("auth")}
	if info.CAFile != "" {
		use = append(use, "--ca", info.CAFile)
	}
	b.write(b.path("auth"), "basic:"+info.Username+":"+info.Password+"\n")
	b.ok(use...)
	b.mount()
	if got := b.sh("cat file"); got != "kept\n" {
		t.Errorf("the second device has %q", got)
	}
	b.umount()

	a.umount()
	a.says(ExitBusy, "egress down", "egress", "password")
	a.ok("egress", "down")
	line := a.ok("egress", "password")
	a.ok("egress", "up")
	b.says(ExitRefused, "password", use...)
	b.write(b.path("auth"), line)
	b.ok(use...)
	a.mount()
	a.sh("echo more > file; sync -f file")
	a.ok("sync", "--durability", "egress:1")
	b.mount()
	if got := b.sh("cat file"); got != "more\n" {
		t.Errorf("with the new password the second device has %q", got)
	}
	b.umount()
	a.umount()
}
