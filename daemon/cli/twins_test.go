package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// pinLog sees every pin that a cluster ever had.
type pinLog struct {
	t      *testing.T
	client *cluster.Client

	mu    sync.Mutex
	now   map[string]bool
	heads map[string]map[string]bool // CIDs by device and sequence, as drives said of their newest commits
}

func watchPins(t *testing.T, f *fleet.Fleet) *pinLog {
	t.Helper()
	info := f.Info()
	c, err := cluster.NewClient(cluster.Config{Endpoints: f.Endpoints(), CAFile: info.CAFile, User: info.Username, Password: info.Password})
	if err != nil {
		t.Fatal(err)
	}
	p := &pinLog{t: t, client: c, heads: map[string]map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			p.look(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; c.Close() })
	return p
}

func (p *pinLog) look(ctx context.Context) {
	found, err := p.client.Find(ctx, "", "")
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = map[string]bool{}
	for _, x := range found {
		p.now[x.CID] = true
	}
}

// note enters the newest commit of a drive. What a pin says of itself may be the number of
// the commit that it was made an update of.
func (p *pinLog) note(d *drive) {
	p.t.Helper()
	w, c := d.whoami(), d.status().Commit
	p.mu.Lock()
	defer p.mu.Unlock()
	key := fmt.Sprintf("%s/%d", w.Device, c.Sequence)
	if p.heads[key] == nil {
		p.heads[key] = map[string]bool{}
	}
	p.heads[key][c.CID] = true
}

// has wants pins to be in the set now.
func (p *pinLog) has(what string, cids ...string) {
	p.t.Helper()
	p.look(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cids {
		if !p.now[c] {
			p.t.Errorf("%s: the pin %s is gone", what, c)
		}
	}
}

// once wants no number of a device to have been signed for two commits.
func (p *pinLog) once() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, cids := range p.heads {
		if len(cids) > 1 {
			p.t.Errorf("number %s was signed for %v", key, slices.Collect(maps.Keys(cids)))
		}
	}
}

// lookOften makes a drive look for other machines' commits each second.
func (d *drive) lookOften() { d.env = append(d.env, "IPFSCLOUD_EGRESS_CHECK_EVERY=1s") }

// copyHome copies a home as a whole, as a backup does.
func copyHome(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// stored writes a file and waits until it is said to be on two other machines.
func (d *drive) stored(p *pinLog, name string) {
	d.t.Helper()
	defer p.note(d)
	d.sh(`echo "$1" > "$1"`, name)
	d.ok("sync", "--durability", "egress:2")
}

const noticed = 30 * time.Second

// told waits until a drive has become read-only because of another machine, and says so.
func (d *drive) told() (last daemon.Status) {
	d.t.Helper()
	d.awaitStatus("it is told of the other machine", noticed, func(s *daemon.Status) bool {
		last = *s
		return s.State == "read-only" && len(s.Alerts) > 0
	})
	return last
}

// halted is told, by a machine with the same device: then it is not sure that what it has is
// what a restore finds.
func (d *drive) halted() daemon.Status {
	d.t.Helper()
	last := d.told()
	if s := last.Safe; s == nil || strings.Contains(s.Sentence, "Everything is stored") {
		d.t.Errorf("a drive beside another machine's says %+v", s)
	}
	return last
}

// A home is put back from a backup while Egress has what it made since: nothing of that
// goes, and it is taken over. Without Egress at the start the newer state is found later,
// nothing is unpinned, and what was written meanwhile is kept.
func TestBackupPutBack(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 2})
	pins := watchPins(t, f)
	bad := newBadAPI(t, f.Endpoints())
	d := newHome(t)
	d.lookOften()
	d.init()
	d.use(f, bad.urls()...)
	d.login()
	d.mount()
	d.stored(pins, "one")
	backup := t.TempDir()
	putBack := func() {
		t.Helper()
		entries, err := os.ReadDir(d.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "mnt" {
				if err := os.RemoveAll(d.path(e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		copyHome(t, backup, d.dir)
	}
	d.umount()
	d.ok("logout")
	copyHome(t, d.dir, backup)
	d.login()
	d.mount()
	d.stored(pins, "two")
	d.umount()
	d.mount()
	d.stored(pins, "three")
	newest := d.status().Commit
	d.umount()
	d.ok("logout")

	putBack()
	d.login()
	d.mount()
	if s := d.status(); s.State != "mounted" || s.Commit.Sequence < newest.Sequence || len(s.Alerts) > 0 {
		t.Errorf("mounted from a backup: %+v", s)
	}
	if got := d.sh("cat one two three"); got != "one\ntwo\nthree\n" {
		t.Errorf("mounted from a backup, the drive has %q", got)
	}
	d.stored(pins, "four")
	later := d.status().Commit
	d.umount()
	d.ok("logout")

	// Egress is away at the start.
	putBack()
	bad.set(apiHangs)
	d.login()
	d.mount()
	d.sh("echo own > own")
	d.ok("sync", "--durability", "ipfs")
	own := d.status().Commit
	pins.note(d)
	bad.set(apiWell)
	s := d.halted()
	if !strings.Contains(strings.Join(s.Alerts, " "), "two machines write as the same device") {
		t.Errorf("it says %q", s.Alerts)
	}
	if _, err := shell(d.mnt, "echo more > more"); err == nil {
		t.Error("it takes changes still")
	}
	if got := d.sh("cat own"); got != "own\n" {
		t.Errorf("its own file has %q", got)
	}
	d.awaitStatus("its own commit is pinned too", time.Minute, func(s *daemon.Status) bool { return s.Egress.Copies == 2 })
	pins.has("after the backup was mounted without Egress", later.CID, own.CID)
	d.run("umount", d.mnt)

	// The owner decides: it goes on from what Egress has, and what it had is a snapshot.
	d.ok("device", "take-over")
	d.mount()
	if got := d.sh("cat one two three four; ls"); !strings.HasPrefix(got, "one\ntwo\nthree\nfour\n") || strings.Contains(got, "own") {
		t.Errorf("after taking over the drive has %q", got)
	}
	d.stored(pins, "five")
	if s := d.status(); s.State != "mounted" || strings.Contains(strings.Join(s.Alerts, " "), "two machines") {
		t.Errorf("after taking over: %+v", s)
	}
	pins.has("after taking over", own.CID, d.status().Commit.CID)
	list := d.ok("snapshot", "list")
	if !strings.Contains(list, "before taking over") {
		t.Errorf("snapshots: %s", list)
	}
	d.umount()
	pins.once()
}

// A home is copied as a whole, and both are mounted: both are told, and neither says that
// something is stored that a restore would not find.
func TestCopiedHome(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 2})
	pins := watchPins(t, f)
	a := newHome(t)
	a.lookOften()
	a.init()
	a.use(f)
	a.login()
	a.mount()
	a.stored(pins, "before")
	a.umount()
	a.ok("logout")
	b := newHome(t)
	b.lookOften()
	copyHome(t, a.dir, b.dir)
	a.login()
	a.mount()
	a.stored(pins, "a1")
	b.login()
	b.mount()
	if got := b.sh("cat before a1"); got != "before\na1\n" { // it comes after what it has
		t.Errorf("the copy has %q", got)
	}
	b.sh("echo b1 > b1")
	b.ok("sync", "--durability", "ipfs")
	a.halted()
	pins.note(b)
	_, _ = shell(a.mnt, "echo a2 > a2")
	if _, _, code := a.run("sync", "--durability", "egress:2"); code == ExitOK {
		t.Error("the first machine says that something is stored beside the copy's commits")
	}
	if got := a.sh("cat before a1"); got != "before\na1\n" {
		t.Errorf("the first machine has %q", got)
	}
	b.run("sync", "--durability", "egress:2")
	if got := b.sh("cat before a1 b1"); got != "before\na1\nb1\n" { // what the first one had stored is in its line
		t.Errorf("the copy has %q", got)
	}
	pins.has("the newest commit of both", b.status().Commit.CID)
	b.umount()
	a.run("umount", a.mnt)
	pins.once()
}

// The phrase is entered on a second computer while the first is in use: they are two
// devices, one of which writes, and whatever was said to be stored is there after a restore.
func TestPhraseOnSecondComputer(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 2})
	pins := watchPins(t, f)
	for _, method := range []string{"webvh", "key"} {
		t.Run(method, func(t *testing.T) {
			a := newHome(t)
			a.lookOften()
			a.ok(append([]string{"init", "--did", method, "--passfile", a.path("pass"), "--phrase-out", a.path("phrase")}, lightKDF...)...)
			a.use(f)
			a.login()
			a.mount()
			a.stored(pins, "first")
			enter := func() *drive {
				t.Helper()
				b := newHome(t)
				b.lookOften()
				b.write(b.path("phrase"), a.readFile(a.path("phrase")))
				b.use(f)
				args := []string{"init", "--did", method, "--passfile", b.path("pass"), "--phrase-in", b.path("phrase")}
				b.ok(append(args, lightKDF...)...)
				b.login()
				b.mount()
				return b
			}
			b := enter()
			if x, y := a.whoami().Device, b.whoami().Device; x == y {
				t.Fatalf("both computers are device %s", x)
			}
			if s := b.status(); s.State != "mounted" || b.sh("cat first") != "first\n" {
				t.Errorf("the second computer: %+v", s)
			}
			said := []string{"first"}
			for _, x := range []struct {
				d    *drive
				name string
			}{{b, "b1"}, {a, "a1"}, {b, "b2"}, {a, "a2"}} {
				if _, err := shell(x.d.mnt, `echo "$1" > "$1"`, x.name); err != nil {
					continue
				}
				if _, _, code := x.d.run("sync", "--durability", "egress:2"); code == ExitOK {
					pins.note(x.d)
					said = append(said, x.name)
				}
			}
			if !slices.Contains(said, "b2") {
				t.Errorf("the second computer does not write: stored are %v", said)
			}
			a.told()
			a.run("umount", a.mnt)
			b.umount()
			c := enter()
			for _, name := range said {
				if got := c.sh(`cat "$1"`, name); got != name+"\n" {
					t.Errorf("%s was stored, and a restore has %q", name, got)
				}
			}
			c.umount()
		})
	}
	pins.once()
}
