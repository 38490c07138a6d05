package ipfs

import (
	"context"
	"sync"
	"time"
)

// gate lets operations in until it is closed, and then tells when the last has left. The
// zero gate is open.
type gate struct {
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // operations; those whose caller has given up, too
}

func (g *gate) enter() (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errClosed
	}
	g.running.Add(1)
	return g.running.Done, nil
}

// close lets nobody in any more and waits for those inside, up to limit. first is false
// when the gate was closed before; idle is false when someone is still inside.
func (g *gate) close(limit time.Duration) (first, idle bool) {
	g.mu.Lock()
	first = !g.closed
	g.closed = true
	g.mu.Unlock()
	if !first {
		return false, true
	}
	done := make(chan none)
	go func() {
		g.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true, true
	case <-timer.C:
		return true, false
	}
}

// do runs an operation inside the gate and within a limit.
func do[T any](ctx context.Context, g *gate, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	return within(ctx, limit, func(ctx context.Context) (T, error) {
		leave, err := g.enter()
		if err != nil {
			var zero T
			return zero, err
		}
		defer leave()
		return f(ctx)
	})
}

// doErr is do for what returns an error alone.
func doErr(ctx context.Context, g *gate, limit time.Duration, f func(context.Context) error) error {
	_, err := do(ctx, g, limit, func(ctx context.Context) (none, error) { return none{}, f(ctx) })
	return err
}
