package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// holder is an identity whose session another process keeps, and could end.
type holder interface {
	Hold(ctx context.Context, who string) (*auth.Hold, error)
}

const claimAgain = 2 * time.Second // between attempts, while nobody is logged in

// claim keeps a session from being logged out while the drive needs it. If its agent dies
// all the same, the drive goes on without commits, and the claim is made again after the
// next login. One goroutine, keep, owns the hold.
type claim struct {
	lost   atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
}

// claimSession returns nil for an identity that nobody else can end.
func claimSession(ctx context.Context, id fs.Identity, who string, log *slog.Logger) (*claim, error) {
	h, ok := id.(holder)
	if !ok {
		return nil, nil
	}
	hold, err := h.Hold(ctx, who)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &claim{cancel: cancel, done: make(chan struct{})}
	go c.keep(ctx, h, hold, who, log)
	return c, nil
}

func (c *claim) keep(ctx context.Context, h holder, hold *auth.Hold, who string, log *slog.Logger) {
	defer close(c.done)
	tick := time.NewTicker(claimAgain)
	defer tick.Stop()
	for {
		select {
		case <-hold.Lost():
		case <-ctx.Done():
			_ = hold.Release() // the connection is gone either way
			return
		}
		c.lost.Store(true)
		log.Error("the session has ended; nothing is committed until the next login")
		for c.lost.Load() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if again, err := h.Hold(ctx, who); err == nil {
				hold = again
				c.lost.Store(false)
				log.Info("the session is open again")
			}
		}
	}
}

// alert is what the user must know about the session, or "".
func (c *claim) alert() string {
	if c == nil || !c.lost.Load() {
		return ""
	}
	return "the session has ended: changes wait in the journal until `ipfscloud login`"
}

func (c *claim) release() {
	if c != nil {
		c.cancel()
		<-c.done
	}
}
