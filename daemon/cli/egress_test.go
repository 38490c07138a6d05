package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// withNodes lets the program find the programs of an Egress node.
func (d *drive) withNodes() {
	d.t.Helper()
	bin := filepath.Dir(fleettest.Binaries(d.t).IPFS)
	d.env = append(d.env, "PATH="+bin+":"+os.Getenv("PATH"))
}

// use points a home at a running fleet, as its owner does for one elsewhere.
func (d *drive) use(f *fleet.Fleet, urls ...string) {
	d.t.Helper()
	info := f.Info()
	secret := "basic:" + info.Username + ":" + info.Password + "\n"
	if err := os.WriteFile(d.path("egress-auth"), []byte(secret), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if len(urls) == 0 {
		urls = f.Endpoints()
	}
	d.choose(f, urls)
}

// useToken is use with a token in place of the password.
func (d *drive) useToken(f *fleet.Fleet) {
	d.t.Helper()
	info := f.Info()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, info.Endpoints[0].URL+"/token", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.SetBasicAuth(info.Username, info.Password)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}}
	defer transport.CloseIdleConnections()
	if info.CAFile != "" {
		pem, err := os.ReadFile(info.CAFile)
		if err != nil || !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			d.t.Fatal("the certificate: ", err)
		}
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	var made struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.Token == "" {
		d.t.Fatalf("no token: %s %v", resp.Status, err)
	}
	if err := os.WriteFile(d.path("egress-auth"), []byte("bearer:"+made.Token+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.choose(f, f.Endpoints())
}

func (d *drive) choose(f *fleet.Fleet, urls []string) {
	d.t.Helper()
	args := []string{"egress", "use", "--auth-file", d.path("egress-auth")}
	if ca := f.Info().CAFile; ca != "" {
		args = append(args, "--ca", ca)
	}
	if _, problem, code := d.run(append(args, urls...)...); code != ExitOK || !strings.Contains(problem, "It answers: ") {
		d.t.Fatalf("egress use: %d %s", code, problem)
	}
}

func (d *drive) pins() []daemon.Pin {
	d.t.Helper()
	var p []daemon.Pin
	if err := json.Unmarshal([]byte(d.ok("pins", "--json")), &p); err != nil {
		d.t.Fatal(err)
	}
	return p
}

// await waits for something that status shows, and returns how long it took.
func (d *drive) await(what string, longest time.Duration, ok func(*daemon.EgressStatus) bool) time.Duration {
	d.t.Helper()
	return d.awaitStatus(what, longest, func(s *daemon.Status) bool { return s.Egress != nil && ok(s.Egress) })
}

// awaitCopies waits until everything that was written is held by n of n peers.
func (d *drive) awaitCopies(what string, longest time.Duration, n int) time.Duration {
	d.t.Helper()
	return d.awaitStatus(what, longest, func(s *daemon.Status) bool {
		return s.Pending.Ops == 0 && s.Egress != nil && s.Egress.Copies == n && s.Egress.Target == n && s.Egress.State == "held" && s.Egress.Error == ""
	})
}

func (d *drive) awaitStatus(what string, longest time.Duration, ok func(*daemon.Status) bool) time.Duration {
	d.t.Helper()
	begin := time.Now()
	for {
		s := d.status()
		if ok(&s) {
			return time.Since(begin).Round(time.Millisecond)
		}
		if time.Since(begin) > longest {
			pins, _, _ := d.run("pins")
			d.t.Fatalf("%s: not within %v: %+v %+v\n%s%s", what, longest, s, s.Egress, pins, d.log())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// The whole of it with commands alone: nodes on this machine, copies that are counted,
// and a machine with nothing but the phrase and one URL that has everything back.
func TestEgressUpToRestore(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.withNodes()
	t.Cleanup(func() { d.run("egress", "down") })
	d.ok("egress", "up", "--peers", "3")
	if _, problem, code := d.run("egress", "up"); code != ExitBusy {
		t.Errorf("up twice: exit %d: %s", code, problem)
	}
	d.init()
	d.login()
	d.mount("--durability", "egress:2")
	d.sh(`mkdir -p a/b; seq 100000 > a/b/numbers; ln -s b a/link; head -c 3000000 /dev/urandom > a/large; touch empty
		dd if=/dev/zero of=synced bs=1k count=1 conv=fsync 2>/dev/null`)
	if s := d.status(); s.Egress == nil || s.Egress.Copies < 2 || s.Pending.Ops != 0 {
		t.Errorf("an fsync with egress:2 has returned, and status says %+v, %+v", s.Egress, s.Pending)
	}
	d.ok("sync", "--durability", "egress:3")
	if s := d.status().Egress; s.Copies != 3 || s.Target != 3 || s.State != "held" || s.Peers != 3 {
		t.Errorf("after a sync to three: %+v", s)
	}
	if got := strings.TrimSpace(d.sh(`getfattr --only-values -n user.ipfscloud.state a/large`)); got != "held:3/3" {
		t.Errorf("the state of a file is %q", got)
	}
	newest := d.status().Commit.CID
	for _, p := range d.pins() {
		if p.CID != newest || !p.Newest {
			continue
		}
		for _, x := range p.Peers {
			if !x.Held || x.Status != "pinned" {
				t.Errorf("%s: %+v", p.CID, x)
			}
		}
	}
	if problem := d.fails(ExitUsage, "sync", "--durability", "egress:4"); !strings.Contains(problem, "4 copies") {
		t.Errorf("more copies than there will be: %s", problem)
	}
	// A snapshot is kept beside what the drive becomes, here and by the peers.
	before := sums(t, d.mnt)
	d.ok("snapshot", "create", "before")
	d.fails(ExitUsage, "snapshot", "create", "before")
	d.fails(ExitUsage, "snapshot", "create", "a\nb")
	d.sh(`rm -r a; echo after > after`)
	d.ok("sync", "--durability", "egress:3")
	snapshot := func(d *drive) (all []daemon.Snapshot) {
		t.Helper()
		if err := json.Unmarshal([]byte(d.ok("snapshot", "list", "--json")), &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	d.awaitStatus("copies of the snapshot", time.Minute, func(*daemon.Status) bool {
		all := snapshot(d)
		return len(all) == 1 && all[0].Name == "before" && all[0].Copies == 3 && all[0].State == "held" && len(d.pins()) == 2
	})
	if out := d.ok("pins"); !strings.Contains(out, "(newest)") || !strings.Contains(out, "(snapshot before)") {
		t.Errorf("pins: %s", out)
	}
	if problem := d.fails(ExitUsage, "unpin", "--yes", snapshot(d)[0].CID); !strings.Contains(problem, "snapshot remove") {
		t.Errorf("unpinning a snapshot: %s", problem)
	}
	want := sums(t, d.mnt)
	sequence := d.status().Commit.Sequence
	d.umount()
	d.mount("--snapshot", "before")
	if got := sums(t, d.mnt); got != before || d.status().State != "read-only" {
		t.Errorf("mounted as the snapshot, the drive is\n%s\nwant\n%s\n%+v", got, before, d.status())
	}
	d.umount()
	d.fails(ExitNotFound, "mount", "-d", "--snapshot", "none", d.mnt)
	d.ok("logout")

	other := newHome(t)
	phrase, err := os.ReadFile(d.path("phrase"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other.path("phrase"), phrase, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := fleet.Load(d.home.Egress)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other.path("auth"), []byte("basic:"+info.Username+":"+info.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	// The writer's machine is gone: all but the nodes.
	if err := errors.Join(os.RemoveAll(d.home.IPFS), os.RemoveAll(d.home.State), os.RemoveAll(d.home.Journal)); err != nil {
		t.Fatal(err)
	}
	other.ok("init", "--passfile", other.path("pass"), "--phrase-in", other.path("phrase"))
	other.ok("egress", "use", info.Endpoints[1].URL, "--auth-file", other.path("auth"))
	other.login()
	begin := time.Now()
	other.mount()
	t.Logf("restored from one URL and the phrase, and mounted, in %v", time.Since(begin).Round(time.Millisecond))
	if s := other.status(); s.Commit.Sequence < sequence {
		t.Errorf("commit %d was found, %d was the newest", s.Commit.Sequence, sequence)
	}
	if got := sums(t, other.mnt); got != want {
		t.Errorf("restored:\n%s\nwant:\n%s", got, want)
	}
	// It is the writer now: what it writes is copied too.
	other.sh("echo more > more")
	other.ok("sync", "--durability", "egress:2")
	restored := snapshot(other)
	if len(restored) != 1 || restored[0].Sequence >= sequence || restored[0].Name == "before" { // names are told to nobody
		t.Fatalf("snapshots, restored: %+v", restored)
	}
	other.umount()
	other.mount("--snapshot", restored[0].Name)
	if got := sums(t, other.mnt); got != before {
		t.Errorf("the snapshot, restored:\n%s\nwant:\n%s", got, before)
	}
	other.umount()
	other.mount()
	other.ok("snapshot", "remove", restored[0].Name)
	other.fails(ExitNotFound, "snapshot", "remove", restored[0].Name)
	other.awaitStatus("the copies of the snapshot given up", time.Minute, func(*daemon.Status) bool {
		p := other.pins()
		return len(p) == 1 && p[0].Newest
	})
	other.umount()
}

// What happens to nodes is told as it is, within 30 seconds; nothing that was written is
// lost, and the copies are made again without a hand.
func TestEgressFaults(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Peers: 3})
	nodes := f.Nodes()
	d := newHome(t)
	d.init()
	bad := newBadAPI(t, f.Endpoints())
	d.use(f, bad.urls()...)
	d.login()
	d.mount()
	const truth, target = 30 * time.Second, 3 * time.Minute
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) {
		t.Helper()
		d.sh(`head -c 300000 /dev/urandom > "$1"; sync -f "$1"`, name)
	}
	write("first")
	d.awaitCopies("three copies", target, 3)
	ctx := t.Context()
	if s := d.status().Safe; s == nil || s.Level != "safe" || !strings.Contains(s.Sentence, "in 3 places") || !strings.Contains(s.Detail, "close this computer") {
		t.Errorf("is it safe to close the computer? %+v", s)
	}

	for _, answer := range []apiFault{apiHangs, apiGarbage} {
		bad.set(answer)
		t.Logf("%s: told after %v", answer, d.await("an API that is of no use", truth, func(s *daemon.EgressStatus) bool {
			safe := d.status().Safe // what copies there are stays known for a while
			return s.Error != "" && safe.Level != "safe" && !strings.Contains(safe.Detail, "close this computer at any time")
		}))
		write(string(answer)) // the drive goes on
		if got := d.sh(`getfattr --only-values -n user.ipfscloud.state "$1"`, string(answer)); strings.HasPrefix(got, "held") {
			t.Errorf("%s, and a new file is %q", answer, got)
		}
		bad.set(apiWell)
		t.Logf("%s no more: all copies after %v", answer, d.awaitCopies("copies after a bad API", target, 3))
	}

	must(nodes[2].Kill(ctx)) // and its supervisor starts it again
	write("after-kill")
	t.Log("a node killed, and started again by its supervisor: all copies after", d.awaitCopies("copies after a kill", target, 3))

	must(nodes[2].Stop(ctx))
	t.Log("a node stopped: told after", d.await("a node that is gone", truth, func(s *daemon.EgressStatus) bool { return s.Copies == 2 }))
	write("while-one-is-gone")
	d.ok("sync", "--durability", "egress:2")
	must(nodes[1].Stop(ctx))
	t.Log("two nodes stopped: told after", d.await("two nodes that are gone", truth,
		func(s *daemon.EgressStatus) bool { return s.Copies <= 1 && s.State != "held" }))
	if out, _, code := d.run("status"); code != ExitOK || !strings.Contains(out, "of 3 by Egress") {
		t.Errorf("status: %d %s", code, out)
	}
	must(nodes[1].Start(ctx))
	must(nodes[2].Start(ctx))
	t.Log("both started: all copies after", d.awaitCopies("copies after a start", target, 3))

	must(nodes[1].Wipe(ctx)) // its disk is new
	write("after-wipe")
	t.Log("a node's disk wiped: all copies after", d.awaitCopies("copies after a wipe", target, 3))

	must(nodes[0].Stop(ctx)) // the one whose API is asked first
	write("api-gone")
	d.ok("sync", "--durability", "egress:2")
	t.Log("the API's node stopped: told after", d.await("an API that is gone", truth,
		func(s *daemon.EgressStatus) bool { return s.Error == "" && s.Copies == 2 }))
	must(nodes[0].Start(ctx))
	t.Log("started: all copies after", d.awaitCopies("copies at the end", target, 3))
	want := sums(t, d.mnt)
	d.umount()
	d.mount()
	if got := sums(t, d.mnt); got != want {
		t.Errorf("after all of it:\n%s\nwant:\n%s", got, want)
	}
	d.umount()
}

// Without an Egress the commands say what to do.
func TestEgressRefusals(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	for _, args := range [][]string{{"pins"}, {"unpin", "--yes", "bafy"}, {"egress", "peers"}} {
		if problem := d.fails(ExitNotFound, args...); !strings.Contains(problem, "egress up") {
			t.Errorf("%v says %q", args, problem)
		}
	}
	d.fails(ExitNotFound, "egress", "use", "local")
	d.fails(ExitUsage, "egress", "use", "nonsense")
	d.fails(ExitUsage, "egress", "use", "http://127.0.0.1:1", "--ca", d.path("none"))
	d.fails(ExitUsage, "egress", "nonsense")
	d.fails(ExitUsage, "sync", "--durability", "egress:2") // there is none
	d.umount()
	// An Egress that is not there: the drive works, and status says so.
	d.says(ExitUnavailable, "--unchecked", "egress", "use", "http://127.0.0.1:1")
	d.fails(ExitNotFound, "egress", "peers") // nothing was kept
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"code":401,"message":"Unauthorized"}`))
	}))
	defer refusing.Close()
	d.write(d.path("old-password"), "basic:drive:changed since\n")
	d.says(ExitRefused, "credentials refused", "egress", "use", refusing.URL, "--auth-file", d.path("old-password"))
	d.fails(ExitNotFound, "egress", "peers")
	d.ok("egress", "use", "--unchecked", refusing.URL, "--auth-file", d.path("old-password"))
	d.says(ExitRefused, "--auth-file", "egress", "peers")
	d.mount()
	d.awaitStatus("the refusal", 30*time.Second, func(s *daemon.Status) bool {
		return s.Egress != nil && s.Egress.Refused && slices.ContainsFunc(s.Alerts, func(a string) bool { return strings.Contains(a, "refuses") })
	})
	if out := d.ok("status"); !strings.Contains(out, "refuses the password") {
		t.Errorf("status says %s", out)
	}
	d.says(ExitRefused, "credentials refused", "umount", "--flush", d.mnt)
	d.ok("umount", d.mnt)
	fresh := newHome(t)
	fresh.ok("egress", "use", "--unchecked", refusing.URL, "--auth-file", d.path("old-password"))
	fresh.says(ExitRefused, "credentials refused", "recover", "--phrase-in", d.path("phrase"), "--phrase-out", fresh.path("new phrase"), "--passfile", d.path("pass"))
	d.ok("egress", "use", "--unchecked", "http://127.0.0.1:1")
	if err := os.WriteFile(d.home.Config, []byte("deadline = \"3s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.mount()
	d.sh("echo x > x")
	d.ok("sync")
	d.await("an error", 30*time.Second, func(s *daemon.EgressStatus) bool { return s.Error != "" })
	d.fails(ExitUnavailable, "egress", "peers")
	// A flush wants copies, and says that there are none; the drive goes on.
	if problem := d.fails(ExitUnavailable, "umount", "--flush", d.mnt); !strings.Contains(problem, "0 of 2 copies") {
		t.Errorf("a flush without Egress says %q", problem)
	}
	d.sh("cat x")
	d.ok("umount", d.mnt)
	d.ok("egress", "use", "none")
	d.mount()
	if s := d.status().Egress; s != nil {
		t.Errorf("with none: %+v", s)
	}
	d.umount()
}
