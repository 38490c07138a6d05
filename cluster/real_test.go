package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

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
	t.Parallel() // it waits more than it works
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
		within(t, time.Minute, "on target before", atTarget, state)
		must(t, nodes[1].Wipe(t.Context()))
		// The node may have copied it again by itself before anybody asks.
		within(t, truthTime, "it says what is", func() bool {
			before := has(t.Context(), nodes[1], cid)
			p, _ := k.Pin(cid)
			for _, peer := range p.Peers {
				if peer.ID == nodes[1].Peer() && peer.Held == before {
					return before == has(t.Context(), nodes[1], cid)
				}
			}
			return false
		}, state)
		p, _ := k.Pin(cid)
		t.Logf("it says: %s %d/%d: %s", p.State, p.Copies, p.Target, p.Reason)
		within(t, 2*time.Minute, "on target again", func() bool {
			return has(t.Context(), nodes[1], cid) && atTarget()
		}, state)
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
	known := truthTime
	if soak() {
		known += time.Minute // so often it is asked who sees whom
	}
	within(t, known, "all peers are known well", func() bool {
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
	// The same over a unix socket, which knows no TLS: something in front of the API speaks it.
	overSocket := c
	path := filepath.Join(t.TempDir(), "api.sock")
	forward(t, path, strings.TrimPrefix(i.Endpoints[0].URL, "https://"), i.CAFile)
	overSocket.Endpoints, overSocket.CAFile = []string{"unix://" + path}, ""
	if err := ask(overSocket); err != nil {
		t.Error("over a unix socket: ", err)
	}
	// The first of several endpoints that works is used.
	several := basic
	several.Endpoints = append([]string{"https://127.0.0.1:1", "unix:///nowhere"}, f.Endpoints()[1:]...)
	if err := ask(several); err != nil {
		t.Error("with two endpoints that are not there: ", err)
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

// TestMove has copies made elsewhere when a node does not come back, and more of them when
// a node comes; without TLS, over a unix socket.
func TestMove(t *testing.T) {
	if !soak() {
		t.Skip("it takes a fleet of four: IPFSCLOUD_SOAK=1")
	}
	f := fleettest.Up(t, fleet.Config{Peers: 4})
	nodes, i, log := f.Nodes(), f.Info(), newLog(t)
	path := filepath.Join(t.TempDir(), "api.sock")
	forward(t, path, strings.TrimPrefix(i.Endpoints[0].URL, "http://"), "")
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
