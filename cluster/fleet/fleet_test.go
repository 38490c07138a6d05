package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// TestFaults has three nodes keep a DAG while they are killed, emptied and taken away.
func TestFaults(t *testing.T) {
	t.Parallel() // it waits more than it works
	begun := time.Now()
	timing := fleet.Local()
	timing.Recover, timing.PinStall = 3*time.Second, 4*time.Second
	f := fleettest.Up(t, fleet.Config{Peers: 3, Timing: &timing})
	t.Logf("three nodes made and up: after %.1f s", time.Since(begun).Seconds())
	for _, n := range f.Nodes() {
		must(t, isUp(t, f, n, 3))
	}
	nodes, a := f.Nodes(), newAPI(t, f.Info())
	cid := add(t, nodes[0])
	if p := a.pin(t, nodes[0], cid, 2); len(p.Allocations) != 2 {
		t.Errorf("allocated to %v", p.Allocations)
	}
	held := a.waitHeld(t, nodes[0], cid, 2, 30*time.Second, "pinned twice")
	for _, id := range held {
		if !hasPin(t.Context(), byPeer(t, f, id), cid) {
			t.Errorf("%s says it holds the DAG, its Kubo does not", id)
		}
	}

	t.Run("kill -9 and restart", func(t *testing.T) {
		n := byPeer(t, f, held[0])
		ipfs, peer := n.PIDs()
		must(t, syscall.Kill(ipfs, syscall.SIGKILL))
		must(t, syscall.Kill(peer, syscall.SIGKILL))
		within(t, 30*time.Second, "restarted", func() error {
			if i, p := n.PIDs(); i == 0 || p == 0 || i == ipfs || p == peer {
				return errNotYet
			}
			return isUp(t, f, n, 3)
		})
		if !hasPin(t.Context(), n, cid) {
			t.Error("the copy did not outlive the kill")
		}
		for _, s := range f.Status(t.Context()).Nodes {
			if s.Name == n.Name() && (s.Kubo.Restarts != 1 || s.Service.Restarts != 1 || s.Kubo.LastExit == "") {
				t.Errorf("the status tells of no restart: %+v", s)
			}
		}
		must(t, n.Kill(t.Context()))
		within(t, 30*time.Second, "restarted once more", func() error { return isUp(t, f, n, 3) })
	})

	t.Run("wipe", func(t *testing.T) {
		n := byPeer(t, f, held[1])
		must(t, n.Wipe(t.Context()))
		within(t, time.Minute, "fetched again after a wipe", func() error {
			if !hasPin(t.Context(), n, cid) {
				return errNotYet
			}
			return nil
		})
		a.waitHeld(t, nodes[0], cid, 2, 30*time.Second, "reported again")
		must(t, n.WipeState(t.Context()))
		within(t, time.Minute, "the pin set learnt again", func() error {
			var p pin
			return a.call(http.MethodGet, n.API()+"/allocations/"+cid, &p)
		})
	})

	t.Run("gone and back", func(t *testing.T) {
		lost := byPeer(t, f, held[0])
		must(t, lost.Halt(t.Context()))
		var other *fleet.Node
		for _, n := range nodes {
			if n != lost {
				other = n
			}
		}
		within(t, time.Minute, "copied to the third node", func() error {
			h, _, err := a.held(other, cid)
			if err != nil {
				return err
			}
			for _, id := range h {
				if id == lost.Peer() {
					return fmt.Errorf("%w: the dead node still counts", errNotYet)
				}
			}
			if len(h) != 2 {
				return errNotYet
			}
			return nil
		})
		if i, p := lost.PIDs(); i != 0 || p != 0 {
			t.Errorf("a node that was halted runs again: %d, %d", i, p)
		}
		must(t, lost.Start(t.Context()))
		within(t, 30*time.Second, "all see each other again", func() error {
			var err error
			for _, n := range nodes {
				err = errors.Join(err, isUp(t, f, n, 3))
			}
			return err
		})
		within(t, time.Minute, "dropped where it is no longer wanted", func() error {
			if hasPin(t.Context(), lost, cid) {
				return errNotYet
			}
			return nil
		})
	})

	t.Run("what nobody has", func(t *testing.T) {
		// A valid CID of a block that does not exist.
		const nowhere = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
		a.pin(t, nodes[0], nowhere, 3)
		told := map[string]bool{}
		within(t, 2*time.Minute, "given up by all peers", func() error {
			var s pinStatus
			if err := a.call(http.MethodGet, nodes[0].API()+"/pins/"+nowhere, &s); err != nil {
				return err
			}
			for id, p := range s.PeerMap { // it is tried again, so they need not say so at once
				if p.Status == "pin_error" {
					told[id] = true
				}
			}
			if len(told) < len(nodes) {
				return fmt.Errorf("%w: %d of %d peers: %v", errNotYet, len(told), len(nodes), s.PeerMap)
			}
			return nil
		})
	})

	t.Run("an update to what nobody has", func(t *testing.T) {
		const nowhere = "bafkreidoxtawpk5cuokaagslq4terewosd67vz4cl2g6pfa7ud5pomwgqa"
		var p pin
		must(t, a.call(http.MethodPost, nodes[0].API()+"/pins/"+nowhere+"?pin-update="+cid, &p))
		told := map[string]string{}
		within(t, 2*time.Minute, "given up by all that have what is updated", func() error {
			var s pinStatus
			if err := a.call(http.MethodGet, nodes[0].API()+"/pins/"+nowhere, &s); err != nil {
				return err
			}
			for id, st := range s.PeerMap { // it is tried again, so they need not say so at once
				if st.Status == "pin_error" {
					told[id] = st.Error
				}
			}
			if len(told) < len(p.Allocations) || len(told) == 0 {
				return errNotYet
			}
			return nil
		})
		for id, text := range told {
			if !strings.Contains(text, "no block came for "+(2*timing.PinStall).String()) {
				t.Errorf("%s: %s", id, text)
			}
		}
	})
	stopsClean(t, f)
}

func stopsClean(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	var pids []int
	for _, n := range f.Nodes() {
		i, p := n.PIDs()
		pids = append(pids, i, p)
	}
	begun := time.Now()
	must(t, f.Stop(t.Context()))
	t.Logf("stopped: after %.1f s", time.Since(begun).Seconds())
	for _, pid := range pids {
		if pid != 0 && alive(pid) {
			t.Errorf("process %d outlived the fleet", pid)
		}
	}
	if left := leftovers(t, f.Dir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAgain starts a fleet that was stopped, with a port taken in between, and lets it grow.
func TestAgain(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Dir: filepath.Join(t.TempDir(), "a space, ünd more"), Peers: 2})
	before, a := f.Info(), newAPI(t, f.Info())
	cid := add(t, f.Nodes()[0])
	a.pin(t, f.Nodes()[0], cid, 2)
	a.waitHeld(t, f.Nodes()[0], cid, 2, 30*time.Second, "pinned twice")
	if _, err := fleet.Up(t.Context(), fleet.Config{Dir: f.Dir(), Binaries: fleettest.Binaries(t)}); !errors.Is(err, fleet.ErrBusy) {
		t.Errorf("a second supervisor: %v", err)
	}
	private(t, f.Dir())

	s, err := fleet.ReadStatus(t.Context(), f.Dir())
	if err != nil || s.PID != os.Getpid() || len(s.Nodes) != 2 || s.Nodes[1].State != fleet.StateUp {
		t.Errorf("the socket tells %+v, %v", s, err)
	}
	ran := make(chan error, 1)
	go func() { ran <- f.Run(context.WithoutCancel(t.Context())) }()
	must(t, fleet.Shutdown(t.Context(), f.Dir()))
	must(t, <-ran)
	if left := leftovers(t, f.Dir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := fleet.Shutdown(t.Context(), f.Dir()); !errors.Is(err, fleet.ErrNotRunning) {
		t.Errorf("shut down twice: %v", err)
	}
	if s, err := fleet.ReadStatus(t.Context(), f.Dir()); !errors.Is(err, fleet.ErrNotRunning) || s.Nodes[0].State != fleet.StateStopped {
		t.Errorf("when it is stopped: %+v, %v", s, err)
	}
	down, err := fleet.Load(f.Dir())
	if err != nil || down.Running || down.PID != 0 || down.Password != before.Password {
		t.Errorf("loaded when it is stopped: %+v, %v", down, err)
	}

	taken := listen(t, before.Endpoints[0].URL)
	f = fleettest.Up(t, fleet.Config{Dir: f.Dir(), Peers: 3})
	must(t, taken.Close())
	after := f.Info()
	if len(after.Endpoints) != 3 || after.Endpoints[0].URL == before.Endpoints[0].URL || after.Endpoints[1].URL != before.Endpoints[1].URL {
		t.Errorf("ports: %v, before %v", after.Endpoints, before.Endpoints)
	}
	for i, e := range before.Endpoints {
		if after.Endpoints[i].Peer != e.Peer {
			t.Errorf("%s has a new identity", e.Node)
		}
	}
	a.waitHeld(t, f.Nodes()[2], cid, 2, 30*time.Second, "still held, says the new node")
	if _, err := fleet.Up(t.Context(), fleet.Config{Dir: f.Dir()}); !errors.Is(err, fleet.ErrBinaries) {
		t.Errorf("no programs: %v", err)
	}
	stopsClean(t, f)
}

// private checks that nobody else can read a file of a fleet, or come near one.
func private(t *testing.T, dir string) {
	t.Helper()
	if i, err := os.Stat(dir); err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", i.Mode(), err)
	}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Name() {
		case "fleet.json", "credentials.json", "fleet.sock", "service.json", "identity.json", "config", "key.pem":
			if i, err := d.Info(); err == nil && i.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v", path, i.Mode())
			}
		}
		return nil
	}))
}

// TestBroken starts a node whose cluster peer cannot start: that is said, soon, and
// nothing is left.
func TestBroken(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Peers: 1})
	identity := filepath.Join(f.Nodes()[0].Dir(), "cluster", "identity.json")
	must(t, f.Stop(t.Context()))
	good, err := os.ReadFile(identity)
	must(t, err)
	must(t, os.WriteFile(identity, []byte(`{"id": "none"}`), 0o600))
	c := fleet.Config{Dir: f.Dir(), Binaries: fleettest.Binaries(t)}
	begun := time.Now()
	_, err = fleet.Up(t.Context(), c)
	if !errors.Is(err, fleet.ErrStart) || time.Since(begun) > 30*time.Second {
		t.Errorf("a broken node, after %v: %v", time.Since(begun), err)
	}
	if left := leftovers(t, f.Dir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	must(t, os.WriteFile(identity, good, 0o600))
	f = fleettest.Up(t, c)
	must(t, isUp(t, f, f.Nodes()[0], 1))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, f.Run(ctx)) // which stops it
	if i, err := fleet.Load(f.Dir()); err != nil || i.Running {
		t.Errorf("after the end of Run: %+v, %v", i, err)
	}
}
