package cluster

import (
	"maps"
	"slices"
	"time"
)

// settleTime is for how long after a change of the pin set a peer may not know it.
const settleTime = 15 * time.Second

// minProgress is how much space a peer must have lost to count as copying something.
const minProgress = 1 << 20

// enterPin enters a pin as it stands in the pin set.
func (b *book) enterPin(p *wirePin, now time.Time) {
	e := b.pins[p.CID]
	ours := b.cfg.Owner != "" && p.Metadata[OwnerKey] == b.cfg.Owner
	if e == nil {
		if !ours {
			return
		}
		e = b.enter(p.CID, now)
	}
	if !e.in {
		e.in, e.wasIn, e.progress, e.nextAsk = true, true, now, now
	}
	e.ours, e.name, e.metadata, e.allocs = ours, p.Name, p.Metadata, p.Allocations
	e.everywhere, e.created, e.expires = p.everywhere(), p.Timestamp, p.expires()
	e.min, e.max, e.listed = p.Min, p.Max, true
}

// listing is a list of the pin set that is being read.
type listing struct {
	begun time.Time
	seen  map[string]bool
}

// enterList ends a complete list: what is not in it is missing.
func (b *book) enterList(l *listing, now time.Time) {
	b.listed, b.looked = l.begun, true
	for _, e := range b.pins {
		if !l.seen[e.cid] {
			b.missing(e, l.begun)
		}
	}
	b.sweepOut()
	b.judgeAll(now)
}

// missing enters that a pin is not in the pin set; of one that was just put there, that
// says nothing.
func (b *book) missing(e *entry, asked time.Time) {
	if e.in && asked.Sub(e.accepted) > settleTime {
		e.in = false
		clear(e.reports)
	}
}

// sweepOut forgets what is neither wanted nor pinned, nor about to be.
func (b *book) sweepOut() {
	for cid, e := range b.pins {
		if e.want == nil && !e.in && e.waiting == 0 && e.acting == "" {
			b.forget(cid)
		}
	}
}

func (b *book) forget(cid string) {
	delete(b.pins, cid)
	b.sorted = nil
}

// enterStatus enters what peers report of a CID, asked for at a time.
func (b *book) enterStatus(s *wireStatus, asked, now time.Time) {
	e := b.pins[s.CID]
	if e == nil || len(s.Peers) == 0 {
		return
	}
	absent := len(s.Allocations) == 0
	for _, p := range s.Peers {
		absent = absent && statusFrom(p.Status) == statusUnpinned
	}
	e.asked = asked
	if absent {
		b.missing(e, asked)
		b.schedule(e, false, now)
		b.judge(e, now)
		return
	}
	if !e.in {
		e.in, e.wasIn, e.progress = true, true, now
	}
	if len(s.Allocations) > 0 || s.Metadata != nil {
		e.allocs, e.name, e.metadata, e.created = s.Allocations, s.Name, s.Metadata, s.Created
		e.ours = b.cfg.Owner != "" && s.Metadata[OwnerKey] == b.cfg.Owner
		e.everywhere = len(s.Allocations) == 0
	}
	moved := false
	for _, id := range b.allocated(e) {
		if p, ok := s.Peers[id]; ok {
			moved = b.enterReport(e, id, &p, asked, now) || moved
		} else if r := e.reports[id]; r != nil && r.at.Before(asked) {
			// The cluster does not even name it: it is no member any more.
			r.status, r.since, r.at = statusClusterError, now, asked
		}
	}
	maps.DeleteFunc(e.reports, func(id string, _ *report) bool { return !slices.Contains(b.allocated(e), id) })
	b.schedule(e, moved, now)
	b.judge(e, now)
}

// enterReport enters what one peer says, and returns whether it is something new.
func (b *book) enterReport(e *entry, id string, p *wireState, asked, now time.Time) bool {
	m := b.member(id, now)
	if p.Name != "" {
		m.name = p.Name
	}
	if p.IPFS != "" && m.ipfs == "" {
		m.ipfs = p.IPFS // without the addresses: only public ones are told here
	}
	s := statusFrom(p.Status)
	r := e.reports[id]
	if r == nil && (s == statusUnexpectedlyUnpinned || s == statusUnpinned) && asked.Sub(e.accepted) < settleTime {
		return true // it has not heard of the pin yet: it has lost nothing, and is asked again soon
	}
	if r == nil {
		r = &report{since: now}
		e.reports[id] = r
	}
	if asked.Before(r.at) {
		return false
	}
	if r.status == statusPinned && (s == statusPinQueued || s == statusPinning) && asked.Sub(e.accepted) < settleTime && b.current(id, r) {
		// We changed what the pin says of itself, and the peer looks whether it has it.
		r.at = asked
		return false
	}
	moved := r.status != s
	if moved {
		r.since = now
	}
	r.status, r.at, r.name, r.attempts = s, asked, m.name, p.Attempts
	switch {
	case p.Error != "":
		r.error = plain(p.Error)
	case s == statusPinned:
		r.error = ""
	}
	f, all := furthest(s), furthest(statusPinned)
	if f > r.furthest || r.furthest == all && f > 0 && f < all { // on, or anew
		r.furthest, e.progress = f, now
	}
	return moved
}

// furthest orders the way of a copy. Each step counts as progress once.
func furthest(s status) int {
	switch s {
	case statusPinQueued:
		return 1
	case statusPinning:
		return 2
	case statusPinned:
		return 3
	}
	return 0
}

// schedule sets when to ask for a pin again: soon while it moves, less and less often
// while nothing changes, and when its turn comes if it has all its copies.
func (b *book) schedule(e *entry, moved bool, now time.Time) {
	if e.in && b.copies(e) >= b.target() {
		e.nextAsk, e.askEvery = time.Time{}, b.cfg.MoveEvery
		return
	}
	if moved {
		e.askEvery = b.cfg.MoveEvery
	} else {
		e.askEvery = min(e.askEvery*3/2, 3*b.cfg.WatchEvery)
	}
	e.nextAsk = now.Add(e.askEvery)
}

// doubts enters of which peers an answer to one call, asked for at a time, said only that
// they cannot tell. Who said anything is there since then: so what it said counts.
func (b *book) doubts(all []*wireStatus, asked, now time.Time) {
	said, why := make(map[string]bool), make(map[string]string)
	for _, s := range all {
		for id, p := range s.Peers {
			switch statusFrom(p.Status) {
			case statusClusterError:
				why[id] = plain(p.Error)
			case statusRemote, statusUnpinned: // said by the one we asked
			default:
				said[id] = true
			}
		}
	}
	changed := false
	for id := range said {
		m := b.member(id, now)
		m.seen = now
		if asked.Before(m.went) {
			continue // it may have gone after it said that
		}
		changed = b.turn(m, now, func(m *member) { m.doubt, m.heard = "", true }) || changed
		if asked.Before(m.since) { // by this answer, or by a ping while it was under way
			m.since, changed = asked, true
		}
	}
	for id, text := range why {
		m := b.member(id, now)
		if said[id] || m.up() && asked.Before(m.since) {
			continue // it has come back since
		}
		if text == "" {
			text = "it does not say why"
		}
		changed = b.turn(m, now, func(m *member) { m.doubt, m.doubted = text, laneWatch }) || changed
	}
	if changed {
		b.judgeAll(now)
	}
}

// turn changes a peer, and returns whether it came up or went down by that.
func (b *book) turn(m *member, now time.Time, change func(*member)) bool {
	before, since := m.up(), m.since
	change(m)
	if m.up() == before {
		return false
	}
	m.since = now
	if before {
		m.went = now
	}
	b.version++
	for _, e := range b.pins {
		if !slices.Contains(b.allocated(e), m.id) {
			continue
		}
		if !m.up() {
			continue
		}
		e.nextAsk, e.askEvery = now, b.cfg.MoveEvery
		if now.Sub(since) < b.patience(e) {
			continue // one that comes and goes must not put off that a pin has stalled
		}
		e.progress = now
		if r := e.reports[m.id]; r != nil {
			r.furthest = 0
		}
	}
	return true
}

func (b *book) member(id string, now time.Time) *member {
	m := b.peers[id]
	if m == nil {
		m = &member{id: id, since: now, free: -1, used: -1}
		b.peers[id] = m
	}
	return m
}

// enterPings enters which peers the cluster hears.
func (b *book) enterPings(all []wireMetric, now time.Time) (changed bool) {
	heard := make(map[string]bool, len(all))
	for _, p := range all {
		if p.Peer != "" && p.Valid {
			heard[p.Peer] = true
		}
	}
	if len(heard) == 0 {
		return false // no cluster is without any
	}
	if !b.met {
		b.met = true
		b.forgetStrangers(heard)
	}
	for id := range heard {
		if b.peers[id] == nil {
			changed = true
		}
		b.member(id, now).seen = now
	}
	for id, m := range b.peers {
		if !heard[id] && !m.up() && now.Sub(m.since) > forgetAfter && !b.isAllocated(id) {
			delete(b.peers, id)
			continue
		}
		changed = b.turn(m, now, func(m *member) {
			if m.pinged || heard[id] { // else it is there if it answers all the same
				m.heard, m.pinged = heard[id], heard[id]
			}
			if !m.heard {
				m.doubt = "" // it is gone: that is all there is to say
			}
		}) || changed
	}
	if changed {
		b.judgeAll(now)
	}
	return changed
}

// forgetStrangers forgets the members that were remembered if none of them is there: this
// is another cluster than it was.
func (b *book) forgetStrangers(heard map[string]bool) {
	for id := range b.peers {
		if heard[id] {
			return
		}
	}
	for id := range b.peers {
		if !b.isAllocated(id) {
			delete(b.peers, id)
		}
	}
}

// forgetAfter is how long a peer may be away before it was one.
const forgetAfter = 24 * time.Hour

func (b *book) isAllocated(id string) bool {
	for _, e := range b.pins {
		if slices.Contains(e.allocs, id) {
			return true
		}
	}
	return false
}

// enterPeers enters what the peers say of themselves.
func (b *book) enterPeers(all []wirePeer, now time.Time) {
	changed := false
	for i := range all {
		p := &all[i]
		m := b.member(p.ID, now)
		if p.Error != "" {
			changed = b.turn(m, now, func(m *member) { m.doubt, m.doubted = plain(p.Error), lanePeers }) || changed
			continue
		}
		if m.doubt != "" && (m.doubted == lanePeers || !b.isAllocated(m.id)) {
			changed = b.turn(m, now, func(m *member) { m.doubt = "" }) || changed
		}
		m.name, m.version, m.ipfsError, m.seen = p.Name, p.Version, plain(p.IPFS.Error), now
		if p.IPFS.ID != "" {
			m.ipfs, m.addrs = p.IPFS.ID, dialable(p.IPFS.ID, p.IPFS.Addresses)
		}
	}
	if changed {
		b.judgeAll(now)
	}
}

// enterFree enters how much space peers have left. That it shrinks is the only sign that
// a large copy goes on.
func (b *book) enterFree(free map[string]int64, now time.Time) {
	for id, n := range free {
		m := b.peers[id]
		if m == nil {
			continue
		}
		if m.free-n > minProgress {
			for _, e := range b.pins {
				if r := e.reports[id]; r != nil && r.status == statusPinning {
					e.progress = now
				}
			}
		}
		m.free = n
	}
}
