package cluster

import (
	"slices"
	"time"
)

// waitEvery is how often a pin is asked for that somebody waits for.
const waitEvery = 250 * time.Millisecond

// pingsAgain is how soon it is looked whether a peer that was not heard is heard again: on
// a busy machine pings come late.
const pingsAgain = 2 * time.Second

// pingsEvery is how often to look which peers are alive.
func (b *book) pingsEvery(now time.Time) time.Duration {
	for _, m := range b.peers {
		if !m.pinged && now.Sub(m.since) < b.cfg.PeersEvery {
			return min(pingsAgain, b.cfg.PeersEvery)
		}
	}
	return b.cfg.PeersEvery
}

// watch returns what to ask peers for without delay: the newest pin, those that somebody
// waits for, and those that are in the way of these.
func (b *book) watch(now time.Time) []string {
	var due []*entry
	for _, e := range b.watched() {
		every := b.cfg.WatchEvery
		switch {
		case b.urgent(e):
			every = min(b.cfg.MoveEvery, waitEvery)
		case !e.nextAsk.IsZero():
			every = min(every, e.askEvery)
		}
		if now.Sub(e.askedFor) >= every || !e.nextAsk.IsZero() && !now.Before(e.nextAsk) {
			due = append(due, e)
		}
	}
	return b.asking(due, now)
}

// urgent says whether somebody waits for what peers say of a pin.
func (b *book) urgent(e *entry) bool {
	return e.waiting > 0 || b.inFlight(e) && b.heldUp()
}

// heldUp says whether somebody waits for a pin that is not made yet. While another one
// takes the one place, who waits for this one waits for that one too.
func (b *book) heldUp() bool {
	for _, e := range b.order() { // those that are waited for stand in front
		switch {
		case e.waiting > 0 && !e.in && !e.bad:
			return true
		case e.waiting == 0 && e.cid != b.newest:
			return false
		}
	}
	return false
}

// watched are the pins that watch is about.
func (b *book) watched() []*entry {
	var all []*entry
	for _, e := range b.order() { // those that are waited for stand in front
		if e.cid != b.newest && e.waiting == 0 {
			break
		}
		if e.in {
			all = append(all, e)
		}
	}
	if len(b.flights) > manyPins || !b.heldUp() {
		return all // the way is not soon clear, or nobody minds
	}
	for _, e := range b.flights {
		if b.inFlight(e) && e.cid != b.newest && e.waiting == 0 {
			all = append(all, e)
		}
	}
	return all
}

// sweep returns what to ask peers for besides: what is not settled, when its time has
// come; else, if there is time, those that were not asked for the longest.
func (b *book) sweep(now time.Time, rotate bool) []string {
	var due, rest []*entry
	for _, e := range b.order() {
		switch {
		case !e.in || e.cid == b.newest || e.waiting > 0:
		case !e.nextAsk.IsZero() && !now.Before(e.nextAsk):
			due = append(due, e)
		case e.nextAsk.IsZero() && rotate:
			rest = append(rest, e)
		}
	}
	slices.SortFunc(due, func(x, y *entry) int { return x.nextAsk.Compare(y.nextAsk) })
	slices.SortFunc(rest, func(x, y *entry) int { return x.asked.Compare(y.asked) })
	return b.asking(append(due, rest...), now)
}

// asking takes as many pins as one call can be about.
func (b *book) asking(due []*entry, now time.Time) []string {
	due = due[:min(len(due), maxBatch)]
	cids := make([]string, 0, len(due))
	for _, e := range due {
		e.askedFor = now
		if !e.nextAsk.IsZero() {
			e.nextAsk = now.Add(max(e.askEvery, b.cfg.MoveEvery)) // should there be no answer
		}
		cids = append(cids, e.cid)
	}
	return cids
}
