package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Keeper keeps what is wanted pinned. Its methods may be called at once from many
// goroutines; all but Run and Wait return at once.
//
// One goroutine, that of Run, owns the work: it starts each call and enters each answer.
// What it knows is in the book, guarded by mu, which is never held during a call.
type Keeper struct {
	client *Client
	cfg    KeeperConfig
	wake   chan struct{} // there may be something to do

	mu      sync.Mutex
	book    *book
	changed chan struct{} // closed when what is shown changes
	shown   uint64        // the book's version then
	errors  map[lane]failure
	dirty   bool // the state file is behind
}

// failure is since when calls of a lane have failed, and why.
type failure struct {
	err   error
	since time.Time
}

// NewKeeper returns a Keeper that does nothing before Run.
func NewKeeper(c *Client, p Policy, cfg KeeperConfig) (*Keeper, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	cfg.settle()
	k := &Keeper{
		client: c, cfg: cfg, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		errors: make(map[lane]failure),
	}
	k.book = newBook(p, &k.cfg)
	if err := k.load(); err != nil {
		k.cfg.Log.Warn("what was known of pins before", "err", err) // the cluster knows the rest
	}
	return k, nil
}

// Want replaces the set of what is wanted. Pins of ours that are not in it are unpinned
// once the newest is held: call it only when the set is complete. The same set again
// changes nothing.
func (k *Keeper) Want(wants []Want) {
	k.change(func(b *book, now time.Time) { b.want(wants, now) })
}

// Supersede says that pins of ours which were never wanted here have been replaced by what
// is wanted: they are unpinned like those that were. Others stay, whatever their metadata
// says of their owner.
func (k *Keeper) Supersede(cids ...string) {
	k.change(func(b *book, _ time.Time) {
		for _, cid := range cids {
			if e := b.pins[cid]; e != nil && !slices.Contains(b.mine, cid) {
				b.owns(cid)
				b.version++
			}
		}
	})
}

// SetPolicy changes how many copies there are to be of everything that is wanted.
func (k *Keeper) SetPolicy(p Policy) error {
	if err := p.check(); err != nil {
		return err
	}
	k.change(func(b *book, now time.Time) {
		b.policy = p
		b.version++
		b.judgeAll(now)
	})
	return nil
}

// change enters something and lets Run look what follows from it.
func (k *Keeper) change(fn func(*book, time.Time)) {
	k.mu.Lock()
	fn(k.book, k.cfg.Now())
	news := k.book.version != k.shown
	k.dirty = k.dirty || news
	k.show()
	k.mu.Unlock()
	if news {
		k.hurry()
	}
}

func (k *Keeper) hurry() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// show tells those who watch that something changed. It is called with mu held.
func (k *Keeper) show() {
	if k.book.version != k.shown {
		k.shown = k.book.version
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// Changed is closed when anything changes that Pins, Summary or Peers would show.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Wait returns when n allocated peers report a wanted CID as pinned. While somebody
// waits for it, it is pinned without a pause and asked for often. When ctx ends, the
// error says what is short.
func (k *Keeper) Wait(ctx context.Context, cid string, n int) error {
	k.mu.Lock()
	if most := k.book.policy.Max; most > 0 && n > most {
		k.mu.Unlock()
		return fmt.Errorf("%w: %d copies are waited for, and there will be %d", ErrConfig, n, most)
	}
	e := k.book.pins[cid]
	if e == nil {
		k.mu.Unlock()
		return fmt.Errorf("%w: %s", ErrNotWanted, cid)
	}
	k.waits(e, 1)
	k.mu.Unlock()
	k.hurry()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.waits(e, -1)
	}()
	for {
		k.mu.Lock()
		changed, have, why := k.changed, k.fresh(e), e.reason
		gone := e.want == nil && !e.in
		if why == "" {
			why = string(e.state)
		}
		if k.book.away != "" {
			why = k.book.away
		}
		k.mu.Unlock()
		switch {
		case have >= n:
			return nil
		case gone:
			return fmt.Errorf("%w: %s", ErrNotWanted, cid)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d of %s: %s: %w", ErrShort, have, n, cid, why, ctx.Err())
		}
	}
}

func (k *Keeper) waits(e *entry, n int) {
	e.waiting += n
	k.book.sorted = nil
	k.book.sweepOut()
}

// fresh is how many copies were reported not long ago.
func (k *Keeper) fresh(e *entry) int {
	if k.book.away != "" || k.cfg.Now().Sub(e.asked) > 3*k.cfg.WatchEvery {
		return 0
	}
	return k.book.copies(e)
}

// Retry tries at once what failed or waits for another try.
func (k *Keeper) Retry(cid string) error {
	err := fmt.Errorf("%w: %s", ErrNotWanted, cid)
	k.change(func(b *book, now time.Time) {
		e := b.pins[cid]
		if e == nil || e.want == nil {
			return
		}
		err = nil
		for _, id := range b.allocated(e) {
			if m := b.peers[id]; m != nil {
				m.apart = pause{}
			}
		}
		b.pause, e.again, e.mend, e.shift, e.words, e.told = pause{}, pause{}, pause{}, pause{}, pause{}, pause{}
		e.progress, e.nextAsk, e.askEvery = now, now, b.cfg.MoveEvery
		b.version++
		b.judge(e, now)
	})
	return err
}

// Unpin gives up a pin of ours. If it is wanted it stays given up, also after a restart,
// until it has once not been wanted.
func (k *Keeper) Unpin(cid string) error {
	err := fmt.Errorf("%w: %s", ErrNotFound, cid)
	k.change(func(b *book, now time.Time) {
		e := b.pins[cid]
		switch {
		case e == nil || e.in && !e.ours:
			return
		case cid == b.newest:
			err = ErrNewest
			return
		}
		err = nil
		b.released[cid] = true
		e.want, e.again, b.sorted = nil, pause{}, nil
		b.version++
		b.judge(e, now)
		b.sweepOut()
	})
	return err
}

// Run does the work until ctx ends. It is called once, and returns ctx's error.
func (k *Keeper) Run(ctx context.Context) error {
	r := &runner{k: k, answers: make(chan func()), next: make(map[lane]time.Time), busy: make(map[lane]bool)}
	r.ctx = ctx
	timer := time.NewTimer(0)
	defer timer.Stop()
	saved := k.cfg.Now()
	for {
		timer.Reset(r.start())
		select {
		case <-ctx.Done():
			r.wait()
			return errors.Join(ctx.Err(), k.save())
		case <-k.wake:
		case <-timer.C:
		case enter := <-r.answers:
			enter()
		}
		if now := k.cfg.Now(); now.Sub(saved) > saveEvery {
			saved = now
			if err := k.save(); err != nil {
				k.cfg.Log.Warn("what is known of pins", "err", err)
			}
		}
	}
}
