package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// newKeeper starts a real Kubo that keeps the records of a network on loopback, and
// returns its address.
func newKeeper(t *testing.T) (*kubo, string) {
	t.Helper()
	k := newKubo(t)
	for key, value := range map[string]string{
		"Addresses.Swarm": `["/ip4/127.0.0.1/tcp/0"]`, "Routing.Type": `"dhtserver"`, "Routing.LoopbackAddressesOnLanDHT": "true",
		"Routing.DelegatedRouters": "[]", "Ipns.DelegatedPublishers": "[]", "Bootstrap": "[]", "DNS.Resolvers": "{}",
		"AutoConf.Enabled": "false", "Discovery.MDNS.Enabled": "false", "AutoTLS.Enabled": "false",
	} {
		k.output(k.program, "config", "--json", key, value)
	}
	k.online = true
	k.start()
	var id struct{ Addresses []string }
	if err := json.Unmarshal(k.output(k.program, "id"), &id); err != nil || len(id.Addresses) == 0 {
		t.Fatalf("the node listens nowhere: %v", err)
	}
	return k, id.Addresses[0]
}

// entersBy lets the embedded node of a home join the network of a keeper, and no request
// reach the web.
func (d *drive) entersBy(address string) {
	d.t.Helper()
	d.env = append(d.env, "HTTPS_PROXY=http://127.0.0.1:9")
	d.write(d.home.Config, fmt.Sprintf("[network]\npublic = true\nbootstrap = [%q]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n", address))
}

// publication waits until a version is published, after a time.
func (d *drive) publication(version string, after time.Time) daemon.Publication {
	d.t.Helper()
	for end := time.Now().Add(3 * longest); ; time.Sleep(200 * time.Millisecond) {
		var shown struct{ Published daemon.Publication }
		if err := json.Unmarshal([]byte(d.ok("id", "show", "--json")), &shown); err != nil {
			d.t.Fatal(err)
		}
		if p := shown.Published; strings.HasPrefix(p.Version, version) && p.Time.After(after) {
			return p
		}
		if time.Now().After(end) {
			d.t.Fatalf("published is %+v", shown.Published)
		}
	}
}

// versionOf resolves a DID until it has a version, for the nodes have to meet.
func (d *drive) versionOf(did, prefix string) {
	d.t.Helper()
	var got resolved
	for end := time.Now().Add(3 * longest); ; time.Sleep(200 * time.Millisecond) {
		out, problem, code := d.run("id", "resolve", did)
		if code == 0 && json.Unmarshal([]byte(out), &got) == nil && strings.HasPrefix(got.Metadata.VersionID, prefix) {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("version %s…, got %q: %s", prefix, got.Metadata.VersionID, problem)
		}
	}
}

// The log of an identity goes to IPNS when its owner says so, and not before; it is found
// there by who knows the DID alone, and by its owner's phrase on a machine that has nothing.
func TestPublishUnderAnIPNSName(t *testing.T) {
	t.Parallel()
	keeper, address := newKeeper(t)
	d := newHome(t)
	d.init()
	pass := []string{"--passfile", d.path("pass")}
	d.says(ExitUsage, "public = true", append([]string{"id", "publish"}, pass...)...)
	d.entersBy(address)
	d.login()
	d.mount()
	did := d.status().DID
	name := strings.Split(did, ":")[3]
	name, _, _ = strings.Cut(name, ".")

	other := newHome(t)
	other.entersBy(address)
	other.init()
	other.login()
	other.mount()
	if out, _, code := other.run("id", "resolve", did); code == 0 {
		t.Fatalf("it is found before it is published: %s", out)
	}

	if url := strings.TrimSpace(d.ok("id", "publish")); url != "https://"+name+".ipns.dweb.link/.well-known/did.jsonl" {
		t.Errorf("id publish prints %q", url)
	}
	var shown struct{ Published daemon.Publication }
	if err := json.Unmarshal([]byte(d.ok("id", "show", "--json")), &shown); err != nil || shown.Published.Name != name || !strings.HasPrefix(shown.Published.Version, "1-") {
		t.Errorf("id show: %+v, %v", shown.Published, err)
	}
	if left := time.Until(shown.Published.Until); left < 47*time.Hour || left > 48*time.Hour {
		t.Errorf("the record is good for %v", left)
	}
	// Any node of the network has it, as the gateway would.
	if out := keeper.output(keeper.program, "cat", "/ipns/"+name+"/.well-known/did.jsonl"); !bytes.Equal(out, []byte(d.readFile(filepath.Join(d.home.Keystore, "did.jsonl")))) {
		t.Errorf("under the name lies %q", out)
	}
	other.versionOf(did, "1-")

	// While the drive is mounted, a newer version is published by itself, and so is a record
	// whose time is half over.
	d.ok(append([]string{"id", "rotate"}, pass...)...)
	other.versionOf(did, "2-")
	first := d.publication("2-", time.Time{})
	aged := first
	aged.Time = first.Time.Add(-13 * time.Hour)
	b, err := json.Marshal(aged)
	if err != nil {
		t.Fatal(err)
	}
	d.write(filepath.Join(d.home.State, "published.json"), string(b))
	if again := d.publication("2-", aged.Time); !again.Until.After(first.Until) {
		t.Errorf("renewed, the record is good until %v, before until %v", again.Until, first.Until)
	}

	// A machine that has nothing: the phrase finds the log by the name.
	bare := newHome(t)
	bare.entersBy(address)
	out, problem, code := bare.run("recover", "--json", "--phrase-in", d.path("phrase"), "--phrase-out", bare.path("phrase"), "--passfile", bare.path("pass"))
	var got struct {
		DID, Version string
		Seconds      float64
	}
	if code != 0 || json.Unmarshal([]byte(out), &got) != nil || auth.SelfCertifying(got.DID) != auth.SelfCertifying(did) || !strings.HasPrefix(got.Version, "3-") {
		t.Fatalf("recover: exit %d: %s%s", code, out, problem)
	}
	t.Logf("recovered from the IPNS name alone in %.1f s", got.Seconds)
	bare.says(ExitNotFound, "mount", "id", "publish")
	bare.login()
	bare.mount()
	bare.ok("id", "publish")
	other.versionOf(did, "3-")
	// The lost device learns of it as soon as it publishes, and is refused.
	d.says(ExitRefused, "not in the DID document", "id", "publish")

	// Without the network what was seen stays known.
	keeper.kill()
	other.umount()
	other.versionOf(did, "3-")
	d.ok("id", "publish", "--stop")
	if err := json.Unmarshal([]byte(d.ok("id", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.home.State, "published.json")); !os.IsNotExist(err) {
		t.Errorf("--stop leaves %v", err)
	}
}

// A domain of the owner's: the DID moves there, and the files for its web server hold.
func TestPublishAtADomain(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.env = append(d.env, "HTTPS_PROXY=http://127.0.0.1:9")
	d.init()
	pass := []string{"--passfile", d.path("pass")}
	was := strings.TrimSpace(strings.TrimPrefix(strings.Split(d.ok("id", "show"), "\n")[0], "did:   "))
	d.says(ExitUsage, "--out", append([]string{"id", "publish", "--domain", "example.com:ada"}, pass...)...)
	move := append([]string{"id", "publish", "--domain", "example.com:ada", "--out", d.path("web")}, pass...)
	d.login()
	d.says(ExitBusy, "logout", move...)
	d.ok("logout")
	id := strings.TrimSpace(d.ok(move...))
	if !strings.HasSuffix(id, ":example.com:ada") || strings.Split(id, ":")[2] != strings.Split(was, ":")[2] {
		t.Fatalf("%s has become %s", was, id)
	}
	log := filepath.Join(d.dir, "web", "ada", "did.jsonl")
	if doc := d.ok("id", "resolve", id, "--log", log); !strings.Contains(doc, was) {
		t.Errorf("the new document does not name %s: %s", was, doc)
	}
	if again := strings.TrimSpace(d.ok(move...)); again != id || strings.Count(d.readFile(log), "\n") != 2 {
		t.Errorf("again it moves: %s", again)
	}
	d.login()
	d.mount()
	if got := d.status().DID; got != id {
		t.Errorf("mounted by %s", got)
	}
	d.says(ExitUsage, "--out", "id", "publish")
}
