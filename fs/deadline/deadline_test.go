package deadline_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/deadline"
)

// request is a context that is none of the standard library, as those of the kernel's
// requests are.
type request struct{ done chan struct{} }

func (request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (r request) Done() <-chan struct{}     { return r.done }
func (request) Value(any) any               { return nil }
func (r request) Err() error {
	select {
	case <-r.done:
		return context.Canceled
	default:
		return nil
	}
}

func newRequest() request { return request{make(chan struct{})} }

func TestEnds(t *testing.T) {
	long, short := time.Hour, time.Millisecond
	for _, c := range []struct {
		name string
		d    time.Duration
		end  func(parent request, cancel func())
		want error
	}{
		{"with its parent", long, func(r request, _ func()) { close(r.done) }, context.Canceled},
		{"when cancelled", long, func(_ request, cancel func()) { cancel() }, context.Canceled},
		{"in time", short, func(request, func()) {}, context.DeadlineExceeded},
	} {
		t.Run(c.name+", waited for", func(t *testing.T) {
			r := newRequest()
			ctx, cancel := deadline.With(r, c.d)
			defer cancel()
			done := ctx.Done()
			c.end(r, cancel)
			<-done
			if err := ctx.Err(); !errors.Is(err, c.want) {
				t.Errorf("Err is %v, want %v", err, c.want)
			}
		})
		t.Run(c.name+", asked", func(t *testing.T) {
			r := newRequest()
			ctx, cancel := deadline.With(r, c.d)
			defer cancel()
			c.end(r, cancel)
			if until, _ := ctx.Deadline(); c.d == short {
				<-time.After(time.Until(until))
			}
			if err := ctx.Err(); !errors.Is(err, c.want) {
				t.Errorf("Err is %v, want %v", err, c.want)
			}
			<-ctx.Done()
		})
		t.Run(c.name+", by a child", func(t *testing.T) {
			r := newRequest()
			ctx, cancel := deadline.With(r, c.d)
			defer cancel()
			child, cancelChild := context.WithCancel(ctx)
			defer cancelChild()
			c.end(r, cancel)
			<-child.Done()
			if err := child.Err(); !errors.Is(err, c.want) {
				t.Errorf("Err of the child is %v, want %v", err, c.want)
			}
		})
	}
}

func TestLives(t *testing.T) {
	ctx, cancel := deadline.With(newRequest(), time.Hour)
	defer cancel()
	if err := ctx.Err(); err != nil {
		t.Errorf("Err is %v before the end", err)
	}
	select {
	case <-ctx.Done():
		t.Error("done before the end")
	default:
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("Err is %v before the end, after Done", err)
	}
}

// TestNearerDeadline: the parent's own deadline counts if it comes first.
func TestNearerDeadline(t *testing.T) {
	parent, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	want, _ := parent.Deadline()
	ctx, cancel := deadline.With(parent, time.Hour)
	defer cancel()
	if got, ok := ctx.Deadline(); !ok || !got.Equal(want) {
		t.Errorf("the deadline is %v, want the parent's %v", got, want)
	}
}

// TestNoGoroutine: who does not wait starts nothing, and what a wait started ends.
func TestNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	_, cancel := deadline.With(newRequest(), time.Hour)
	if n := runtime.NumGoroutine(); n != before {
		t.Errorf("%d goroutines more without a wait", n-before)
	}
	cancel()
	ctx, cancel := deadline.With(newRequest(), time.Hour)
	ctx.Done()
	cancel()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines more after the end", runtime.NumGoroutine()-before)
		}
	}
}

func Benchmark(b *testing.B) {
	for name, with := range map[string]func(context.Context, time.Duration) (context.Context, context.CancelFunc){
		"With": deadline.With, "context.WithTimeout": context.WithTimeout,
	} {
		b.Run(name, func(b *testing.B) {
			r := newRequest()
			for b.Loop() {
				ctx, cancel := with(r, time.Minute)
				if ctx.Err() != nil {
					b.Fatal("ended")
				}
				cancel()
			}
		})
	}
}
