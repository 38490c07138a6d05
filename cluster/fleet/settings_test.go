package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path, 1000)
	must(t, err)
	for i := range 100 {
		if n, err := l.Write(bytes.Repeat([]byte{byte('0' + i%10)}, 99)); n != 99 || err != nil {
			t.Fatal(n, err)
		}
	}
	must(t, l.close())
	for _, p := range []string{path, path + ".1"} {
		if i, err := os.Stat(p); err != nil || i.Size() > 1000 || i.Size() < 500 || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, i, err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || b[len(b)-1] != '9' {
		t.Errorf("the last line is lost: %v", err)
	}
	if n, err := l.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("a write to a closed log: %d, %v", n, err)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	if d := b.after(0); d != firstBackoff {
		t.Errorf("first %v", d)
	}
	var d time.Duration
	for range 20 {
		d = b.after(time.Second)
	}
	if d != lastBackoff {
		t.Errorf("after many crashes %v", d)
	}
	if d := b.after(2 * steadyAfter); d != firstBackoff {
		t.Errorf("after a steady time %v", d)
	}
}

// TestSettings checks what must never slip into a node's settings.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, repoDir), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, clusterDir), 0o700))
	kubo, peer := filepath.Join(dir, repoDir, "config"), filepath.Join(dir, clusterDir, "service.json")
	must(t, os.WriteFile(kubo, []byte(`{"Identity": {"PeerID": "kept", "PrivKey": "kept"}, "Bootstrap": ["auto"],
		"Addresses": {"Gateway": "/ip4/0.0.0.0/tcp/8080", "API": "/ip4/0.0.0.0/tcp/5001"},
		"Swarm": {"Kept": 12345678901234567890}, "Peering": {"Peers": [{"ID": "old"}]}}`), 0o600))
	must(t, os.WriteFile(peer, []byte(`{"cluster": {"secret": "old", "disable_repinning": true, "kept": 1},
		"api": {"ipfsproxy": {}, "pinsvcapi": {}, "restapi": {"ssl_cert_file": "old", "kept": 1}}}`), 0o600))
	timing := Wide()
	for range 2 { // the second time changes nothing
		must(t, settleRepo(dir, &kuboSettings{
			socket: "/run/x.sock", listen: "/ip4/0.0.0.0/tcp/4001", announce: "/dns/a.example/tcp/4001",
			storage: 5 << 40, peers: []kuboPeer{{ID: "other", Addrs: []string{"/ip4/192.0.2.1/tcp/4001"}}},
		}))
		must(t, settlePeer(dir, &peerSettings{
			name: "n", cluster: "c", secret: "s", listen: "/ip4/0.0.0.0/tcp/9096", announce: "/dns/a.example/tcp/9096",
			api: "/ip4/127.0.0.1/tcp/9094", socket: "/run/x.sock", credentials: &credentials{Username: "u", Password: "p"},
			group: "g", trusted: []string{"me"}, timing: &timing,
		}))
	}
	for path, want := range map[string][]string{
		kubo: {`"PrivKey": "kept"`, `"Kept": 12345678901234567890`, `"API": ["/unix/run/x.sock"]`, `"Gateway": []`,
			`"Bootstrap": []`, `"Type": "none"`, `"StorageMax": "5497558138880B"`, `"Announce": ["/dns/a.example/tcp/4001"]`,
			`"Peers": [{"ID": "other", "Addrs": ["/ip4/192.0.2.1/tcp/4001"]}]`, `"telemetry": {"Disabled": true}`},
		peer: {`"secret": "s"`, `"kept": 1`, `"disable_repinning": false`, `"trusted_peers": ["me"]`, `"u": "p"`,
			`"node_multiaddress": "/unix/run/x.sock"`, `"mdns_interval": "0s"`, `"tags": {"group": "g"}`},
	} {
		b, err := os.ReadFile(path)
		must(t, err)
		got := squeeze(t, b)
		for _, w := range want {
			if !strings.Contains(got, squeeze(t, []byte("{"+w+"}"))[1:len(squeeze(t, []byte("{"+w+"}")))-1]) {
				t.Errorf("%s lacks %s:\n%s", filepath.Base(path), w, b)
			}
		}
		for _, no := range []string{"8080", "5001", "auto\"", "old", "ipfsproxy", "pinsvcapi", "ssl_cert_file"} {
			if strings.Contains(got, no) {
				t.Errorf("%s still has %s", filepath.Base(path), no)
			}
		}
	}
	must(t, os.WriteFile(kubo, []byte("{"), 0o600))
	if err := settleRepo(dir, &kuboSettings{}); err == nil {
		t.Error("a broken config was taken for one")
	}
}

func squeeze(t *testing.T, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	must(t, json.Compact(&out, b))
	return out.String()
}

func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := certificate(dir, []string{"127.0.0.1", "localhost"})
	must(t, err)
	first, err := os.ReadFile(cert)
	must(t, err)
	if i, err := os.Stat(key); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", i, err)
	}
	for _, host := range []string{"127.0.0.1", "a.example"} {
		same := host == "127.0.0.1" // which the first one names too
		_, _, err = certificate(dir, []string{host})
		must(t, err)
		now, err := os.ReadFile(cert)
		must(t, err)
		if bytes.Equal(first, now) != same {
			t.Errorf("%s: the same certificate: %v", host, !same)
		}
		first = now
	}
}

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	taken, err := strconv.Atoi(port)
	must(t, err)
	at := place{Listen: "127.0.0.1", APIListen: "127.0.0.1"}

	var h holder
	p := Ports{Swarm: taken}
	must(t, h.settle(&p, &at, false))
	if p.Swarm == taken || p.Cluster == 0 || p.API == 0 || p.Cluster == p.API {
		t.Errorf("%+v, with %d taken", p, taken)
	}
	if p.free(&at) {
		t.Error("ports that are held are free")
	}
	must(t, h.release())
	if !p.free(&at) {
		t.Error("ports that were released are not free")
	}
	p.Swarm = taken
	if err := h.settle(&p, &at, true); !errors.Is(err, ErrConfig) || p.Swarm != taken {
		t.Errorf("a fixed port that is taken: %v", err)
	}
	must(t, h.release())
}

func TestAddresses(t *testing.T) {
	for host, want := range map[string]string{
		"192.0.2.1": "/ip4/192.0.2.1/tcp/1", "2001:db8::1": "/ip6/2001:db8::1/tcp/1", "a.example": "/dns/a.example/tcp/1",
	} {
		if got := tcp(host, 1); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
	for name, ok := range map[string]bool{
		"a": true, "a-1": true, "": false, "-a": false, "a-": false, "a/b": false, "..": false, "ä": false,
		strings.Repeat("a", 33): false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

// TestRealNode has the settings of a machine of its own, which a test must not listen on.
func TestRealNode(t *testing.T) {
	s := newState(defaultCluster)
	must(t, s.apply(&Config{Peers: 1, Listen: "0.0.0.0", Announce: "a.example", APIListen: "0.0.0.0", Group: "attic"}))
	if s.Place.loopback() || s.Timing != Wide() || !s.TLS || s.Group != "attic" {
		t.Errorf("%+v", s)
	}
	s.Nodes = []nodeState{{Name: "n", Peer: "p", IPFS: "i", Ports: realPorts()}}
	i := s.info("/x", &credentials{})
	if e := i.Endpoints[0]; e.URL != "https://127.0.0.1:9094" || e.IPFSAddrs[0] != "/dns/a.example/tcp/4001/p2p/i" ||
		e.ClusterAddrs[0] != "/dns/a.example/tcp/9096/p2p/p" || i.CAFile == "" {
		t.Errorf("%+v", i)
	}
	if s.token(&credentials{}).Local() {
		t.Error("a token with a public name is local")
	}
	// What is not said stays as it is.
	must(t, s.apply(&Config{}))
	if s.Place.Announce != "a.example" || s.Timing != Wide() {
		t.Errorf("%+v", s)
	}
	if err := s.apply(&Config{Peers: 1, Listen: "127.0.0.1"}); err != nil || !s.Place.loopback() || s.Place.Announce != "127.0.0.1" {
		t.Errorf("moved to loopback: %+v, %v", s.Place, err)
	}
}
