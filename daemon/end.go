package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	closeWait  = 10 * time.Second // for the commit at an ordinary end; the journal keeps the rest
	signalWait = time.Minute      // for the commit after a signal; less than systemd waits by default
	flushWait  = 10 * time.Minute // for the commit that somebody asked for
)

// ending is the two things that signals say. One goroutine watches them.
type ending struct {
	asked   context.Context // ends with the first signal: flush, unmount, end
	hurried context.Context // ends with the second: wait for nothing
	stop    chan struct{}
	done    chan struct{}
}

func watchSignals(ctx context.Context, signals <-chan os.Signal) *ending {
	hurried, hurry := context.WithCancel(context.WithoutCancel(ctx))
	asked, ask := context.WithCancel(ctx)
	e := &ending{asked: asked, hurried: hurried, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		defer hurry()
		defer ask()
		for _, say := range []func(){ask, hurry} {
			select {
			case <-signals:
				say()
			case <-e.stop:
				return
			}
		}
		<-e.stop
	}()
	return e
}

func (e *ending) close() { close(e.stop); <-e.done }

// stopRequest asks the service to end, and wants to know how that went.
type stopRequest struct {
	ctx   context.Context // of who asks; when it ends before the unmount, the drive goes on
	flush bool
	done  chan error // capacity 1
}

// Stop ends the drive as `ipfscloud umount` asks, with flush after a commit, and returns
// when everything is given back. When it cannot be unmounted (fs.ErrBusy: it is in use)
// or flushed, the drive goes on.
func (s *Service) Stop(ctx context.Context, flush bool) error {
	r := stopRequest{ctx: ctx, flush: flush, done: make(chan error, 1)}
	select {
	case s.stop <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended: // somebody else ended it
		return nil
	}
	select {
	case err := <-r.done:
		return err
	case <-s.ended:
		select {
		case err := <-r.done:
			return err
		default:
			return nil
		}
	}
}

// wait serves until the end, and ends the mount and the tree. It returns who waits for
// that to be complete, if somebody does.
func (s *Service) wait(e *ending) (asker chan<- error, err error) {
	for {
		select {
		case <-s.server.Done(): // somebody called umount(8)
			defer s.stopping()()
			return nil, s.closeTree(e.hurried, closeWait, false)
		case <-s.p.Reload:
			s.reload()
		case r := <-s.stop:
			if err := s.unmount(e, r); err != nil {
				r.done <- err
				continue
			}
			defer s.stopping()()
			if r.flush {
				return r.done, s.closeTree(e.hurried, flushWait, true)
			}
			return r.done, s.closeTree(e.hurried, closeWait, false)
		case <-e.asked.Done():
			defer s.stopping()()
			s.p.Log.Info("stopping")
			return nil, s.finish(e.hurried)
		}
	}
}

// unmount takes the mount away for somebody who asked and can be told why it stays. A
// signal ends the flush, so that the drive ends as signals want it.
func (s *Service) unmount(e *ending, r stopRequest) error {
	if r.flush {
		ctx, cancel := context.WithTimeout(r.ctx, flushWait)
		defer cancel()
		defer context.AfterFunc(e.asked, cancel)()
		if err := s.tree.Sync(ctx, s.flushed()); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
	}
	return s.server.Unmount(false)
}

// flushed is what a flush waits for: the commit, and with an Egress as many copies as
// make it held.
func (s *Service) flushed() fs.Durability {
	if s.egress != nil {
		if n := s.egress.least(); n > 0 {
			return fs.DurabilityEgress(n)
		}
	}
	return fs.DurabilityIPFS
}

// finish ends the drive for a signal: what is written is flushed, the names are taken
// away, and users of open files are waited for a little.
func (s *Service) finish(hurried context.Context) error {
	ctx, cancel := context.WithTimeout(hurried, signalWait)
	defer cancel()
	if err := s.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		s.p.Log.Warn("flushing before the end; the journal keeps what is not committed", "error", err)
	}
	err := s.server.Unmount(false)
	if errors.Is(err, fs.ErrBusy) {
		s.p.Log.Warn("the drive is in use; detaching it")
		err = s.server.Unmount(true)
		select {
		case <-s.server.Done():
		case <-hurried.Done():
		case <-time.After(closeWait):
		}
	}
	s.server.Abort()
	return errors.Join(err, s.closeTree(hurried, closeWait, false))
}

// closeTree commits what is left, within a time, and closes the tree. What could not be
// committed is in the journal: that is a failure only for who asked for the commit.
func (s *Service) closeTree(ctx context.Context, wait time.Duration, wanted bool) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := s.tree.Close(ctx)
	if err != nil && !wanted {
		s.p.Log.Warn("closing the drive; the journal keeps what is not committed", "error", err)
		return nil
	}
	return err
}
