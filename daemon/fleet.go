package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
)

// Nodes of an Egress on this machine.
var (
	ErrNoFleet       = fleet.ErrNone
	ErrFleetBusy     = fleet.ErrBusy
	ErrFleetDown     = fleet.ErrNotRunning
	ErrFleetBinaries = fleet.ErrBinaries
	ErrFleetConfig   = fleet.ErrConfig
	ErrFleetStart    = fleet.ErrStart
)

// FleetStatus tells how the nodes of this machine are doing.
type FleetStatus = fleet.Status

// FleetParams is what a run of the nodes of this machine is given.
type FleetParams struct {
	Home  Home
	Peers int // nodes there are to be; 0 for those there are
	// Ready is called when each node sees all others.
	Ready func()
	// Stop asks for the end.
	Stop <-chan os.Signal
	Log  *slog.Logger
}

// RunFleet starts the nodes of this machine and watches over them until it is asked to
// stop, by a signal or by StopFleet.
func RunFleet(ctx context.Context, p FleetParams) error {
	binaries, err := fleet.FindBinaries()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-p.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	f, err := fleet.Up(ctx, fleet.Config{Dir: p.Home.Egress, Peers: p.Peers, Binaries: binaries, Log: p.Log})
	if err != nil {
		return err
	}
	p.Ready()
	return f.Run(ctx)
}

// StopFleet stops the nodes of this machine; ErrFleetDown if they do not run.
func StopFleet(ctx context.Context, h Home) error { return fleet.Shutdown(ctx, h.Egress) }

// ReadFleet tells how the nodes of this machine are doing; with ErrFleetDown, what there is.
func ReadFleet(ctx context.Context, h Home) (FleetStatus, error) {
	return fleet.ReadStatus(ctx, h.Egress)
}

// hasFleet tells whether this machine has nodes, running or not.
func hasFleet(h Home) (bool, error) {
	_, err := fleet.Load(h.Egress)
	if errors.Is(err, fleet.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the Egress of this machine: %w", err)
	}
	return true, nil
}
