package cluster

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// Pins are all that is wanted, and what of ours is pinned still: the newest first.
func (k *Keeper) Pins() []Pin {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	order := k.book.order()
	all := make([]Pin, 0, len(order))
	for _, e := range order {
		all = append(all, k.book.pin(e, now))
	}
	return all
}

// Pin is one of Pins.
func (k *Keeper) Pin(cid string) (Pin, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.book.pins[cid]
	if e == nil {
		return Pin{}, false
	}
	return k.book.pin(e, k.cfg.Now()), true
}

// InFlight are the CIDs that peers are copying, also such that are not wanted any more:
// their blocks must stay with us.
func (k *Keeper) InFlight() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	var cids []string
	for _, e := range k.book.order() {
		if k.book.underWay(e, now) {
			cids = append(cids, e.cid)
		}
	}
	return cids
}

// underWay says whether peers may want blocks of a pin.
func (b *book) underWay(e *entry, now time.Time) bool {
	return e.acting != "" && e.acting != doUnpin || e.in && b.atWork(e, now)
}

func (b *book) pin(e *entry, now time.Time) Pin {
	p := Pin{
		CID: e.cid, Name: e.name, Metadata: maps.Clone(e.metadata), State: e.state, Since: e.since, Reason: e.reason,
		Copies: b.copies(e), Min: b.least(), Target: b.target(), AsOf: e.asked, Stale: b.stale(e, now),
		UnderWay: b.underWay(e, now), Wanted: e.want != nil, Created: e.created, Expires: e.expires,
	}
	if e.want != nil {
		p.Name, p.Metadata, p.Newest = e.want.Name, maps.Clone(e.want.Metadata), e.want.Newest
	}
	for _, id := range b.allocated(e) {
		p.Peers = append(p.Peers, b.pinPeer(e, id))
	}
	slices.SortFunc(p.Peers, func(x, y PinPeer) int { return strings.Compare(x.Name+x.ID, y.Name+y.ID) })
	return p
}

func (b *book) stale(e *entry, now time.Time) bool {
	return e.in && (b.away != "" || now.Sub(e.asked) > b.cfg.StaleAfter)
}

func (b *book) pinPeer(e *entry, id string) PinPeer {
	p := PinPeer{ID: id, Name: b.nameOf(e, id), Status: StatusSilent, Held: b.holds(e, id)}
	r, m := e.reports[id], b.peers[id]
	if m != nil && !m.up() {
		p.Since, p.Error = m.since, m.doubt
		return p
	}
	if r != nil && b.current(id, r) {
		p.Status, p.Error, p.Since, p.Attempts = r.status.String(), r.error, r.since, r.attempts
	}
	return p
}

// Summary is the newest pin and the cluster at a glance.
func (k *Keeper) Summary() Summary {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, now := k.book, k.cfg.Now()
	s := Summary{Endpoint: k.client.Endpoint(), Peers: len(b.peers), PeersUp: len(b.upPeers()), Min: b.least(), Target: b.target()}
	s.Reachable = b.met && b.away == ""
	for _, l := range []lane{lanePings, laneAct, laneList, laneWatch, laneSweep, lanePeers, laneSpace, laneGraph} {
		if f, ok := k.errors[l]; ok {
			s.Error, s.ErrorSince = plain(f.err.Error()), f.since
			s.Refused = errors.Is(f.err, ErrRefused)
			break
		}
	}
	if e := b.pins[b.newest]; e != nil {
		s.CID, s.Copies, s.State, s.Since, s.Reason, s.AsOf = e.cid, b.copies(e), e.state, e.since, e.reason, e.asked
		s.Stale = b.stale(e, now)
	}
	return s
}

// Peers are the members of the cluster, and who was one in the last day, by name.
func (k *Keeper) Peers() []Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.book
	all := make([]Peer, 0, len(b.peers))
	at := make(map[string]int, len(b.peers))
	for id, m := range b.peers {
		p := Peer{
			ID: id, Name: m.name, Version: m.version, Up: m.up(), Since: m.since, LastSeen: m.seen, Error: m.ipfsError,
			Free: m.free, Used: m.used, IPFS: m.ipfs, IPFSAddrs: slices.Clone(m.addrs), Sees: slices.Clone(m.sees),
		}
		if p.Name == "" {
			p.Name = shortID(id)
		}
		switch {
		case m.doubt != "":
			p.Error = m.doubt
		case !m.heard && p.Error == "":
			p.Error = "the cluster does not hear it"
		}
		all = append(all, p)
	}
	slices.SortFunc(all, byName)
	for i := range all {
		at[all[i].ID] = i
	}
	for _, e := range b.pins {
		if e.in {
			b.count(e, all, at)
		}
	}
	return all
}

// count adds a pin to the numbers of its peers.
func (b *book) count(e *entry, all []Peer, at map[string]int) {
	for _, id := range b.allocated(e) {
		i, ok := at[id]
		if !ok {
			continue
		}
		p := &all[i]
		p.Pins++
		r := e.reports[id]
		switch {
		case b.holds(e, id):
			p.Held++
		case r != nil && b.current(id, r) && (r.status == statusPinError || r.status == statusUnexpectedlyUnpinned || r.status == statusClusterError):
			p.Errors++
		}
	}
}
