package cli

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
)

// domain is a real web server of example.com with TLS, which programs reach by that name: a
// proxy brings all names to it.
type domain struct {
	dir string   // what it serves
	env []string // of programs that are to find it
	web *httptest.Server

	mu    sync.Mutex
	names []string // that were asked for
}

func newDomain(t *testing.T) *domain {
	t.Helper()
	d := &domain{dir: t.TempDir()}
	d.web = httptest.NewTLSServer(http.FileServer(http.Dir(d.dir)))
	t.Cleanup(d.web.Close)
	proxy := httptest.NewServer(http.HandlerFunc(d.connect))
	t.Cleanup(proxy.Close)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	d.env = []string{"SSL_CERT_FILE=" + root, "HTTPS_PROXY=" + proxy.URL}
	return d
}

// connect joins a client with the web server, whatever name it asks for.
func (d *domain) connect(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.names = append(d.names, r.Host)
	d.mu.Unlock()
	there, err := net.Dial("tcp", d.web.Listener.Addr().String())
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { defer there.Close(); io.Copy(there, here) }()
	go func() { defer here.Close(); io.Copy(here, there) }()
}

func (d *domain) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.names)
}

// at is a home whose programs find the domain.
func (d *domain) at(t *testing.T) *drive {
	t.Helper()
	h := newHome(t)
	h.env = append(h.env, d.env...)
	return h
}

// A DID at a domain of its owner's is resolved over HTTPS by who knows nothing but the DID, an
// older log is refused from then on, and the domain, or its file, is enough for the phrase.
func TestResolveOverHTTPS(t *testing.T) {
	t.Parallel()
	web := newDomain(t)
	owner, other := newHome(t), web.at(t)
	owner.init()
	var first struct{ DID string }
	if err := json.Unmarshal([]byte(owner.ok("id", "show", "--json")), &first); err != nil {
		t.Fatal(err)
	}
	publish := append([]string{"id", "publish", "--domain", "example.com:ada", "--out", web.dir}, owner.passfile()...)
	id := strings.TrimSpace(owner.ok(publish...))
	log := filepath.Join(web.dir, "ada", "did.jsonl")
	version := func() string {
		t.Helper()
		var got resolved
		if err := json.Unmarshal([]byte(other.ok("id", "resolve", id)), &got); err != nil {
			t.Fatal(err)
		}
		v, _, _ := strings.Cut(got.Metadata.VersionID, "-")
		return v
	}
	if v := version(); v != "2" {
		t.Errorf("version %s", v)
	}
	older := other.readFile(log)
	owner.ok(append([]string{"id", "rotate"}, owner.passfile()...)...)
	owner.ok(publish...)
	if v := version(); v != "3" {
		t.Errorf("changed, version %s", v)
	}
	newest := other.readFile(log)
	other.write(log, older)
	if v := version(); v != "3" {
		t.Errorf("with an older log on the server, version %s", v)
	}
	other.write(log, strings.Replace(newest, "Multikey", "Multikez", 1))
	if v := version(); v != "3" {
		t.Errorf("with an altered log on the server, version %s", v)
	}
	// Who has not seen it before is told why it fails, by its name.
	stranger := web.at(t)
	stranger.says(ExitIntegrity, "invalidDid", "id", "resolve", id)
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	stranger.says(ExitNotFound, "notFound", "id", "resolve", id)
	if v := version(); v != "3" {
		t.Errorf("without a log on the server, version %s", v)
	}
	// What is no DID asks nobody.
	before := web.asked()
	scid := strings.Split(id, ":")[2]
	for _, place := range []string{"127.0.0.1", "127.0.0.1%3A8080", "%5B::1%5D", "example.com:..:ada", "example.com:%2e%2e:ada", "example.com:a%2Fb", "localhost", "example.com#key"} {
		stranger.says(ExitUsage, "invalidDid", "id", "resolve", "did:webvh:"+scid+":"+place)
	}
	if n := web.asked() - before; n > 0 {
		t.Errorf("%d requests for what is no DID: %q", n, web.names)
	}

	// Recovery: by the domain alone, and by the file alone. A domain that the owner does not
	// name might be a thief's, and the DID moves back.
	other.write(log, newest)
	for i, place := range [][]string{{"--domain", "example.com:ada"}, {"--log", log}} {
		bare, wanted := newHome(t), func(did string) bool { // the name of the new phrase's key
			return auth.SelfCertifying(did) == auth.SelfCertifying(first.DID) && strings.HasSuffix(did, ".ipns.dweb.link") && did != first.DID
		}
		if i == 0 {
			bare, wanted = web.at(t), func(did string) bool { return did == id }
		}
		if r := bare.recover(append(place, "--phrase-in", owner.path("phrase"))...); !wanted(r.DID) || !strings.HasPrefix(r.Version, "4-") || r.Vault != "" {
			t.Errorf("%v: %+v, of %s", place, r, first.DID)
		}
	}
}
