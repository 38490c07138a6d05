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
	ErrFleetToken    = fleet.ErrToken
)

// FleetStatus tells how the nodes of this machine are doing.
type FleetStatus = fleet.Status

// FleetParams is what a run of the nodes of this machine is given.
type FleetParams struct {
	Home  Home
	Peers int // nodes there are to be; 0 for those there are
	Place FleetPlace
	// Ready is called when each node sees all others.
	Ready func()
	// Stop asks for the end.
	Stop <-chan os.Signal
	Log  *slog.Logger
}

// FleetPlace is where nodes are reached; zero values keep what there is, or are loopback.
type FleetPlace struct {
	Listen    string // address of the nodes' traffic among each other
	Announce  string // at which others reach that, if it differs
	APIListen string // address of the REST API
	Name      string // of a node that joins
	Storage   uint64 // bytes a node offers
}

func (l *FleetPlace) config(h Home, peers int, b fleet.Binaries, log *slog.Logger) fleet.Config {
	return fleet.Config{Dir: h.Egress, Peers: peers, Binaries: b, Listen: l.Listen, Announce: l.Announce,
		APIListen: l.APIListen, Storage: l.Storage, Log: log}
}

// FleetToken is what a node on another machine joins the nodes of this one with. It holds
// their secret.
func FleetToken(h Home) (string, error) {
	t, err := fleet.MakeToken(h.Egress)
	if err != nil {
		return "", err
	}
	return t.Encode()
}

// ChangeFleetPassword gives the nodes of this machine a new password for their API, and returns
// what an --auth-file holds for it. They must not run: ErrFleetBusy.
func ChangeFleetPassword(h Home) (string, error) {
	user, password, err := fleet.ChangePassword(h.Egress)
	if err != nil {
		return "", err
	}
	return "basic:" + user + ":" + password, nil
}

// JoinFleet makes a node here that belongs to the nodes a token is of; RunFleet starts it.
// It returns the node's id.
func JoinFleet(ctx context.Context, h Home, token string, l FleetPlace) (string, error) {
	binaries, err := fleet.FindBinaries()
	if err != nil {
		return "", err
	}
	c := l.config(h, 0, binaries, nil)
	c.Name = l.Name
	if err := fleet.Join(ctx, token, c); err != nil {
		return "", err
	}
	info, err := fleet.Load(h.Egress)
	if err != nil {
		return "", err
	}
	return info.Endpoints[0].Peer, nil
}

// TrustFleet lets the changes of nodes elsewhere, by their ids, count for those here.
func TrustFleet(ctx context.Context, h Home, ids []string) error {
	return fleet.Trust(ctx, h.Egress, ids...)
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
	f, err := fleet.Up(ctx, p.Place.config(p.Home, p.Peers, binaries, p.Log))
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
