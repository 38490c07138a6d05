package fleet_test

import (
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

func TestUp(t *testing.T) {
	begun := time.Now()
	f := fleettest.Up(t, fleet.Config{Peers: 3})
	t.Log("up after", time.Since(begun))
	s := f.Status(t.Context())
	t.Logf("%+v", s)
	for _, n := range s.Nodes {
		if n.State != fleet.StateUp || n.Sees != 3 {
			t.Errorf("%+v", n)
		}
	}
}
