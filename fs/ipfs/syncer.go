package ipfs

import (
	"context"
	"sync"
)

// syncer runs one sync for all who wait for one. A caller is served by a sync that began
// after its call, never by one that was under way.
type syncer struct {
	sync func() error

	mu      sync.Mutex
	running bool
	next    *syncRun // the run that new callers wait for; nil if none waits
}

type syncRun struct {
	done chan struct{}
	err  error
}

// wait returns when a sync that began after the call has ended, or with the context.
func (s *syncer) wait(ctx context.Context) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &syncRun{done: make(chan struct{})}
	}
	run := s.next
	if !s.running {
		s.running = true
		go s.loop()
	}
	s.mu.Unlock()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loop serves runs until nobody waits; there is one loop at a time.
func (s *syncer) loop() {
	for {
		s.mu.Lock()
		run := s.next
		s.next = nil
		s.running = run != nil
		s.mu.Unlock()
		if run == nil {
			return
		}
		run.err = s.sync()
		close(run.done)
	}
}
