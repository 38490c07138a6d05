package cluster

import (
	"fmt"
	"log/slog"
	"time"
)

// KeeperConfig is what a Keeper is given. Zero intervals are the defaults.
type KeeperConfig struct {
	// Origins returns the addresses of our IPFS node, with /p2p/: peers dial them before
	// they fetch. It is called before each pin, and may be nil.
	Origins func() []string
	// Owner marks our pins, in their metadata under OwnerKey. Pins with another owner, or
	// without one, are never unpinned. Two Keepers with one owner would unpin each
	// other's pins.
	Owner string
	// StateFile remembers what the cluster cannot tell: since when, and which pins the
	// user gave up. Empty is none.
	StateFile string
	Log       *slog.Logger // nil is silence

	// PinEvery is the least time between pins, unless somebody waits; a backlog of more
	// than ten pins makes it a tenth.
	PinEvery time.Duration
	// WatchEvery is how often the newest pin is asked for when it is settled.
	WatchEvery time.Duration
	// MoveEvery is how often what is not settled is asked for.
	MoveEvery time.Duration
	// SweepEvery is how often some settled pins are asked for.
	SweepEvery time.Duration
	// ListEvery is how often the list of all pins is read.
	ListEvery time.Duration
	// PeersEvery is how often it is looked which peers are alive; what else is known of
	// them is asked for less often.
	PeersEvery time.Duration
	// StallAfter is how long a pin may make no progress before it has failed.
	StallAfter time.Duration
	// DeadAfter is how long a peer is silent before its copies are made elsewhere.
	DeadAfter time.Duration
	// StaleAfter is the age from which a report is called stale.
	StaleAfter time.Duration
	// RetryMin and RetryMax bound the pause before something that failed is tried again.
	RetryMin, RetryMax time.Duration
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// OwnerKey is the key of KeeperConfig.Owner in a pin's metadata.
const OwnerKey = "owner"

func (c *KeeperConfig) settle() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.PinEvery, 10 * time.Second},
		{&c.WatchEvery, 10 * time.Second},
		{&c.MoveEvery, time.Second},
		{&c.SweepEvery, 10 * time.Second},
		{&c.ListEvery, 5 * time.Minute},
		{&c.PeersEvery, 10 * time.Second},
		{&c.StallAfter, 10 * time.Minute},
		{&c.DeadAfter, 5 * time.Minute},
		{&c.StaleAfter, time.Hour},
		{&c.RetryMin, 5 * time.Second},
		{&c.RetryMax, 10 * time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// check says whether a policy can be kept.
func (p *Policy) check() error {
	switch {
	case p.Min == -1 && p.Max == -1:
	case p.Min < 1 || p.Max < p.Min:
		return fmt.Errorf("%w: between %d and %d copies: want -1 and -1, or 1 <= min <= max", ErrConfig, p.Min, p.Max)
	}
	if p.Expiry < 0 || p.Expiry > 0 && p.Expiry < time.Minute {
		return fmt.Errorf("%w: pins that expire after %v: want a minute or more", ErrConfig, p.Expiry)
	}
	return nil
}
