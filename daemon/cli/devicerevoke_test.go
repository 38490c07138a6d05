package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
)

// thiefOf is a machine with a copy of the disk of another one, and of the repo of a third.
func thiefOf(t *testing.T, from, repo *drive) *drive {
	t.Helper()
	d := newHome(t)
	for to, dir := range map[string]string{d.home.Keystore: from.home.Keystore, d.home.State: from.home.State, d.home.Cache: from.home.Cache, d.home.IPFS: repo.home.IPFS} {
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(to, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Two machines with a node each; one is stolen, and revoked while the other one's drive is
// mounted. The thief has all that lies in the other one's node, too.
func TestRevokedDevice(t *testing.T) {
	t.Parallel()
	a, b := newDrive(t), newHome(t)
	a.sh("mkdir plans; echo old-secret > plans/old; head -c 100000 /dev/urandom > plans/blob; sync -f plans")
	request := b.asksToJoin()
	b.joins(a.approve(request))
	a.umount()
	b.copyRepo(a) // what another node would have fetched
	a.mount()
	b.login()
	b.mount()
	if got := b.sh("cat plans/old"); got != "old-secret\n" {
		t.Fatalf("the file says %q", got)
	}
	b.umount()
	b.ok("logout")

	before := a.status().Commit.Sequence
	a.says(ExitNotFound, "no such device", append([]string{"device", "revoke", "aaaaaaaaaaaaaaaa"}, a.passfile()...)...)
	a.says(ExitUsage, "itself", append([]string{"device", "revoke", a.whoami().Device}, a.passfile()...)...)
	var revoked struct {
		Device, Version string
		Sequence        uint64
	}
	a.json(&revoked, append([]string{"device", "revoke", request.Device}, a.passfile()...)...)
	if revoked.Sequence <= before || !strings.HasPrefix(revoked.Version, "3-") {
		t.Errorf("%+v, before it was commit %d", revoked, before)
	}
	a.sh("echo new-secret > plans/new; sync -f plans")
	a.ok("sync", "--durability", "ipfs")
	a.sh("echo newer > plans/newer")
	a.umount() // with its journal, begun under the old key
	a.mount()
	if got := a.sh("cat plans/old plans/new plans/newer"); got != "old-secret\nnew-secret\nnewer\n" {
		t.Errorf("after the new key the files say %q", got)
	}
	a.kill()
	a.mount() // and one of the new key, after a crash
	a.sh("echo more >> plans/newer")
	a.kill()
	a.mount()
	if got := a.sh("cat plans/newer"); got != "newer\nmore\n" {
		t.Errorf("after a crash the file says %q", got)
	}
	list := a.devices("--all")
	if len(list) != 2 || list[request.Device].Revoked != revoked.Version || len(a.devices()) != 1 {
		t.Errorf("%+v", list)
	}
	a.umount()

	thief := thiefOf(t, b, a)
	thief.says(ExitRefused, "passphrase", "login", "--passfile", thief.path("wrong"))
	thief.says(ExitRefused, "not logged in", "mount", thief.mnt)
	for _, args := range [][]string{{"id", "rotate"}, {"device", "revoke", a.whoami().Device}, {"device", "rekey"}, {"device", "take-over"}} {
		thief.says(ExitRefused, "passphrase", append(args, "--passfile", thief.path("wrong"))...)
	}
	// With the passphrase, and without news: he logs in, and sees what he has seen before, or nothing.
	thief.login()
	if _, problem, code := thief.run("device", "take-over"); code == ExitOK {
		t.Error("the thief took over", problem)
	}
	if _, problem, code := thief.run("mount", "-d", thief.mnt); code == ExitOK {
		out, err := shell(thief.mnt, "cat plans/*")
		if strings.Contains(out, "new") {
			t.Errorf("the thief reads %q, %v", out, err)
		}
		if _, err := shell(thief.mnt, "echo mine > plans/old"); err == nil {
			t.Error("the thief writes")
		}
		thief.umount()
	} else {
		t.Log("the thief's mount:", strings.TrimSpace(problem))
	}
	thief.ok("logout")
	// The program has seen the news in the commits.
	thief.says(ExitRefused, "not in the DID document", append([]string{"login"}, thief.passfile()...)...)
	_ = thief.fails(ExitRefused, append([]string{"device", "rekey"}, thief.passfile()...)...)
	// Whoever was revoked can be let in again, with new keys.
	again := newHome(t)
	a.login()
	a.join(again, "--read-only")
	if l := a.devices()[again.whoami().Device]; l.Scope != auth.ScopeRead {
		t.Errorf("%+v", l)
	}
	again.says(ExitRefused, "read", "device", "take-over")
}

func (d *drive) whoami() (w auth.WhoAmI) {
	d.t.Helper()
	d.json(&w, "whoami")
	return w
}

// The device that writes is the one that is lost: another one revokes it, and writes from
// then on. What the lost one still commits nobody takes.
func TestRevokeTheWriter(t *testing.T) {
	t.Parallel()
	k := newKubo(t)
	k.start()
	lost, b := homeOn(t, k), homeOn(t, k)
	lost.init()
	lost.login()
	lost.mount()
	lost.sh("mkdir x; echo first > x/file; sync -f x")
	lost.join(b)
	// A device that does not write lets nobody in: the document stays as it is.
	c := homeOn(t, k)
	request := c.asksToJoin()
	b.write(b.path("request"), request.Request)
	b.says(ExitBusy, "take-over", append([]string{"device", "approve", b.path("request"), "--code", request.Code}, b.passfile()...)...)
	if n := len(b.devices()); n != 2 {
		t.Errorf("%d devices", n)
	}
	lost.sh("echo second > x/file; sync -f x")
	lost.ok("sync", "--durability", "ipfs")
	b.ok(append([]string{"device", "revoke", lost.whoami().Device}, b.passfile()...)...)
	lost.sh("echo stolen > x/file; sync -f x")
	if _, problem, code := lost.run("sync", "--durability", "ipfs"); code == ExitOK {
		t.Error("the program of the lost device goes on", problem)
	}
	b.mount()
	if got := b.sh("cat x/file; echo mine > x/file; sync -f x"); got != "second\n" {
		t.Errorf("the file says %q", got)
	}
	if s := b.status(); s.State != "mounted" {
		t.Errorf("%+v", s)
	}
	b.joinsOther(c, request)
	c.mount()
	if got := c.sh("cat x/file"); got != "mine\n" {
		t.Errorf("the third device reads %q", got)
	}
	c.umount()
	b.umount()
	lost.run("umount", lost.mnt)
	lost.ok("logout")
	lost.says(ExitRefused, "not in the DID document", append([]string{"login"}, lost.passfile()...)...)
}

func (d *drive) joinsOther(other *drive, a asks) {
	d.t.Helper()
	other.joins(d.approve(a))
	other.login()
}
