package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const ipfsID = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"

func TestWhatAClusterMayName(t *testing.T) {
	const public, private, here = "/ip4/1.2.3.4/tcp/4001", "/ip4/10.0.0.7/tcp/4001", "/ip4/127.0.0.1/tcp/4001"
	for _, c := range []struct {
		endpoints []string
		want      []string
	}{
		{[]string{"https://1.2.3.4:9094"}, []string{public}},
		{[]string{"https://egress.example"}, []string{public}}, // not connected yet
		{[]string{"http://192.168.1.2:9094"}, []string{public, private}},
		{[]string{"http://100.64.1.2:9094"}, []string{public, private}},
		{[]string{"http://[fd00::1]:9094"}, []string{public, private}},
		{[]string{"http://127.0.0.1:9094"}, []string{public, private, here}},
		{[]string{"http://localhost:9094"}, []string{public, private, here}},
		{[]string{"unix:///run/api.sock"}, []string{public, private, here}},
		{[]string{"https://1.2.3.4:9094", "http://10.1.1.1:9094"}, []string{public, private}},
	} {
		client := newTestClient(t, Config{Endpoints: c.endpoints})
		var want []string
		for _, a := range c.want {
			want = append(want, a+"/p2p/"+ipfsID)
		}
		want = append(want, "/p2p/"+ipfsID)
		if got := client.reachable(ipfsID, []string{public, private, here}); !slices.Equal(got, want) {
			t.Errorf("%v: %q", c.endpoints, got)
		}
	}
}

// The endpoint is as near as anything gets, and still some things are never dialled.
func TestUnusableAddressesOfPeers(t *testing.T) {
	client := newTestClient(t, Config{Endpoints: []string{"http://127.0.0.1:9094"}})
	good := "/dns4/peer.example/tcp/4001/p2p/" + ipfsID
	addrs := []string{
		"/ip4/127.0.0.1/tcp/3/newproto/x/p2p/" + ipfsID, "/quantum/1", "nonsense", "", "/",
		"/ip4/169.254.169.254/tcp/80", "/ip6/fe80::1/tcp/80", "/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001",
		"/ip4/224.0.0.1/tcp/4001", "/ip4/255.255.255.255/tcp/4001", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/65536",
		"/ip4/127.0.0.1/udp/4001/quic-v1", "/ip4/1.2.3.4/tcp/4001/p2p/12D3KooWOther/p2p-circuit/p2p/" + ipfsID,
		"/ip4/1.2.3.4/tcp/4001/p2p/12D3KooWOther", "/ip4/::1/tcp/4001", "/ip6/1.2.3.4/tcp/4001", "/dns4//tcp/4001",
		"/ip4/1.2.3.4/tcp/4001\x1b[31m", "/dns4/" + strings.Repeat("a", 1000) + "/tcp/1", good, good,
	}
	if got := client.reachable(ipfsID, addrs); !slices.Equal(got, []string{good, "/p2p/" + ipfsID}) {
		t.Errorf("%q", got)
	}
	if got := client.reachable("", addrs); got != nil {
		t.Errorf("of a peer without an ID: %q", got)
	}
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("/ip4/1.2.3.4/tcp/%d", i+1)
	}
	if got := client.reachable(ipfsID, many); len(got) != maxAddrs+1 {
		t.Errorf("%d addresses of one peer", len(got))
	}
}

// A DNS name is as near as the address that it turns out to have.
func TestReachOfANamedEndpoint(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"version":"1.1.6"}`) //nolint:errcheck // the client may be gone
	}))
	defer s.Close()
	client := newTestClient(t, Config{Endpoints: []string{s.URL}})
	at := client.endpoints[0].place
	at.fixed, at.proxy = scopeNone, nil // as of https://egress.example
	if client.names(netip.MustParseAddr("127.0.0.1")) {
		t.Error("before it is known where the endpoint is")
	}
	if _, err := client.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !client.names(netip.MustParseAddr("127.0.0.1")) {
		t.Error("the endpoint is on this machine")
	}
	at.seen.Store(0)
	at.proxy = func() bool { return true }
	client.Close()
	if _, err := client.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if client.names(netip.MustParseAddr("127.0.0.1")) {
		t.Error("what is on this machine is a proxy")
	}
}

// On this machine, a cluster may name what its own user serves, and not another's services.
func TestReachOnThisMachine(t *testing.T) {
	listen := func() (net.Listener, netip.AddrPort) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() }) //nolint:errcheck // the test is over
		return l, l.Addr().(*net.TCPAddr).AddrPort()
	}
	_, api := listen()
	_, swarm := listen()
	closed, gone := listen()
	closed.Close() //nolint:errcheck // as above
	client := newTestClient(t, Config{Endpoints: []string{"http://" + api.String()}})
	for _, c := range []struct {
		addr netip.AddrPort
		want bool
	}{{swarm, true}, {api, false}, {gone, false}, {netip.MustParseAddrPort("1.2.3.4:4001"), true}, {netip.AddrPort{}, false}} {
		if got := client.Reach(c.addr); got != c.want {
			t.Errorf("%v: %v", c.addr, got)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("to listen as another user wants root")
	}
	var other netip.AddrPort
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its user
		if err := setThreadUID(65534); err != nil {
			t.Error(err)
			return
		}
		_, other = listen()
	}()
	if <-done; !t.Failed() && client.Reach(other) {
		t.Error("a service of another user")
	}
}

// A stream that never ends costs little memory and ends in an error.
func TestEndlessPinsAreBounded(t *testing.T) {
	pin, err := json.Marshal(wirePin{CID: testCID(1), Metadata: map[string]string{OwnerKey: "me", "pad": strings.Repeat("A", 1000)}})
	if err != nil {
		t.Fatal(err)
	}
	chunk := strings.Repeat(string(pin)+"\n", 200)
	s := httptest.NewServer(endless(chunk, 0))
	defer s.Close()
	client := newTestClient(t, Config{Endpoints: []string{s.URL}})
	begun := time.Now()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found, err := client.Find(t.Context(), OwnerKey, "me")
	runtime.ReadMemStats(&after)
	if err == nil || found != nil {
		t.Errorf("%d pins, %v", len(found), err)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 200<<20 {
		t.Errorf("it took %d MiB", grown>>20)
	}
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("it took %v", d)
	}
}
