package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
)

func TestRotateAndServices(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	pass := []string{"--passfile", d.path("pass")}
	id := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(d.ok(append(append([]string{"id"}, args...), pass...)...))
	}
	did := d.status().DID
	if v := id("rotate"); !strings.HasPrefix(v, "2-Qm") {
		t.Errorf("rotate prints %q", v)
	}
	d.says(ExitUsage, "--public", "id", "service", "add", "https://example.com/")
	d.says(ExitUsage, "https", append([]string{"id", "service", "add", "ftp://example.com/", "--public"}, pass...)...)
	d.says(ExitRefused, "passphrase", "id", "rotate", "--passfile", d.path("wrong"))
	if v := id("service", "add", "https://example.com/", "--public", "--type", "SignUp"); !strings.HasPrefix(v, "3-Qm") {
		t.Errorf("service add prints %q", v)
	}
	if doc := d.ok("id", "resolve", did); !strings.Contains(doc, "https://example.com/") || !strings.Contains(doc, "SignUp") {
		t.Errorf("the document has no service: %s", doc)
	}
	d.says(ExitNotFound, "no such service", append([]string{"id", "service", "remove", "https://example.org/"}, pass...)...)
	id("service", "remove", "https://example.com/")
	if doc := d.ok("id", "resolve", did); strings.Contains(doc, "SignUp") {
		t.Errorf("the document still has the service: %s", doc)
	}
	// The mounted drive's next commit carries the newest log, and the phrase finds it there.
	d.sh("echo x > x; sync -f x")
	d.ok("sync", "--durability", "ipfs")
	d.umount()
	d.ok("logout")
	other := newHome(t)
	other.copyRepo(d)
	// The phrase's device has other keys since: it lets nobody in.
	if problem, code := other.problem("init", "--passfile", other.path("pass"), "--phrase-in", d.path("phrase")); code != ExitRefused || !strings.Contains(problem, "ipfscloud recover") {
		t.Errorf("a phrase whose device has other keys: exit %d: %s", code, problem)
	}
	if r := other.recover("--phrase-in", d.path("phrase")); auth.SelfCertifying(r.DID) != auth.SelfCertifying(did) || !strings.HasPrefix(r.Version, "5-") {
		t.Errorf("the commit carried a version before %s", r.Version)
	}
	// A log that was set back is refused.
	log := filepath.Join(d.home.Keystore, "did.jsonl")
	lines := strings.SplitAfter(d.readFile(log), "\n")
	d.login()
	d.ok("logout")
	d.write(log, lines[0])
	d.says(ExitIntegrity, "rolled back", append([]string{"login"}, pass...)...)
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	d.says(ExitIntegrity, "missing", append([]string{"login"}, pass...)...)
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	key := strings.TrimSpace(d.ok("init", "--did", "key", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase")))
	if !strings.HasPrefix(key, "did:key:z6Mk") {
		t.Fatalf("init --did key prints %q", key)
	}
	pass := []string{"--passfile", d.path("pass")}
	d.says(ExitUsage, "migrate", append([]string{"id", "rotate"}, pass...)...)
	d.login()
	migrate := append([]string{"id", "migrate", "--phrase-in", d.path("phrase")}, pass...)
	d.says(ExitBusy, "logout", migrate...)
	d.mount()
	d.sh("mkdir a; echo old > a/file")
	d.umount()
	d.ok("logout")
	var got struct{ DID, From, Statement string }
	if err := json.Unmarshal([]byte(d.ok(append(migrate, "--json")...)), &got); err != nil || got.From != key || !strings.HasPrefix(got.DID, "did:webvh:") {
		t.Fatalf("%+v, %v", got, err)
	}
	if doc := d.ok("id", "resolve", got.DID); !strings.Contains(doc, key) {
		t.Errorf("the new document does not name the did:key: %s", doc)
	}
	if shown := d.ok("id", "show", "--json"); !strings.Contains(shown, got.Statement) || got.Statement == "" {
		t.Errorf("id show: %s", shown)
	}
	d.login()
	d.mount()
	if s := d.status(); s.DID != got.DID || len(s.Alerts) > 0 {
		t.Errorf("%+v", s)
	}
	if d.sh("cat a/file") != "old\n" {
		t.Error("the file is lost")
	}
	d.sh("echo new > a/new")
	d.umount()
	d.ok("logout")
	// Again: nothing is left to do.
	if err := json.Unmarshal([]byte(d.ok(append(migrate, "--json")...)), &got); err != nil || got.From != key {
		t.Errorf("%+v, %v", got, err)
	}
	// The same phrase finds the new identity.
	other := newHome(t)
	other.copyRepo(d)
	other.ok("init", "--passfile", other.path("pass"), "--phrase-in", d.path("phrase"))
	other.login()
	other.mount()
	if s := other.status(); s.DID != got.DID || other.sh("cat a/new") != "new\n" {
		t.Errorf("%+v", s)
	}
	other.umount()
	other.ok("logout")
}

// A DID is given up by its phrase, for good: nobody logs in with it, nor recovers it.
func TestDeactivate(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	d.sh("echo x > file")
	did := d.status().DID
	give := []string{"id", "deactivate", "--passfile", d.path("pass"), "--phrase-in", d.path("phrase")}
	d.says(ExitBusy, "logout", append(give, "--yes")...)
	d.umount()
	d.ok("logout")
	d.says(ExitUsage, "--yes", give...)
	other := newHome(t)
	other.init()
	d.says(ExitUsage, "another phrase", "id", "deactivate", "--yes", "--passfile", d.path("pass"), "--phrase-in", other.path("phrase"))
	d.says(ExitRefused, "passphrase", "id", "deactivate", "--yes", "--passfile", d.path("wrong"), "--phrase-in", d.path("phrase"))
	if v := strings.TrimSpace(d.ok(append(give, "--yes")...)); !strings.HasPrefix(v, "2-Qm") {
		t.Errorf("deactivate prints %q", v)
	}
	var got struct {
		Document json.RawMessage            `json:"didDocument"`
		Metadata struct{ Deactivated bool } `json:"didDocumentMetadata"`
	}
	if err := json.Unmarshal([]byte(d.ok("id", "resolve", did)), &got); err != nil || string(got.Document) != "null" || !got.Metadata.Deactivated {
		t.Errorf("it resolves to %+v, %v", got, err)
	}
	for _, args := range [][]string{{"login"}, {"mount", d.mnt}, {"id", "rotate"}, {"id", "deactivate", "--yes", "--phrase-in", d.path("phrase")}} {
		d.says(ExitRefused, "deactivated", append(args, d.passfile()...)...)
	}
	// With the log as a file, as the web server of a domain would have it.
	d.ok("id", "publish", "--out", d.path("web"))
	bare := newHome(t)
	problem, code := bare.problem("recover", "--passfile", bare.path("pass"), "--phrase-out", bare.path("phrase"), "--phrase-in", d.path("phrase"),
		"--log", filepath.Join(d.dir, "web", ".well-known", "did.jsonl"))
	if code != ExitRefused || !strings.Contains(problem, "deactivated") {
		t.Errorf("recover: exit %d, %s", code, problem)
	}
	if fileThere(bare.path("phrase")) {
		t.Error("a recovery that was refused left a phrase behind")
	}
}
