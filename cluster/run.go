package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// lane is one kind of call. Each lane has at most one under way, so that a slow kind
// does not hold up the others.
type lane string

const (
	lanePings lane = "pings" // who is alive
	lanePeers lane = "peers" // what they say of themselves
	laneGraph lane = "graph" // who sees whom
	laneSpace lane = "space" // free space
	laneList  lane = "list"  // the pin set
	laneWatch lane = "watch" // the newest pin
	laneSweep lane = "sweep" // the other pins
	laneAct   lane = "act"   // changes
)

// How often, in units of KeeperConfig.PeersEvery.
const (
	peersTimes = 3
	graphTimes = 6
	spaceTimes = 3
)

// errAside says nothing of whether calls of a lane fail.
var errAside = errors.New("the fault of one peer")

// runner is the work of one Run. Only its goroutine uses it.
type runner struct {
	k       *Keeper
	ctx     context.Context //nolint:containedctx // of Run, whose part this is
	answers chan func()
	next    map[lane]time.Time
	busy    map[lane]bool
	lists   int // lists that failed, one after the other
	rotated time.Time
	pinged  time.Time // when the pings were asked for that are under way
}

// silentTime is how long all endpoints together may take to say who is alive before the
// cluster is called away. It is more than the time of two that hang before one that works.
const silentTime = 12 * time.Second

// start begins what is due, and returns when to look again.
func (r *runner) start() time.Duration {
	k := r.k
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	for _, l := range []struct {
		lane  lane
		every time.Duration
		run   func()
	}{
		{lanePings, k.cfg.PeersEvery, r.pings},
		{lanePeers, peersTimes * k.cfg.PeersEvery, r.peers},
		{laneGraph, graphTimes * k.cfg.PeersEvery, r.graph},
		{laneSpace, spaceTimes * k.cfg.PeersEvery, r.space},
		{laneList, k.cfg.ListEvery, r.list},
	} {
		if !r.busy[l.lane] && !now.Before(r.next[l.lane]) {
			r.next[l.lane] = now.Add(l.every)
			l.run()
		}
	}
	r.listen(now)
	r.startAsking(now)
	if !r.busy[laneAct] {
		if a := k.book.plan(now); a != nil {
			k.book.begin(a)
			r.act(a)
		}
	}
	// Nothing here has to be on time to the millisecond, and a look costs little.
	tick := min(k.cfg.MoveEvery, time.Second)
	for _, e := range k.book.watched() {
		if k.book.urgent(e) {
			tick = min(tick, waitEvery/2)
		}
	}
	return tick
}

// listen says that the cluster is away when it has been asked and is silent, however many
// endpoints there are left to try. It is called with the Keeper's mutex held.
func (r *runner) listen(now time.Time) {
	k := r.k
	if _, told := k.errors[lanePings]; told || !r.busy[lanePings] || now.Sub(r.pinged) < silentTime {
		return
	}
	err := fmt.Errorf("%w: %w, which is %v", ErrUnavailable, errTime, silentTime)
	k.errors[lanePings] = failure{err, now}
	k.cfg.Log.Warn("egress", "call", string(lanePings), "err", err)
	k.reached(err, now)
	k.show()
}

func (r *runner) startAsking(now time.Time) {
	b := r.k.book
	if !r.busy[laneWatch] {
		if cids := b.watch(now); len(cids) > 0 {
			r.ask(laneWatch, cids)
		}
	}
	if r.busy[laneSweep] || now.Before(r.next[laneSweep]) {
		return
	}
	rotate := now.Sub(r.rotated) >= b.cfg.SweepEvery
	if rotate {
		r.rotated = now
	}
	if cids := b.sweep(now, rotate); len(cids) > 0 {
		r.next[laneSweep] = now.Add(b.cfg.MoveEvery)
		r.ask(laneSweep, cids)
	}
}

// begin makes a call in a goroutine of its own. What call returns enters the answer: it
// is called by the owner, with the Keeper's mutex held.
func (r *runner) begin(l lane, call func(context.Context) (func(*book, time.Time), error)) {
	r.busy[l] = true
	go func() { // ends with the call, which ends with ctx; wait waits for it
		enter, err := call(r.ctx)
		r.answers <- func() { r.enter(l, enter, err) }
	}()
}

func (r *runner) enter(l lane, enter func(*book, time.Time), err error) {
	k := r.k
	r.busy[l] = false
	if r.ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	was, failed := k.errors[l]
	switch {
	case errors.Is(err, errAside):
	case err == nil || errors.Is(err, errSlow):
		delete(k.errors, l)
	case failed:
		k.errors[l] = failure{err, was.since}
	default:
		k.errors[l] = failure{err, now}
		k.cfg.Log.Warn("egress", "call", string(l), "err", err)
	}
	if failed != (k.errors[l].err != nil) {
		k.book.version++
	}
	if l == lanePings {
		k.reached(err, now)
	}
	if enter != nil {
		enter(k.book, now)
		k.dirty = true
	}
	k.show()
}

// reached enters whether the cluster answers. That it does not says nothing of copies,
// but those who ask have to know.
func (k *Keeper) reached(err error, now time.Time) {
	away := ""
	if err != nil {
		away = plain(err.Error())
	}
	if away == k.book.away {
		return
	}
	k.book.away = away
	k.book.judgeAll(now)
	k.book.version++
}

// wait ends when no call is under way any more.
func (r *runner) wait() {
	for {
		busy := false
		for _, b := range r.busy {
			busy = busy || b
		}
		if !busy {
			return
		}
		(<-r.answers)()
	}
}

func (r *runner) pings() {
	r.pinged = r.k.cfg.Now()
	r.begin(lanePings, func(ctx context.Context) (func(*book, time.Time), error) {
		all, err := r.k.client.metrics(ctx, "ping")
		if err != nil {
			return nil, err
		}
		return func(b *book, now time.Time) {
			if b.enterPings(all, now) {
				r.next[lanePeers], r.next[laneGraph] = now, now.Add(b.cfg.PeersEvery)
			}
			r.next[lanePings] = r.pinged.Add(b.pingsEvery(now))
		}, nil
	})
}

func (r *runner) peers() {
	r.begin(lanePeers, func(ctx context.Context) (func(*book, time.Time), error) {
		all, err := r.k.client.peers(ctx)
		if err != nil {
			return nil, err
		}
		return func(b *book, now time.Time) { b.enterPeers(all, now) }, nil
	})
}

func (r *runner) graph() {
	r.begin(laneGraph, func(ctx context.Context) (func(*book, time.Time), error) {
		g, err := r.k.client.graph(ctx)
		if err != nil {
			return nil, err
		}
		return func(b *book, _ time.Time) {
			for id, m := range b.peers {
				m.sees = g.Links[id]
			}
		}, nil
	})
}

func (r *runner) space() {
	r.begin(laneSpace, func(ctx context.Context) (func(*book, time.Time), error) {
		all, err := r.k.client.metrics(ctx, "freespace")
		if err != nil {
			return nil, err
		}
		free := make(map[string]int64)
		for _, m := range all {
			if n, err := strconv.ParseInt(m.Value, 10, 64); err == nil && m.Valid && n >= 0 {
				free[m.Peer] = n
			}
		}
		return func(b *book, now time.Time) { b.enterFree(free, now) }, nil
	})
}

func (r *runner) list() {
	owner, begun := r.k.cfg.Owner, r.k.cfg.Now()
	wanted := make(map[string]bool, len(r.k.book.pins))
	for cid := range r.k.book.pins {
		wanted[cid] = true
	}
	r.begin(laneList, func(ctx context.Context) (func(*book, time.Time), error) {
		var pins []wirePin
		err := r.k.client.list(ctx, func() { pins = nil }, func(p *wirePin) error {
			if wanted[p.CID] || owner != "" && p.Metadata[OwnerKey] == owner {
				pins = append(pins, *p)
			}
			return nil
		})
		return func(b *book, now time.Time) {
			if err != nil {
				b.looked = true // an endpoint without a list can still pin
				r.lists++
				r.next[laneList] = now.Add(min(b.cfg.ListEvery, time.Second<<min(r.lists, 8)))
				return
			}
			r.lists = 0
			l := &listing{begun: begun, seen: make(map[string]bool, len(pins))}
			for i := range pins {
				l.seen[pins[i].CID] = true
				b.enterPin(&pins[i], now)
			}
			for _, e := range b.pins {
				if !wanted[e.cid] {
					l.seen[e.cid] = true // wanted since: the list says nothing of it
				}
			}
			b.enterList(l, now)
		}, err
	})
}

func (r *runner) ask(l lane, cids []string) {
	asked := r.k.cfg.Now()
	r.begin(l, func(ctx context.Context) (func(*book, time.Time), error) {
		var all []*wireStatus
		err := r.k.client.status(ctx, cids, func() { all = nil }, func(s *wireStatus) { all = append(all, s) })
		return func(b *book, now time.Time) { // also of a part
			b.doubts(all, asked, now)
			for _, s := range all {
				b.enterStatus(s, asked, now)
			}
		}, err
	})
}

func (r *runner) act(a *action) {
	r.begin(laneAct, func(ctx context.Context) (func(*book, time.Time), error) {
		var p wirePin
		var err error
		switch a.kind {
		case doRecover:
			err = r.k.client.recover(ctx, a.cid)
		case doUnpin:
			err = r.k.client.unpin(ctx, a.cid)
			if err == nil || errors.Is(err, ErrNotFound) {
				if e := r.k.client.untell(ctx, a.told, a.cid); e != nil {
					r.k.cfg.Log.Debug("egress", "do", "untell", "cid", a.cid, "err", e) // should it come back, it goes again
				}
			}
		case doTell:
			a.origins = r.origins()
			if p, err = r.k.client.tell(ctx, a.peer, a.cid, &a.options); err == nil {
				err = a.keeps(&p)
			}
		default:
			a.origins = r.origins()
			if p, err = r.k.client.pin(ctx, a.cid, &a.options); err == nil && p.CID != a.cid {
				err = fmt.Errorf("%w: it tells of another pin", ErrAnswer)
			}
		}
		r.k.cfg.Log.Debug("egress", "do", string(a.kind), "cid", a.cid, "err", err)
		enter := func(b *book, now time.Time) { b.done(a, &p, err, now) }
		if a.kind == doTell {
			return enter, errAside // that a peer cannot be told is its fault, not that of the way to the cluster
		}
		return enter, err
	})
}

func (r *runner) origins() []string {
	if fn := r.k.cfg.Origins; fn != nil {
		return fn()
	}
	return nil
}
