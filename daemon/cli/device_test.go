package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// asks is what `device add --json` prints, and answers what `device approve --json` does.
type asks struct{ Device, Request, Code, Scan string }
type answers struct {
	Device, Version, Answer, Code string
	Sequence                      uint64
}

func (d *drive) passfile() []string { return []string{"--passfile", d.path("pass")} }

func (d *drive) json(to any, args ...string) {
	d.t.Helper()
	out := d.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), to); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}

// asksToJoin makes the keys of a new device and its request.
func (d *drive) asksToJoin() (a asks) {
	d.t.Helper()
	d.json(&a, append([]string{"device", "add", "--name", filepath.Base(d.dir)}, d.passfile()...)...)
	return a
}

// approve lets a device in.
func (d *drive) approve(a asks, flags ...string) (b answers) {
	d.t.Helper()
	d.write(d.path("request"), a.Request)
	args := append([]string{"device", "approve", d.path("request"), "--code", a.Code}, d.passfile()...)
	d.json(&b, append(args, flags...)...)
	return b
}

// joins takes the answer.
func (d *drive) joins(b answers) {
	d.t.Helper()
	d.write(d.path("answer"), b.Answer)
	d.ok(append([]string{"device", "add", "--answer", d.path("answer"), "--code", b.Code}, d.passfile()...)...)
}

// join makes other a device of d's identity, and logs it in.
func (d *drive) join(other *drive, flags ...string) asks {
	d.t.Helper()
	a := other.asksToJoin()
	other.joins(d.approve(a, flags...))
	other.login()
	return a
}

func (d *drive) devices(flags ...string) map[string]daemon.ListedDevice {
	d.t.Helper()
	var list []daemon.ListedDevice
	d.json(&list, append([]string{"device", "list"}, flags...)...)
	out := map[string]daemon.ListedDevice{}
	for _, l := range list {
		out[l.Device] = l
	}
	return out
}

// at makes a home that uses a Kubo.
func homeOn(t testing.TB, k *kubo) *drive {
	t.Helper()
	d := newHome(t)
	d.write(d.home.Config, "ipfs = \""+k.url()+"\"\n")
	return d
}

// Two machines at one node: the second joins by file, reads, takes over, and writes.
func TestDeviceJoins(t *testing.T) {
	t.Parallel()
	k := newKubo(t)
	k.start()
	a, b := homeOn(t, k), homeOn(t, k)
	a.init()
	request := b.asksToJoin()
	if again := b.asksToJoin(); again != request {
		t.Errorf("asking again gives another request: %+v, %+v", again, request)
	}
	b.says(ExitRefused, "approval", append([]string{"login"}, b.passfile()...)...)
	a.write(a.path("request"), request.Request)
	approve := append([]string{"device", "approve", a.path("request"), "--code", request.Code}, a.passfile()...)
	a.says(ExitNotFound, "no vault", approve...)
	a.login()
	a.mount()
	a.sh("mkdir -p x/y; echo first > x/y/file; sync -f x")

	wrong := "AAAA-AAAA"
	if request.Code == wrong {
		wrong = "BBBB-BBBB"
	}
	a.says(ExitRefused, "does not match", append([]string{"device", "approve", a.path("request"), "--code", wrong}, a.passfile()...)...)
	a.says(ExitUsage, "--code", append([]string{"device", "approve", a.path("request")}, a.passfile()...)...)
	a.says(ExitRefused, "passphrase", "device", "approve", a.path("request"), "--code", request.Scan, "--passfile", a.path("wrong"))
	// The drive stays mounted.
	answer := a.approve(request)
	if again := a.approve(request); again.Version != answer.Version {
		t.Errorf("approved again: version %s after %s", again.Version, answer.Version)
	}
	b.write(b.path("answer"), answer.Answer)
	b.says(ExitRefused, "does not match", append([]string{"device", "add", "--answer", b.path("answer"), "--code", wrong}, b.passfile()...)...)
	// An answer is for one device.
	c := homeOn(t, k)
	c.asksToJoin()
	c.write(c.path("answer"), answer.Answer)
	_ = c.fails(ExitRefused, append([]string{"device", "add", "--answer", c.path("answer"), "--code", answer.Code}, c.passfile()...)...)
	b.joins(answer)
	b.login()
	b.mount()
	if s := b.status(); s.State != "read-only" || s.DID != a.status().DID || s.Vault != a.status().Vault {
		t.Errorf("the second device: %+v", s)
	}
	if got := b.sh("cat x/y/file"); got != "first\n" {
		t.Errorf("the file says %q", got)
	}
	if _, err := shell(b.mnt, "echo no > x/no"); err == nil {
		t.Error("the device that does not write has written")
	}
	b.says(ExitBusy, "unmount", "device", "take-over")
	b.umount()

	list := a.devices()
	if len(list) != 2 || list[request.Device].By == "" || list[request.Device].Name != filepath.Base(b.dir) || list[request.Device].Scope != auth.ScopeFull {
		t.Errorf("%+v", list)
	}
	// The other one takes over, while the first is mounted and has something to write.
	a.sh("echo second > x/y/file; sync -f x")
	a.ok("sync", "--durability", "ipfs")
	if _, told, code := b.run("device", "take-over"); code != ExitOK || !strings.Contains(told, "wrote the drive until now") || !strings.Contains(told, "aside") {
		t.Errorf("taking over says %d, %s", code, told)
	}
	b.mount()
	if got := b.sh("cat x/y/file"); got != "second\n" {
		t.Errorf("after taking over the file says %q", got)
	}
	b.sh("echo third > x/y/file; sync -f x")
	b.ok("sync", "--durability", "ipfs")
	if !b.devices()[request.Device].Writes {
		t.Errorf("who writes: %+v", b.devices())
	}
	a.sh("echo lost > x/lost")
	if _, problem, code := a.run("sync", "--durability", "ipfs"); code == ExitOK {
		t.Error("the device that was relieved went on", problem)
	}
	if s := a.status(); s.State != "read-only" || len(s.Alerts) == 0 {
		t.Errorf("relieved: %+v", s)
	}
	lost := func(when string) {
		t.Helper()
		dir := a.path("exported " + when)
		var all []daemon.Aside
		if a.json(&all, "aside", "list"); len(all) != 1 || all[0].Changes == 0 {
			t.Fatalf("%s: set aside: %+v", when, all)
		}
		if out := a.ok("aside", "show"); !strings.Contains(out, "x/lost") {
			t.Errorf("%s: aside show: %s", when, out)
		}
		a.ok("aside", "export", dir)
		if got := a.readFile(filepath.Join(dir, "files", "x", "lost")); got != "lost\n" {
			t.Errorf("%s: exported: %q", when, got)
		}
		a.fails(ExitUsage, "aside", "export", dir) // it is not empty
	}
	lost("while it is mounted")
	a.says(ExitBusy, "unmount", "aside", "discard")
	a.run("umount", a.mnt)
	lost("unmounted")
	a.mount()
	lost("mounted again")
	if s := a.status(); !slices.ContainsFunc(s.Alerts, func(x string) bool { return strings.Contains(x, "ipfscloud aside") }) {
		t.Errorf("no alert: %+v", s)
	}
	if got := a.sh("cat x/y/file"); got != "third\n" {
		t.Errorf("the first device sees %q", got)
	}
	a.umount()
	b.umount()
	// And back.
	a.ok("device", "take-over")
	a.mount()
	a.sh("echo fourth > x/y/file; sync -f x")
	a.umount()
	b.mount()
	if got := b.sh("cat x/y/file"); got != "fourth\n" {
		t.Errorf("and back: the file says %q", got)
	}
	if s := b.status(); s.State != "read-only" {
		t.Errorf("%+v", s)
	}
	b.umount()
	// What could not be committed is not lost, until its owner says so.
	lost("after it took over again")
	a.ok("aside", "discard")
	a.fails(ExitNotFound, "aside", "discard")
	a.mount()
	if s := a.status(); slices.ContainsFunc(s.Alerts, func(x string) bool { return strings.Contains(x, "aside") }) {
		t.Errorf("discarded: %+v", s)
	}
	a.umount()
	if _, err := os.Stat(filepath.Join(b.home.Keystore, "did.jsonl")); err != nil || strings.Contains(b.readFile(filepath.Join(b.home.Keystore, "did.jsonl")), "\x00") {
		t.Error(err)
	}
}
