package cluster_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// truthTime is how soon what a Keeper says must be true again.
const truthTime = 30 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within polls until a condition holds, and prints how long that took.
func within(t testing.TB, limit time.Duration, what string, ok func() bool, state func() any) {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > limit {
			t.Fatalf("%s: not within %v: %+v", what, limit, state())
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
	t.Logf("%s: after %.1f s", what, time.Since(begun).Seconds())
}

// rpc calls a node's Kubo.
func rpc(ctx context.Context, n *fleet.Node, path, contentType string, body io.Reader) ([]byte, error) {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.RPC())
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/v0/"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return b, err
}

// add puts some data into a node's Kubo, unpinned, and returns its CID.
func add(t testing.TB, n *fleet.Node, size int) string {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32()) //nolint:gosec // any bytes
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "file")
	must(t, err)
	_, err = part.Write(data)
	must(t, errors.Join(err, w.Close()))
	out, err := rpc(t.Context(), n, "add?pin=false&cid-version=1&quiet=true", w.FormDataContentType(), &body)
	must(t, err)
	var added struct{ Hash string }
	must(t, json.Unmarshal(out, &added))
	return added.Hash
}

// has asks a node's Kubo whether it has a CID pinned.
func has(ctx context.Context, n *fleet.Node, cid string) bool {
	_, err := rpc(ctx, n, "pin/ls?type=recursive&arg="+cid, "", nil)
	return err == nil
}

// actions records what a Keeper does.
type actions struct {
	slog.Handler
	mu   sync.Mutex
	done []string
}

func (a *actions) Handle(ctx context.Context, r slog.Record) error {
	var do, cid string
	r.Attrs(func(at slog.Attr) bool {
		switch at.Key {
		case "do":
			do = at.Value.String()
		case "cid":
			cid = at.Value.String()
		}
		return true
	})
	if do != "" {
		a.mu.Lock()
		a.done = append(a.done, do+" "+cid)
		a.mu.Unlock()
	}
	return a.Handler.Handle(ctx, r)
}

func (a *actions) did(do, cid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.done {
		if d == do+" "+cid {
			return true
		}
	}
	return false
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func newLog(t testing.TB) *actions {
	return &actions{Handler: slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})}
}

// run starts a Keeper and ends it with the test.
func run(t testing.TB, k *cluster.Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error("the keeper ended with ", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func clientOf(t testing.TB, i *fleet.Info, only ...int) *cluster.Client {
	t.Helper()
	c := cluster.Config{CAFile: i.CAFile, User: i.Username, Password: i.Password}
	for n, e := range i.Endpoints {
		if len(only) == 0 || n == only[0] {
			c.Endpoints = append(c.Endpoints, e.URL)
		}
	}
	client, err := cluster.NewClient(c)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

// soak says that a test may take long. Then the intervals are the defaults.
func soak() bool { return os.Getenv("IPFSCLOUD_SOAK") != "" }

func keeperConfig(t testing.TB, log *actions) cluster.KeeperConfig {
	c := cluster.KeeperConfig{
		Owner: "test", Log: slog.New(log), StateFile: filepath.Join(t.TempDir(), "pins.json"),
		DeadAfter: 5 * time.Second, PinEvery: time.Second,
	}
	if !soak() {
		c.WatchEvery, c.PeersEvery = 2*time.Second, 2*time.Second
	}
	return c
}

// TestFaults has a Keeper look after three real nodes while they are killed, emptied and
// frozen.
func TestFaults(t *testing.T) {
	begun := time.Now()
	f := fleettest.Up(t, fleet.Config{Peers: 3, TLS: true})
	t.Logf("three nodes made and up: after %.1f s", time.Since(begun).Seconds())
	t.Run("ways in", func(t *testing.T) { testWaysIn(t, f) })
	nodes, log := f.Nodes(), newLog(t)
	client := clientOf(t, f.Info())
	k, err := cluster.NewKeeper(client, cluster.Policy{Min: 2, Max: 3}, keeperConfig(t, log))
	must(t, err)
	run(t, k)
	waitFor := func(t *testing.T, cid string, n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		must(t, k.Wait(ctx, cid, n))
		t.Logf("%d copies: after %.2f s", n, time.Since(begun).Seconds())
	}
	old := add(t, nodes[0], 1<<20)
	k.Want([]cluster.Want{{CID: old, Name: "v/1", Metadata: map[string]string{"seq": "1"}, Newest: true}})
	waitFor(t, old, 3)
	for _, n := range nodes {
		if !has(t.Context(), n, old) {
			t.Errorf("%s counts as a copy, and its Kubo has none", n.Name())
		}
	}

	cid := add(t, nodes[0], 1<<20)
	k.Want([]cluster.Want{{
		CID: cid, Name: "v/2", Metadata: map[string]string{"seq": "2"}, Update: old, SmallChange: true, Newest: true,
	}})
	waitFor(t, cid, 3)
	if !log.did("update", cid) {
		t.Error("a small change was not pinned as an update")
	}
	within(t, truthTime, "the old pin is gone and the new one tells of itself", func() bool {
		all, err := client.Find(t.Context(), cluster.OwnerKey, "test")
		return err == nil && len(all) == 1 && all[0].CID == cid && all[0].Metadata["seq"] == "2" && all[0].Name == "v/2"
	}, func() any { return k.Pins() })

	state := func() any { p, _ := k.Pin(cid); return fmt.Sprintf("%+v\n%+v", p, k.Summary()) }
	copies := func(n int) func() bool {
		return func() bool { p, _ := k.Pin(cid); return p.Copies == n }
	}
	atTarget := func() bool {
		p, _ := k.Pin(cid)
		return p.State == cluster.StateHeld && p.Copies == 3 && p.Reason == ""
	}
	check := func(t *testing.T, fault func(), repair func()) {
		t.Helper()
		within(t, time.Minute, "on target before", atTarget, state)
		fault()
		within(t, truthTime, "it says that there are two copies", copies(2), state)
		p, _ := k.Pin(cid)
		t.Logf("it says: %s %d/%d: %s", p.State, p.Copies, p.Target, p.Reason)
		if repair != nil {
			repair()
		}
		within(t, 2*time.Minute, "on target again", atTarget, state)
	}
	t.Run("kill", func(t *testing.T) {
		check(t, func() { must(t, nodes[2].Halt(t.Context())) }, func() { must(t, nodes[2].Start(t.Context())) })
	})
	t.Run("wipe", func(t *testing.T) {
		check(t, func() { must(t, nodes[1].Wipe(t.Context())) }, nil)
		if !has(t.Context(), nodes[1], cid) {
			t.Error("the wiped node counts as a copy, and its Kubo has none")
		}
	})
	t.Run("the API hangs", func(t *testing.T) {
		at := nodes[0]
		for _, n := range nodes {
			if n.API() == k.Summary().Endpoint {
				at = n
			}
		}
		_, pid := at.PIDs()
		check(t, func() { must(t, syscall.Kill(pid, syscall.SIGSTOP)) }, func() {
			if s := k.Summary(); !s.Reachable || s.Endpoint == at.API() {
				t.Errorf("no other endpoint is used: %+v", s)
			}
			must(t, syscall.Kill(pid, syscall.SIGCONT))
		})
	})
	t.Run("Kubo hangs", func(t *testing.T) {
		if !soak() {
			t.Skip("it takes 15 seconds until peers give up on it: IPFSCLOUD_SOAK=1")
		}
		pid, _ := nodes[1].PIDs()
		check(t, func() { must(t, syscall.Kill(pid, syscall.SIGSTOP)) }, func() { must(t, syscall.Kill(pid, syscall.SIGCONT)) })
	})
	t.Run("the pin is lost", func(t *testing.T) {
		within(t, time.Minute, "on target before", atTarget, state)
		within(t, time.Minute, "the pin is so old that each peer must know it", func() bool {
			p, _ := k.Pin(cid)
			return time.Since(p.Created) > 16*time.Second
		}, state)
		must(t, client.Unpin(t.Context(), cid)) // behind the keeper's back
		within(t, truthTime, "it says that the pin is lost", func() bool { return !atTarget() }, state)
		within(t, time.Minute, "on target again", atTarget, state)
	})
	within(t, truthTime, "all peers are known well", func() bool {
		for _, p := range k.Peers() {
			if !p.Up || p.Version == "" || p.Pins != 1 || p.Held != 1 || p.Free <= 0 || len(p.IPFSAddrs) == 0 || len(p.Sees) != 2 {
				return false
			}
		}
		return len(k.Peers()) == 3
	}, func() any { return fmt.Sprintf("%+v", k.Peers()) })
}

// testWaysIn reaches real nodes in each way that there is.
func testWaysIn(t *testing.T, f *fleet.Fleet) {
	i := f.Info()
	basic := cluster.Config{CAFile: i.CAFile, User: i.Username, Password: i.Password, Endpoints: f.Endpoints()}
	ask := func(c cluster.Config) error {
		client, err := cluster.NewClient(c)
		must(t, err)
		defer client.Close()
		peers, err := client.Peers(t.Context())
		if err == nil && len(peers) != 3 {
			t.Errorf("%+v", peers)
		}
		return err
	}
	must(t, ask(basic))
	c := basic
	c.User, c.Password, c.Token = "", "", token(t, i)
	if err := ask(c); err != nil {
		t.Error("with a token: ", err)
	}
	c.Token += "x"
	if err := ask(c); !errors.Is(err, cluster.ErrRefused) {
		t.Error("with a wrong token: ", err)
	}
	c = basic
	c.Password += "x"
	if err := ask(c); !errors.Is(err, cluster.ErrRefused) {
		t.Error("with a wrong password: ", err)
	}
	c = basic
	c.CAFile = ""
	if err := ask(c); !errors.Is(err, cluster.ErrUnavailable) {
		t.Error("with an authority that nobody trusts: ", err)
	}
}

func httpClient(t testing.TB, i *fleet.Info) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(i.CAFile)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// token has a node make one.
func token(t testing.TB, i *fleet.Info) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.Endpoints[0].URL+"/token", nil)
	must(t, err)
	req.SetBasicAuth(i.Username, i.Password)
	resp, err := httpClient(t, i).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	var made struct{ Token string }
	must(t, json.NewDecoder(resp.Body).Decode(&made))
	if made.Token == "" {
		t.Fatal("no token: ", resp.Status)
	}
	return made.Token
}

// TestMove has copies made elsewhere when a node does not come back, and more of them when
// a node comes; without TLS, over a unix socket.
func TestMove(t *testing.T) {
	if !soak() {
		t.Skip("it takes a fleet of four: IPFSCLOUD_SOAK=1")
	}
	f := fleettest.Up(t, fleet.Config{Peers: 4})
	nodes, i, log := f.Nodes(), f.Info(), newLog(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	forward(t, path, strings.TrimPrefix(i.Endpoints[0].URL, "http://"))
	client, err := cluster.NewClient(cluster.Config{Endpoints: []string{"unix://" + path}, User: i.Username, Password: i.Password})
	must(t, err)
	defer client.Close()
	k, err := cluster.NewKeeper(client, cluster.Policy{Min: 2, Max: 3}, keeperConfig(t, log))
	must(t, err)
	run(t, k)
	var wants []cluster.Want
	for n := range 30 {
		wants = append(wants, cluster.Want{CID: add(t, nodes[0], 100<<10), Newest: n == 0})
	}
	k.Want(wants)
	held := func() bool {
		for _, p := range k.Pins() {
			if p.Copies != 3 || p.State != cluster.StateHeld {
				return false
			}
		}
		return len(k.Pins()) == len(wants)
	}
	state := func() any { return fmt.Sprintf("%+v\n%+v", k.Pins(), k.Summary()) }
	within(t, 3*time.Minute, "thirty pins held", held, state)
	must(t, nodes[3].Halt(t.Context()))
	within(t, truthTime, "all that it had say so", func() bool {
		for _, p := range k.Pins() {
			for _, peer := range p.Peers {
				if peer.ID == nodes[3].Peer() && peer.Held {
					return false
				}
			}
		}
		return true
	}, state)
	within(t, 5*time.Minute, "all copies made elsewhere", held, state)
	for _, p := range k.Pins() {
		for _, peer := range p.Peers {
			if peer.ID == nodes[3].Peer() {
				t.Errorf("%s is still allocated to the dead node", p.CID)
			}
		}
		for _, n := range nodes[:3] {
			if !has(t.Context(), n, p.CID) {
				t.Errorf("%s counts as a copy of %s, and its Kubo has none", n.Name(), p.CID)
			}
		}
	}
}

// forward lets a unix socket lead to a TCP port.
func forward(t testing.TB, path, to string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() { // ends when either side does
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
}
