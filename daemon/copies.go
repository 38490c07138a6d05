package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/daemon/horizon"
	"github.com/cluster-labs/ipfscloud/fs"
)

// EgressStatus is the part of Status about copies on other machines.
type EgressStatus struct {
	URL    string `json:"url"`
	Peers  int    `json:"peers"`  // that answer
	Copies int    `json:"copies"` // of the newest commit, as peers report them
	Target int    `json:"target"`
	// State of the newest commit: wanted, queued, copying, held, short, failed or lost; or
	// checking, if it is held and another machine may have written too, as far as is known.
	State string `json:"state"`
	// Refused: it answers, and does not take the password or token.
	Refused bool      `json:"refused,omitempty"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason,omitempty"`
	Error   string    `json:"error,omitempty"` // why Egress cannot be asked
	// Here: the peers run on this machine, for trying it out.
	Here bool `json:"here,omitempty"`
}

// Pin is a commit that Egress keeps, or is to keep.
type Pin struct {
	CID    string    `json:"cid"`
	Name   string    `json:"name"`
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Copies int       `json:"copies"`
	Target int       `json:"target"`
	Newest bool      `json:"newest"`
	// Snapshots are the names by which it is retained.
	Snapshots []string  `json:"snapshots,omitempty"`
	AsOf      time.Time `json:"as_of"`
	Peers     []PinPeer `json:"peers"`
	Created   time.Time `json:"created,omitzero"`
}

// PinPeer is what one peer reports of a pin.
type PinPeer struct {
	Name     string `json:"name"`
	ID       string `json:"id"`
	Status   string `json:"status"`
	Held     bool   `json:"held"`
	Error    string `json:"error,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
}

// EgressPeer is a member of the Egress.
type EgressPeer struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Version  string    `json:"version"`
	Up       bool      `json:"up"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	Free     int64     `json:"free"` // bytes; -1 if unknown
	Error    string    `json:"error,omitempty"`
}

func (e *egress) status() *EgressStatus {
	e.look() // so that it is about the newest commit, which the keeper may not know of yet
	s := e.keeper.Summary()
	out := &EgressStatus{URL: s.Endpoint, Peers: s.PeersUp, Copies: s.Copies, Target: s.Target, State: string(s.State),
		Since: s.Since, Reason: s.Reason, Error: s.Error, Here: e.here, Refused: s.Refused}
	if u := e.unchecked(); u != "" && s.State == cluster.StateHeld {
		out.State, out.Reason = stateChecking, u
	}
	return out
}

// stateChecking stands in EgressStatus alone.
const stateChecking = "checking"

func (e *egress) pins() []Pin {
	var out []Pin
	for _, p := range e.keeper.Pins() {
		pin := Pin{CID: p.CID, Name: p.Name, State: string(p.State), Since: p.Since, Reason: p.Reason, Copies: p.Copies,
			Target: p.Target, Newest: p.Newest, AsOf: p.AsOf, Created: p.Created, Peers: []PinPeer{}}
		for _, x := range p.Peers {
			pin.Peers = append(pin.Peers, PinPeer{x.Name, x.ID, x.Status, x.Held, x.Error, x.Attempts})
		}
		out = append(out, pin)
	}
	return out
}

// describe fills in what Horizon shows of the copies.
func (e *egress) describe(out *horizon.State) {
	e.look()
	s := e.keeper.Summary()
	out.Egress = horizon.Egress{Configured: true, URL: s.Endpoint, Target: s.Target, Copies: s.Copies,
		State: horizon.EgressOK, Since: s.Since, Error: s.Error, Here: e.here, OnlyHere: e.onlyHere(),
		Unchecked: e.unchecked()}
	switch {
	case s.Refused:
		out.Egress.State = horizon.EgressRefused
	case !s.Reachable && s.Error != "":
		out.Egress.State = horizon.EgressUnreachable
	}
	if out.Egress.Target == 0 {
		out.Egress.Target = e.target()
	}
	for _, p := range e.keeper.Pins() {
		pin := horizon.Pin{CID: p.CID, Name: p.Name, State: horizon.PinState(p.State), Since: p.Since,
			Copies: p.Copies, Target: p.Target, Newest: p.Newest}
		if n, err := fs.ParseSequence(p.Metadata[sequenceKey]); err == nil { // what people know it by
			pin.Name = fmt.Sprintf("commit %d", n)
		}
		for _, x := range p.Peers {
			pin.Peers = append(pin.Peers, horizon.PinPeer{Name: x.Name, ID: x.ID, Status: x.Status, Held: x.Held, Error: x.Error})
		}
		out.Pins = append(out.Pins, pin)
		for i := range out.Commits {
			if out.Commits[i].CID == p.CID {
				out.Commits[i].Copies, out.Commits[i].Target = p.Copies, p.Target
			}
		}
	}
	for _, p := range e.keeper.Peers() {
		out.Peers = append(out.Peers, horizon.Peer{Name: p.Name, ID: p.ID, Version: p.Version, Up: p.Up, LastSeen: p.LastSeen,
			Free: max(0, p.Free), Pins: p.Pins, Errors: p.Errors, Error: p.Error, Sees: p.Sees})
	}
}

// egressClient is a client of the Egress in use; nil if there is none.
func egressClient(h Home, c Config, log *slog.Logger) (*cluster.Client, error) {
	used, err := c.egressInUse(h)
	if err != nil || used.none() {
		return nil, err
	}
	return used.client(h, log)
}

// client is a client of an Egress that is some.
func (u EgressUse) client(h Home, log *slog.Logger) (*cluster.Client, error) {
	cfg, err := u.clusterConfig(h)
	if err != nil {
		return nil, err
	}
	cfg.Log = log
	client, err := cluster.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return client, nil
}

// CheckEgress asks an Egress, which need not be the one in use, for its peers.
// ErrEgressRefused: it does not take the password or token.
func CheckEgress(ctx context.Context, h Home, u EgressUse) ([]EgressPeer, error) {
	client, err := u.client(h, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return peersOf(ctx, client)
}

// EgressPeers lists the members of the Egress in use, as they answer now.
func EgressPeers(ctx context.Context, h Home, c Config) ([]EgressPeer, error) {
	client, err := egressClient(h, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if client == nil {
		return nil, ErrNoEgress
	}
	return peersOf(ctx, client)
}

func peersOf(ctx context.Context, client *cluster.Client) ([]EgressPeer, error) {
	defer client.Close()
	peers, err := client.Peers(ctx)
	if err != nil {
		return nil, egressError(err)
	}
	out := make([]EgressPeer, 0, len(peers))
	for _, p := range peers {
		out = append(out, EgressPeer{p.Name, p.ID, p.Version, p.Up, p.LastSeen, p.Free, p.Error})
	}
	return out, nil
}

// ErrNoEgress: nothing keeps copies of this drive elsewhere.
var ErrNoEgress = errors.New("this drive has no Egress")

// ErrEgressRefused: Egress answers, and does not take the password or token that it is given.
var ErrEgressRefused = cluster.ErrRefused

// ErrNoSource: this device knows of the drive, and has nowhere to get it from.
var ErrNoSource = errors.New("this device has no source for the data of the drive")

// egressError gives an error of the cluster the meaning it has to callers.
func egressError(err error) error {
	switch {
	case errors.Is(err, cluster.ErrConfig):
		return fmt.Errorf("%w: %w", ErrConfig, err)
	case errors.Is(err, cluster.ErrNotFound), errors.Is(err, cluster.ErrNotWanted):
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	case errors.Is(err, cluster.ErrNewest):
		return fmt.Errorf("%w: %w", fs.ErrInvalid, err)
	case errors.Is(err, cluster.ErrUnavailable), errors.Is(err, cluster.ErrAnswer), errors.Is(err, cluster.ErrCluster):
		return fmt.Errorf("%w: %w", fs.ErrUnavailable, err)
	}
	return err
}

// listPins are the pins of this drive; ErrNoEgress if nothing keeps any.
func (s *Service) listPins() ([]Pin, error) {
	if s.egress == nil {
		return nil, ErrNoEgress
	}
	pins := s.egress.pins()
	for i := range pins {
		pins[i].Snapshots = s.snapshots.of(pins[i].CID)
	}
	if pins == nil {
		pins = []Pin{}
	}
	return pins, nil
}

func (s *Service) retryPin(cid string) error {
	if s.egress == nil {
		return ErrNoEgress
	}
	return egressError(s.egress.keeper.Retry(cid))
}

func (s *Service) unpin(cid string) error {
	if s.egress == nil {
		return ErrNoEgress
	}
	if names := s.snapshots.of(cid); len(names) > 0 {
		return fmt.Errorf("this is the snapshot %q; `ipfscloud snapshot remove` gives it up: %w", names[0], fs.ErrInvalid)
	}
	return egressError(s.egress.keeper.Unpin(cid))
}
