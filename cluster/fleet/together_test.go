package fleet_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// TestStartTogether has a node connect to another one whose cluster peer listens and cannot
// fetch yet, as happens when both start at the same time. The pin set must reach that one
// all the same: it has no other way to what it is told to fetch.
func TestStartTogether(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Peers: 2})
	first, second, a := f.Nodes()[0], f.Nodes()[1], newAPI(t, f.Info())
	for _, n := range f.Nodes() {
		must(t, n.Stop(t.Context()))
	}
	opened := holdStart(t, second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- second.Start(ctx) }() // ends with ctx
	within(t, 30*time.Second, "the second one listens", func() error {
		part := strings.Split(second.ClusterAddrs()[0], "/") // /ip4/HOST/tcp/PORT/p2p/ID
		c, err := net.Dial("tcp", net.JoinHostPort(part[2], part[4]))
		if err == nil {
			err = c.Close()
		}
		return err
	})
	// It answers when it has tried to connect to those it knows.
	must(t, first.Start(t.Context()))
	opened()
	must(t, <-started)
	for _, n := range f.Nodes() {
		within(t, time.Minute, n.Name()+" sees the other", func() error { return isUp(t, f, n, 2) })
	}
	cid := add(t, first)
	a.pin(t, first, cid, 2)
	a.waitHeld(t, first, cid, 2, 30*time.Second, "pinned twice")
}

// holdStart holds a cluster peer, when it is started next, between the moment from which
// others reach it and the one at which it can fetch the pin set from them, until what is
// returned is called: it opens its log of requests there, and that is a pipe.
func holdStart(t *testing.T, n *fleet.Node) func() {
	t.Helper()
	dir := filepath.Join(n.Dir(), "cluster")
	pipe := filepath.Join(dir, "requests")
	must(t, unix.Mkfifo(pipe, 0o600))
	editService(t, n, func(doc map[string]any) {
		doc["api"].(map[string]any)["restapi"].(map[string]any)["http_log_file"] = pipe
	})
	return func() {
		r, err := os.OpenFile(pipe, os.O_RDWR|unix.O_NONBLOCK, 0) // to read, and never to wait for who writes
		must(t, err)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, r) // ends when r is closed
		}()
		t.Cleanup(func() {
			_ = r.Close()
			<-drained
		})
	}
}

// editService changes the settings of a cluster peer that is not running.
func editService(t *testing.T, n *fleet.Node, change func(map[string]any)) {
	t.Helper()
	name := filepath.Join(n.Dir(), "cluster", "service.json")
	b, err := os.ReadFile(name)
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(b, &doc))
	change(doc)
	b, err = json.Marshal(doc)
	must(t, err)
	must(t, os.WriteFile(name, b, 0o600))
}
