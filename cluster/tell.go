package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A change of the pin set is told by one peer to the others. One that fetches nothing from
// them, because its network or its service is at fault, reports what it should have as
// unpinned, and what is told anywhere else does not change that. It does know what it was
// told itself: so it is, if one of the endpoints is its own.

// planTell finds a pin of which a peer that should have it has not heard. A peer that hears
// of nothing is told no faster than one pin after the other has settled.
func (b *book) planTell(order []*entry, now time.Time) *action {
	if now.Sub(b.lastTold) < settleTime {
		return nil
	}
	for _, e := range order {
		if e.want == nil || !e.in || !e.told.over(now) || !e.again.over(now) {
			continue
		}
		ids := b.unheard(e, now)
		if len(ids) == 0 {
			continue
		}
		if now.Sub(e.told.until) > b.cfg.RetryMax {
			e.told = pause{} // it was well since
		}
		a := &action{kind: doTell, cid: e.cid, options: b.optionsOf(e, now)}
		a.peer = ids[e.told.tries%len(ids)]
		if !e.everywhere {
			a.prefer = e.allocs // it chooses as if there were no pin
		}
		return a
	}
	return nil
}

// unheard are the peers that should have a pin and have said for so long that it is not in
// the pin set that they should have heard of it.
func (b *book) unheard(e *entry, now time.Time) (ids []string) {
	for _, id := range b.allocated(e) {
		r := e.reports[id]
		if r == nil || r.status != statusUnpinned || !b.current(id, r) {
			continue
		}
		if now.Sub(e.accepted) >= settleTime && now.Sub(r.since) >= settleTime && now.Sub(b.peers[id].since) >= settleTime {
			ids = append(ids, id)
		}
	}
	return ids
}

// wasTold enters that a peer was told of a pin, or could not be. It says nothing of the
// pin, nor of the cluster: another peer has accepted it, and answers.
func (b *book) wasTold(e *entry, err error, now time.Time) {
	b.lastTold = now
	b.failed(&e.told, now, settleTime, b.cfg.RetryMax, "")
	if err == nil {
		e.nextAsk, e.askEvery = now, b.cfg.MoveEvery
	}
}

// tell puts a CID into the pin set by the endpoint of one peer. Without such an endpoint
// the error is ErrNotFound.
func (c *Client) tell(ctx context.Context, peer, cid string, o *options) error {
	q, err := o.query()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var errs []error
	for _, i := range c.choice.order() {
		var id wirePeer
		err := c.try(ctx, c.endpoints[i], &request{
			method: http.MethodGet, path: "/id", timeout: min(c.cfg.CallTimeout, connectTime),
			read: func(d *json.Decoder) error { return d.Decode(&id) },
		})
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case err != nil:
			errs = append(errs, err)
		case id.ID == peer:
			var p wirePin
			return c.try(ctx, c.endpoints[i], &request{
				method: http.MethodPost, path: pinPath(cid), query: q,
				read: func(d *json.Decoder) error { return d.Decode(&p) },
			})
		}
	}
	return errors.Join(fmt.Errorf("%w: an endpoint of %s", ErrNotFound, peer), errors.Join(errs...))
}
