package cluster

import (
	"context"
	"sync"
)

// Keeper keeps what is wanted pinned. Its methods may be called at once from many
// goroutines; all but Run and Wait return at once.
type Keeper struct {
	client *Client
	cfg    KeeperConfig

	mu sync.Mutex
}

// NewKeeper returns a Keeper that does nothing before Run.
func NewKeeper(c *Client, p Policy, cfg KeeperConfig) (*Keeper, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	cfg.settle()
	return &Keeper{client: c, cfg: cfg}, nil
}

// Run does the work until ctx ends. It is called once, and returns ctx's error.
func (k *Keeper) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Want replaces the set of what is wanted. Pins of ours that are not in it are unpinned
// once the newest is held: call it only when the set is complete.
func (k *Keeper) Want(wants []Want) {}

// Wait returns when n allocated peers report a wanted CID as pinned. While somebody
// waits for it, it is pinned without a pause and asked for often.
func (k *Keeper) Wait(ctx context.Context, cid string, n int) error { return ErrNotWanted }

// Changed is closed when anything changes that Pins, Summary or Peers would show.
func (k *Keeper) Changed() <-chan struct{} { return nil }

// Pins are all that is wanted, and what of ours is pinned still: the newest first.
func (k *Keeper) Pins() []Pin { return nil }

// Pin is one of Pins.
func (k *Keeper) Pin(cid string) (Pin, bool) { return Pin{}, false }

// Summary is the newest pin and the cluster at a glance.
func (k *Keeper) Summary() Summary { return Summary{} }

// Peers are the members of the cluster, and who was one, by name.
func (k *Keeper) Peers() []Peer { return nil }

// Retry tries at once what failed or waits for another try.
func (k *Keeper) Retry(cid string) error { return ErrNotWanted }

// Unpin gives up a pin of ours. If it is wanted it stays given up, also after a restart,
// until it has once not been wanted.
func (k *Keeper) Unpin(cid string) error { return ErrNotFound }

// InFlight are the CIDs that peers are copying, also such that are not wanted any more:
// their blocks must stay with us.
func (k *Keeper) InFlight() []string { return nil }
