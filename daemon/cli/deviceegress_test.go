package cli

import (
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
