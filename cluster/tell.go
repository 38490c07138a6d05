package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A change of the pin set is told by one peer to the others. One that fetches nothing from
// them, because its network or its service is at fault, reports what it should have as
// unpinned, and what is told anywhere else does not change that. It does know what it was
// told itself: so it is, if one of the endpoints is its own.
//
// Once it fetches again, its version and that of the others become one: of two versions of a
// pin the one from the longer history stays, and a pin that one of them has taken out stays
// if the other knows a version of it that the first did not. So nothing may be told that
// would be wrong for the others.

// errNoEndpoint says that no endpoint is a peer's own, as far as they answer.
var errNoEndpoint = fmt.Errorf("%w: an endpoint of this peer", ErrNotFound)

// planTell finds a pin of which a peer that should have it has not heard. A peer that hears
// of nothing is told no faster than one pin after the other has settled: the newest, and
// then what has been due for longest, so that those that it forgets leave room for others.
func (b *book) planTell(order []*entry, now time.Time) *action {
	if now.Sub(b.lastTold) < settleTime {
		return nil
	}
	var first *entry
	var ids []string
	for _, e := range order {
		switch {
		case e.want == nil || !e.in || !e.told.over(now) || !e.again.over(now):
			continue
		case first != nil && !e.told.until.Before(first.told.until):
			continue
		}
		who := b.unheard(e, now)
		if len(who) == 0 {
			continue
		}
		first, ids = e, who
		if e.want.Newest {
			break
		}
	}
	if first == nil {
		return nil
	}
	b.wellSince(&first.told, now)
	a := &action{kind: doTell, cid: first.cid, options: b.optionsOf(first, now)}
	a.peer = ids[first.told.tries%len(ids)]
	if !first.everywhere {
		// It chooses as if there were no pin, and among those that it sees. Better it
		// refuses than that the others hear one day that fewer should have it.
		a.keep, a.prefer = first.allocs, first.allocs
		a.min = max(a.min, min(a.max, len(first.allocs)))
	}
	return a
}

// wellSince ends a pause that was over long ago.
func (b *book) wellSince(p *pause, now time.Time) {
	if now.Sub(p.until) > b.cfg.RetryMax {
		*p = pause{}
	}
}

// unheard are the peers that should have a pin and have said for so long that it is not in
// the pin set that they should have heard of it.
func (b *book) unheard(e *entry, now time.Time) (ids []string) {
	for _, id := range b.allocated(e) {
		r := e.reports[id]
		if r == nil || r.status != statusUnpinned || !b.current(id, r) || !b.peers[id].apart.over(now) {
			continue
		}
		if now.Sub(e.accepted) >= settleTime && now.Sub(r.since) >= settleTime && now.Sub(b.peers[id].since) >= settleTime {
			ids = append(ids, id)
		}
	}
	return ids
}

// reachable are those of some peers that are worth a call to an endpoint of their own.
func (b *book) reachable(ids []string, now time.Time) (all []string) {
	for _, id := range ids {
		if m := b.peers[id]; m != nil && m.up() && m.apart.over(now) {
			all = append(all, id)
		}
	}
	return all
}

// wasTold enters that a peer was told of a pin, or could not be. It says nothing of the
// pin, nor of the cluster: another peer has accepted it, and answers.
func (b *book) wasTold(e *entry, a *action, err error, now time.Time) {
	b.lastTold = now
	m := b.peers[a.peer]
	if errors.Is(err, errNoEndpoint) { // the same for each pin
		if m != nil {
			b.wellSince(&m.apart, now)
			b.failed(&m.apart, now, settleTime, b.cfg.RetryMax, "")
		}
		return
	}
	if m != nil {
		m.apart = pause{}
	}
	if !slices.Contains(e.toldTo, a.peer) {
		e.toldTo = append(e.toldTo, a.peer) // also after an error: it may have come through
	}
	b.failed(&e.told, now, settleTime, b.cfg.RetryMax, "")
	if err == nil {
		e.nextAsk, e.askEvery = now, b.cfg.MoveEvery
	}
	if errors.Is(err, errOthers) {
		b.cfg.Log.Warn("egress", "do", string(a.kind), "cid", e.cid, "err", err)
	}
}

// errOthers says that a peer has given a pin to others than those who have it.
var errOthers = errors.New("it is allocated to others")

// keeps says whether the peers that have a pin would keep it if what one was told became the
// pin set's. What would not is an error, and it is not taken back: taking out a version of a
// pin makes each peer that hears of it let go of its copy, even if another version stays.
func (a *action) keeps(p *wirePin) error {
	if a.max < 0 {
		return nil
	}
	n := 0
	for _, id := range a.keep {
		if slices.Contains(p.Allocations, id) {
			n++
		}
	}
	if n >= min(a.max, len(a.keep)) {
		return nil
	}
	return fmt.Errorf("%w: %s was told of a pin: %w: %s instead of %s", ErrCluster, a.peer, errOthers,
		strings.Join(p.Allocations, ", "), strings.Join(a.keep, ", "))
}

// owners remembers which peer each endpoint is of: one that hangs is not asked for it each
// time another one is meant.
type owners struct {
	mu  sync.Mutex
	ids []string // by endpoint; empty is not known
}

func (o *owners) of(peer string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Index(o.ids, peer)
}

func (o *owners) enter(i int, peer string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids[i] = peer
}

// whose asks an endpoint which peer it is of.
func (c *Client) whose(ctx context.Context, i int) (string, error) {
	var id wirePeer
	err := c.try(ctx, c.endpoints[i], &request{
		method: http.MethodGet, path: "/id", timeout: min(c.cfg.CallTimeout, connectTime),
		read: func(d *json.Decoder) error { return d.Decode(&id) },
	})
	if err != nil {
		return "", err
	}
	c.owners.enter(i, id.ID)
	return id.ID, nil
}

// endpointOf finds the endpoint of one peer: the one that it had, if that says so still, and
// else the first of all that says so.
func (c *Client) endpointOf(ctx context.Context, peer string) (*endpoint, error) {
	if i := c.owners.of(peer); i >= 0 {
		id, err := c.whose(ctx, i)
		if err == nil && id == peer {
			return c.endpoints[i], nil
		}
		if err != nil {
			c.owners.enter(i, "") // another one may be its own too, and answer
		}
	}
	all, found := context.WithCancel(ctx)
	defer found()
	errs, ids := make([]error, len(c.endpoints)), make([]string, len(c.endpoints))
	var asking sync.WaitGroup
	for i := range c.endpoints {
		asking.Go(func() { // ends with the call
			if ids[i], errs[i] = c.whose(all, i); ids[i] == peer {
				found()
			}
		})
	}
	asking.Wait()
	if i := slices.Index(ids, peer); i >= 0 {
		return c.endpoints[i], nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, errors.Join(ctx.Err(), errors.Join(errs...))
	}
	return nil, errors.Join(fmt.Errorf("%w: %s", errNoEndpoint, peer), errors.Join(errs...))
}

// tell puts a CID into the pin set by the endpoint of one peer. Without such an endpoint
// the error is errNoEndpoint. It takes no longer than one call may.
func (c *Client) tell(ctx context.Context, peer, cid string, o *options) (p wirePin, err error) {
	q, err := o.query()
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.CallTimeout, errTime)
	defer cancel()
	e, err := c.endpointOf(ctx, peer)
	if err != nil {
		return p, err
	}
	err = c.try(ctx, e, &request{
		method: http.MethodPost, path: pinPath(cid), query: q,
		read: func(d *json.Decoder) error { return d.Decode(&p) },
	})
	return p, err
}

// untell takes a CID out of the pin set by the endpoints of peers that were told of it. It
// takes no longer than one call may, for all of them.
func (c *Client) untell(ctx context.Context, peers []string, cid string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.CallTimeout, errTime)
	defer cancel()
	var errs []error
	for _, peer := range peers {
		e, err := c.endpointOf(ctx, peer)
		if err == nil {
			var p wirePin
			err = c.try(ctx, e, &request{
				method: http.MethodDelete, path: pinPath(cid),
				read: func(d *json.Decoder) error { return d.Decode(&p) },
			})
		}
		if err != nil && (errors.Is(err, errNoEndpoint) || !errors.Is(err, ErrNotFound)) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
