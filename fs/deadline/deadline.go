// Package deadline bounds what may have to wait, at no cost for what does not.
//
// Its one job is a context.WithTimeout for the path that each request of the kernel takes:
// that one starts a goroutine for a parent that is no context of the standard library, and
// starting and ending it costs two hand-overs between threads, more than most requests. The
// context from here starts it when somebody waits for Done. It never ends a parent.
package deadline

import (
	"context"
	"sync"
	"time"
)

// With returns a copy of parent that ends after d, if not before. The caller must call
// cancel when it needs the context no more.
func With(parent context.Context, d time.Duration) (ctx context.Context, cancel context.CancelFunc) {
	b := &bound{Context: parent, until: time.Now().Add(d)}
	return b, b.end
}

// bound asks its parent and the clock, until somebody wants to be told: then a context of
// the standard library takes its place.
type bound struct {
	context.Context // the parent
	until           time.Time

	mu     sync.Mutex // guards all below
	ended  bool
	err    error           // what Err said when it was not nil
	std    context.Context // nil until Done is called
	cancel context.CancelFunc
}

func (b *bound) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.std != nil {
		b.cancel()
	}
}

// Deadline implements context.Context.
func (b *bound) Deadline() (time.Time, bool) {
	if t, ok := b.Context.Deadline(); ok && t.Before(b.until) {
		return t, true
	}
	return b.until, true
}

// Done implements context.Context.
func (b *bound) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.std == nil {
		b.std, b.cancel = context.WithDeadline(b.Context, b.until)
		if b.ended {
			b.cancel()
		}
	}
	return b.std.Done()
}

// Err implements context.Context.
func (b *bound) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
	case b.std != nil:
		b.err = b.std.Err()
	case b.Context.Err() != nil:
		b.err = b.Context.Err()
	case b.ended:
		b.err = context.Canceled
	case !time.Now().Before(b.until):
		b.err = context.DeadlineExceeded
	}
	return b.err
}

// Value implements context.Context. The standard library looks there for the context that
// it may join a child to.
func (b *bound) Value(key any) any {
	b.mu.Lock()
	std := b.std
	b.mu.Unlock()
	if std != nil {
		return std.Value(key)
	}
	return b.Context.Value(key)
}
