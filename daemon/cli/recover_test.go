package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
)

// recovered is what `recover --json` prints.
type recovered struct {
	DID, Version, Device, Vault string
	Sequence                    uint64
	PhrasePending               bool `json:"phrase_pending"`
	Seconds                     float64
}

func (d *drive) recover(args ...string) (r recovered) {
	d.t.Helper()
	args = append([]string{"recover", "--json", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase")}, args...)
	if err := json.Unmarshal([]byte(d.ok(args...)), &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *drive) copyRepo(from *drive) {
	d.t.Helper()
	if err := os.CopyFS(d.home.IPFS, os.DirFS(from.home.IPFS)); err != nil {
		d.t.Fatal(err)
	}
}

// A bare machine has the phrase and a copy of the repo, and gets everything back.
func TestRecoverFromARepo(t *testing.T) {
	t.Parallel()
	lost := newDrive(t)
	lost.sh("mkdir -p a/b; echo secret > a/b/file; head -c 3000000 /dev/urandom > a/big")
	want := sums(t, lost.mnt)
	lost.umount()
	lost.mount()
	sequence, did := lost.status().Commit.Sequence, lost.status().DID
	lost.umount()
	lost.ok("logout")

	d := newHome(t)
	d.copyRepo(lost)
	phrase := []string{"--phrase-in", lost.path("phrase")}
	all := append([]string{"recover", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase")}, phrase...)
	// What is refused leaves nothing behind.
	d.write(d.path("other"), "zoo zoo\n")
	d.says(ExitUsage, "words", "recover", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase"), "--phrase-in", d.path("other"))
	if problem, code := d.problem(append(all, "--min-sequence", "100000")...); code != ExitIntegrity || !strings.Contains(problem, "100000") {
		t.Errorf("an old commit: exit %d, %s", code, problem)
	}
	if fileThere(d.path("phrase")) || fileThere(filepath.Join(d.home.Keystore, "identity.keystore")) {
		t.Error("a recovery that was refused left something behind")
	}

	begin := time.Now()
	r := d.recover(append(phrase, "--min-sequence", "1")...)
	t.Logf("recovered with the phrase and a repo in %v", time.Since(begin).Round(time.Millisecond))
	if auth.SelfCertifying(r.DID) != auth.SelfCertifying(did) || r.Sequence <= sequence || r.PhrasePending || !strings.HasPrefix(r.Version, "2-") || r.Seconds > 60 {
		t.Errorf("%+v, the DID was %s, the commit %d", r, did, sequence)
	}
	if a, b := d.read("phrase"), lost.read("phrase"); a == b || len(strings.Fields(a)) != 24 {
		t.Error("the phrase is not a new one")
	}
	d.login()
	d.mount()
	if got := sums(t, d.mnt); got != want {
		t.Errorf("recovered:\n%s\nwant:\n%s", got, want)
	}
	d.sh("echo more > more")
	d.umount()
	d.ok("logout")
	if problem := d.fails(1, "recover", "--passfile", d.path("pass"), "--phrase-out", d.path("more"), "--phrase-in", d.path("phrase")); !strings.Contains(problem, "exists") {
		t.Error(problem)
	}

	// The new phrase finds what it made; the old one does not find its way any more.
	again := newHome(t)
	again.copyRepo(d)
	again.ok("init", "--passfile", again.path("pass"), "--phrase-in", d.path("phrase"))
	again.login()
	again.mount()
	if got := again.status(); auth.SelfCertifying(got.DID) != auth.SelfCertifying(did) {
		t.Errorf("the new phrase gives %s", got.DID)
	}
	again.umount()
	again.ok("logout")
	third := newHome(t)
	third.copyRepo(d)
	problem, code := third.problem("recover", "--passfile", third.path("pass"), "--phrase-out", third.path("phrase"), "--phrase-in", lost.path("phrase"))
	t.Logf("the old phrase: exit %d, %s", code, problem)
	if code == ExitOK {
		t.Error("the old phrase recovered the identity again")
	}

	// The log of the new document reaches the lost device, with the log as a file too.
	if err := os.WriteFile(filepath.Join(lost.home.Keystore, "did.jsonl"), []byte(d.readFile(filepath.Join(d.home.Keystore, "did.jsonl"))), 0o600); err != nil {
		t.Fatal(err)
	}
	lost.says(ExitRefused, "not in the DID document", "login", "--passfile", lost.path("pass"))
}

func (d *drive) problem(args ...string) (string, int) {
	d.t.Helper()
	_, problem, code := d.run(args...)
	return problem, code
}

func (d *drive) read(name string) string { return d.readFile(d.path(name)) }

func (d *drive) readFile(path string) string {
	d.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// Two machines at one node: after the recovery on one, the other can neither log in nor
// commit anything, and nothing of what it still commits is accepted by the first.
func TestRecoverLocksOutTheLostDevice(t *testing.T) {
	t.Parallel()
	k := newKubo(t)
	k.start()
	lost := newHome(t)
	lost.write(lost.home.Config, "ipfs = \""+k.url()+"\"\n")
	lost.init()
	lost.login()
	lost.mount()
	lost.sh("echo before > file; sync -f file")
	lost.ok("sync", "--durability", "ipfs")
	before := lost.status()

	d := newHome(t)
	d.write(d.home.Config, "ipfs = \""+k.url()+"\"\n")
	begin := time.Now()
	r := d.recover("--phrase-in", lost.path("phrase"))
	t.Logf("recovered with the phrase and a node in %v", time.Since(begin).Round(time.Millisecond))
	if auth.SelfCertifying(r.DID) != auth.SelfCertifying(before.DID) || r.Sequence <= before.Commit.Sequence {
		t.Fatalf("%+v; before, %s at %d", r, before.DID, before.Commit.Sequence)
	}
	// The lost device is still mounted. It learns of the recovery from the node, and from then
	// on it stores nothing and says why.
	for begin := time.Now(); ; {
		_, _ = shell(lost.mnt, "for i in 1 2 3; do echo stolen$i > file; sync -f file; done; date >> thief")
		problem, code := lost.problem("sync", "--durability", "ipfs")
		if code == ExitRefused && strings.Contains(problem, "not in the DID document") {
			break
		}
		if code != ExitOK || time.Since(begin) > 2*time.Minute {
			t.Fatalf("the lost device after %v: exit %d: %s", time.Since(begin), code, problem)
		}
	}
	if s := lost.status(); s.LastError == "" && len(s.Alerts) == 0 {
		t.Errorf("nothing is said of the recovery: %+v", s)
	}
	d.login()
	d.mount()
	if got := d.sh("cat file"); got != "before\n" {
		t.Errorf("the file says %q", got)
	}
	if fileThere(d.on("thief")) {
		t.Error("what the lost device wrote later was accepted")
	}
	d.sh("echo mine > file; sync -f file")
	d.umount()
	d.mount()
	if got := d.sh("cat file"); got != "mine\n" {
		t.Errorf("after a remount the file says %q", got)
	}
	d.umount()
	d.ok("logout")
	if _, problem, code := lost.run("umount", lost.mnt); code != ExitOK {
		t.Log(problem)
	}
	lost.ok("logout")
	// Its own log says version 1; the commits of the other device have the newest.
	var got resolved
	if err := json.Unmarshal([]byte(lost.ok("id", "resolve", before.DID)), &got); err != nil || got.Metadata.VersionID != r.Version {
		t.Errorf("the lost device resolves version %s, want %s: %v", got.Metadata.VersionID, r.Version, err)
	}
	lost.says(ExitRefused, "not in the DID document", "login", "--passfile", lost.path("pass"))
	_ = lost.fails(ExitRefused, "mount", "--passfile", lost.path("pass"), lost.mnt)
}
