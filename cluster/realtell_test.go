package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// TestRealPeerIsTold has a real node whom no change of the pin set reaches. It makes its
// copies all the same: it is told itself.
func TestRealPeerIsTold(t *testing.T) {
	t.Parallel() // it waits more than it works
	f := fleettest.Up(t, fleet.Config{Peers: 2, TLS: true})
	first, second, log := f.Nodes()[0], f.Nodes()[1], newLog(t)
	must(t, second.Stop(t.Context()))
	cutOff(t, second)
	must(t, second.Start(t.Context()))
	k, err := cluster.NewKeeper(clientOf(t, f.Info()), cluster.Policy{Min: 2, Max: 2}, keeperConfig(t, log))
	must(t, err)
	run(t, k)
	state := func() any { return fmt.Sprintf("%+v\n%+v", k.Pins(), k.Summary()) }
	cid := add(t, first, 100<<10)
	k.Want([]cluster.Want{{CID: cid, Name: "v/1", Newest: true}})
	within(t, time.Minute, "it says what is wrong", func() bool {
		p, _ := k.Pin(cid)
		return strings.Contains(p.Reason, "node2 has not heard of the pin")
	}, state)
	within(t, time.Minute, "two copies", func() bool {
		p, _ := k.Pin(cid)
		return p.Copies == 2 && p.State == cluster.StateHeld
	}, state)
	if !log.did("tell", cid) || !has(t.Context(), second, cid) {
		t.Errorf("told: %v; the second node has it: %v", log.did("tell", cid), has(t.Context(), second, cid))
	}
	if s := k.Summary(); s.Error != "" {
		t.Errorf("%+v", s)
	}

	// What it was told goes by its own endpoint too.
	next := add(t, first, 100<<10)
	k.Want([]cluster.Want{{CID: next, Name: "v/2", Newest: true}})
	within(t, 2*time.Minute, "two copies of the next", func() bool {
		p, _ := k.Pin(next)
		return p.Copies == 2 && p.State == cluster.StateHeld
	}, state)
	within(t, time.Minute, "both nodes let go of the old one", func() bool {
		return !has(t.Context(), first, cid) && !has(t.Context(), second, cid)
	}, state)
}

// cutOff makes the cluster peer of a node that is not running listen for changes of the pin
// set where nobody tells of any. In all else it is a member.
func cutOff(t *testing.T, n *fleet.Node) {
	t.Helper()
	name := filepath.Join(n.Dir(), "cluster", "service.json")
	b, err := os.ReadFile(name)
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(b, &doc))
	crdt, ok := doc["consensus"].(map[string]any)["crdt"].(map[string]any)
	if !ok {
		t.Fatal("no settings of the pin set")
	}
	crdt["cluster_name"] = "another"
	b, err = json.Marshal(doc)
	must(t, errors.Join(err, os.WriteFile(name, b, 0o600)))
}
