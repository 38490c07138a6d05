package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"log/slog"

	"github.com/cluster-labs/ipfscloud/auth"
)

// What is handed over with an approval depends on the rights: a device that only reads gets
// addresses of nodes, and nothing that opens the Egress's API or another machine's node.
func TestReadersGetNoCredential(t *testing.T) {
	const password, node = "s3cret-of-the-egress", "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, p, _ := r.BasicAuth(); p != password || r.URL.Path != "/peers" {
			http.Error(w, `{"code":401,"message":"no"}`, http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": node, "peername": "one", "version": "1.1.6", "cluster_peers": []string{node},
			"ipfs": map[string]any{"id": node, "addresses": []string{"/ip4/192.0.2.1/tcp/4001/p2p/" + node}}})
	}))
	defer server.Close()
	dir := t.TempDir()
	secret := filepath.Join(dir, "auth")
	if err := os.WriteFile(secret, []byte("basic:user:"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := Devices{Home: HomeAt(dir), Log: slog.New(slog.DiscardHandler), Config: Config{
		IPFS: "http://user:rpc-secret@192.0.2.1:5001", Egress: EgressConfig{URL: []string{server.URL}, AuthFile: secret},
	}}
	for name, c := range map[string]struct {
		grant    auth.Grant
		too      bool
		password bool
	}{
		"reader":                     {grant: auth.Grant{Scope: auth.ScopeRead}},
		"reader, as the owner wants": {grant: auth.Grant{Scope: auth.ScopeRead}, too: true, password: true},
		"until":                      {grant: auth.Grant{Scope: auth.ScopeWrite, Until: time.Now().Add(time.Hour)}, password: true},
		"full":                       {grant: auth.Grant{Scope: auth.ScopeFull}, password: true},
	} {
		ipfs, e, err := d.places(context.Background(), c.grant, c.too)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := json.Marshal(handedOver{IPFS: ipfs, Egress: e})
		if err != nil {
			t.Fatal(err)
		}
		if got := e != nil && strings.Contains(string(e.Auth), password); got != c.password {
			t.Errorf("%s: the password is handed over: %t", name, got)
		}
		if !c.password {
			for _, s := range []string{"auth", server.URL, "rpc-secret", "5001"} {
				if strings.Contains(string(b), s) {
					t.Errorf("%s: %s is in %s", name, s, b)
				}
			}
			if e == nil || !strings.Contains(strings.Join(e.Peers, " "), "192.0.2.1/tcp/4001") {
				t.Errorf("%s: nothing to read from in %s", name, b)
			}
		}
	}
}
