package cluster

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"
)

// kind is what can be done to a pin.
type kind string

const (
	doPin      kind = "pin"      // put it into the pin set
	doUpdate   kind = "update"   // the same, as an update of the version before
	doDescribe kind = "describe" // correct what stands there about it, or renew it
	doMove     kind = "move"     // have it allocated to peers that are up
	doRecover  kind = "recover"  // have peers try again
	doTell     kind = "tell"     // put it into the pin set by a peer that has not heard of it
	doUnpin    kind = "unpin"
)

// action is one call that changes something.
type action struct {
	kind kind
	cid  string
	peer string   // whom doTell is for
	keep []string // the peers that doTell must not take a pin from
	told []string // who was told by doTell of what doUnpin takes back
	options
}

const (
	manyPins   = 10 // a backlog of more than this goes faster
	manyFaster = 10
)

// plan returns the next thing to do, or nil.
func (b *book) plan(now time.Time) *action {
	if !b.given || !b.looked || !b.pause.over(now) {
		return nil
	}
	b.lookAround()
	order := make([]*entry, 0, 16)
	for _, e := range b.order() {
		if now.After(e.calm) {
			order = append(order, e)
		}
	}
	for _, next := range []func([]*entry, time.Time) *action{
		b.planRecover, b.planPin, b.planMove, b.planTell, b.planDescribe, b.planUnpin,
	} {
		if a := next(order, now); a != nil {
			return a
		}
	}
	return nil
}

// order is the pins in the order of their turn: the newest, those that somebody waits
// for, and the others as they were given.
func (b *book) order() []*entry {
	if b.sorted != nil {
		return b.sorted
	}
	all := slices.Collect(maps.Values(b.pins))
	first := func(e *entry) int {
		switch {
		case e.want == nil:
			return 3
		case e.want.Newest:
			return 0
		case e.waiting > 0:
			return 1
		}
		return 2
	}
	slices.SortFunc(all, func(x, y *entry) int {
		return cmp.Or(cmp.Compare(first(x), first(y)), cmp.Compare(x.seq, y.seq), cmp.Compare(x.cid, y.cid))
	})
	b.sorted = all
	return all
}

// planRecover finds a pin that peers gave up.
func (b *book) planRecover(order []*entry, now time.Time) *action {
	for _, e := range order {
		if e.want == nil || !e.in || !e.mend.over(now) {
			continue
		}
		for _, id := range b.allocated(e) {
			r := e.reports[id]
			if r == nil || !b.current(id, r) {
				continue
			}
			if r.status == statusPinError || r.status == statusUnexpectedlyUnpinned {
				return &action{kind: doRecover, cid: e.cid}
			}
		}
	}
	return nil
}

// inFlight says whether a pin takes the one place there is.
func (b *book) inFlight(e *entry) bool {
	return e.in && (e.state == StateQueued || e.state == StateCopying) && !(e.asked.IsZero() && e.accepted.IsZero())
}

// free says whether the one place is free, and enough time has passed since the last
// pin. Those who wait do not wait for that time.
func (b *book) free(now time.Time, backlog int, hurry bool) bool {
	if len(b.flights) > 0 {
		return false
	}
	gap := b.cfg.PinEvery
	if backlog > manyPins {
		gap /= manyFaster
	}
	return hurry || now.Sub(b.lastPin) >= gap
}

// planPin finds what is not in the pin set.
func (b *book) planPin(order []*entry, now time.Time) *action {
	var first *entry
	backlog := 0
	for _, e := range order {
		if e.want == nil || e.in || e.bad {
			continue
		}
		backlog++
		if first == nil && e.again.over(now) {
			first = e
		}
	}
	if first == nil || !b.free(now, backlog, first.waiting > 0) {
		return nil
	}
	a := &action{kind: doPin, cid: first.cid, options: b.optionsOf(first, now)}
	if b.canUpdate(first) {
		a.kind, a.update = doUpdate, first.want.Update
	}
	return a
}

// canUpdate says whether a pin may be made as an update: the version before is ours,
// has the copies that the policy wants, and all its peers report it. An update goes to
// the peers of that version, and takes its name for what it is from it.
func (b *book) canUpdate(e *entry) bool {
	w := e.want
	if w.Update == "" || w.Update == e.cid || !w.SmallChange || e.again.tries > 0 {
		return false
	}
	from := b.pins[w.Update]
	if from == nil || !from.in || !from.ours || !from.listed || from.max != b.policy.Max || from.min < b.policy.Min {
		return false
	}
	all := b.allocated(from)
	return len(all) > 0 && len(all) == b.target() && b.copies(from) == len(all)
}

// optionsOf is what a pin should say of itself.
func (b *book) optionsOf(e *entry, now time.Time) options {
	o := options{
		name: e.want.Name, metadata: e.meta, min: b.policy.Min, max: b.policy.Max,
		prefer: b.preferred(),
	}
	if b.policy.Expiry > 0 {
		o.expires = now.Add(b.policy.Expiry).UTC().Truncate(time.Second)
	}
	return o
}

func (b *book) metadataOf(w *Want) map[string]string {
	m := make(map[string]string, len(w.Metadata)+1)
	maps.Copy(m, w.Metadata)
	if b.cfg.Owner != "" {
		m[OwnerKey] = b.cfg.Owner
	}
	return m
}

// preferred are the IDs of the peers that the policy names.
func (b *book) preferred() []string {
	var ids []string
	for _, p := range b.policy.Peers {
		if _, ok := b.peers[p]; ok {
			ids = append(ids, p)
			continue
		}
		for id, m := range b.peers {
			if m.name == p {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// planMove finds a pin that a dead peer should have, or that has fewer peers than it
// could have.
func (b *book) planMove(order []*entry, now time.Time) *action {
	if b.policy.Max < 0 {
		return nil
	}
	up := b.upPeers()
	for _, e := range order {
		if e.want == nil || !e.in || e.everywhere || b.inFlight(e) {
			continue
		}
		if !b.canMove(e, up, now) {
			e.shift = pause{}
			continue
		}
		if !e.again.over(now) || !e.shift.over(now) {
			continue
		}
		if !b.free(now, manyPins+1, e.waiting > 0) {
			return nil
		}
		a := &action{kind: doMove, cid: e.cid, options: b.optionsOf(e, now)}
		// The cluster leaves the allocations alone as long as the minimum is met.
		a.min = max(1, min(a.max, len(up)))
		return a
	}
	return nil
}

func (b *book) canMove(e *entry, up []string, now time.Time) bool {
	alive, dead := 0, false
	for _, id := range e.allocs {
		m := b.peers[id]
		switch {
		case m != nil && m.up():
			alive++
		case m == nil || now.Sub(m.since) >= b.cfg.DeadAfter:
			dead = true
		default:
			return false // it may come back
		}
	}
	if alive >= b.target() || len(up) <= alive {
		return false // nobody else could have it
	}
	// One with too few allocations gets more as soon as the peers have heard of it.
	return dead || now.Sub(e.created) >= settleTime
}

// planDescribe finds a pin about which something else should stand in the pin set.
func (b *book) planDescribe(order []*entry, now time.Time) *action {
	for _, e := range order {
		if e.want == nil || !e.in {
			continue
		}
		if !b.differs(e, now) {
			e.words = pause{}
			continue
		}
		if e.again.over(now) && e.words.over(now) && !b.queued(e) {
			return &action{kind: doDescribe, cid: e.cid, options: b.optionsOf(e, now)}
		}
	}
	return nil
}

// calmTime is how long there is nothing to do for a pin if nobody says anything new of it.
func (b *book) calmTime(e *entry, now time.Time) time.Time {
	switch {
	case e.want == nil || !e.in || e.state != StateHeld || e.have < b.target() || b.differs(e, now):
		return time.Time{}
	case b.policy.Expiry > 0:
		return e.expires.Add(-b.policy.Expiry / 2)
	}
	return now.Add(365 * 24 * time.Hour)
}

// differs says whether a pin has to be described anew, or renewed.
func (b *book) differs(e *entry, now time.Time) bool {
	switch {
	case !maps.Equal(e.metadata, e.meta) || e.name != e.want.Name:
		return true
	case !e.listed:
		return false
	case e.max != b.policy.Max || e.min < b.policy.Min:
		return true
	case b.policy.Expiry == 0 || e.expires.IsZero():
		return (b.policy.Expiry == 0) != e.expires.IsZero()
	}
	return e.expires.Sub(now) < b.policy.Expiry/2
}

// queued says whether a peer has not begun with a pin: to describe it now would make a
// plain pin of an update.
func (b *book) queued(e *entry) bool {
	for _, id := range b.allocated(e) {
		r := e.reports[id]
		if m := b.peers[id]; m != nil && !m.up() {
			continue
		}
		if r == nil || r.status == statusPinQueued {
			return true
		}
	}
	return false
}

// planUnpin finds a pin of ours that nobody wants any more, once the newest one is held
// by all peers that are about to have it. The owner in its metadata is not enough: another
// machine that was restored from a backup of this one, or the machine of which this one is
// the backup, writes the same there, and its pins may be newer than ours.
func (b *book) planUnpin(order []*entry, now time.Time) *action {
	newest := b.pins[b.newest]
	safe := newest != nil && newest.want != nil && newest.state == StateHeld && !b.atWork(newest, now) && !b.listed.IsZero()
	for _, e := range order {
		if e.want != nil || !e.in || !e.ours || e.waiting > 0 || !e.again.over(now) {
			continue
		}
		if safe && slices.Contains(b.mine, e.cid) || b.released[e.cid] {
			return &action{kind: doUnpin, cid: e.cid, told: b.reachable(e.toldTo, now)}
		}
	}
	return nil
}

// begin enters that an action is under way. Until it is done, the pin may be in the pin
// set or not.
func (b *book) begin(a *action) {
	if e := b.pins[a.cid]; e != nil {
		e.acting = a.kind
	}
}

// done enters how an action ended.
func (b *book) done(a *action, p *wirePin, err error, now time.Time) {
	e := b.pins[a.cid]
	if a.kind == doTell {
		if e != nil {
			e.acting = ""
			b.wasTold(e, a, err, now)
			b.sweepOut() // it may not be wanted any more
		}
		return
	}
	missing := errors.Is(err, ErrNotFound)
	silence := err != nil && !missing && !errors.Is(err, ErrCluster) && !errors.Is(err, ErrConfig)
	if silence {
		b.failed(&b.pause, now, time.Second, maxSilence, err.Error())
	} else {
		b.pause = pause{}
	}
	if e == nil {
		return
	}
	e.acting = ""
	defer b.sweepOut() // it may not be wanted any more
	defer b.judge(e, now)
	switch {
	case a.kind == doRecover:
		// Whether it helped, the peers will tell.
		b.failed(&e.mend, now, b.cfg.RetryMin, b.cfg.RetryMax, "")
		e.nextAsk, e.askEvery = now, b.cfg.MoveEvery
	case a.kind == doUnpin && (err == nil || missing):
		b.gone(e)
	case err == nil:
		b.accepted(e, a, p, now)
	case missing && a.kind == doUpdate:
		if from := b.pins[a.update]; from != nil {
			b.missing(from, now)
		}
		e.again = pause{tries: 1} // at once, as a plain pin
	case silence && !errors.Is(err, ErrAnswer):
		// No pin is to blame.
	default:
		b.failed(&e.again, now, b.cfg.RetryMin, b.cfg.RetryMax, plain(err.Error()))
	}
}

// maxSilence is the longest pause after calls that nobody answered.
const maxSilence = 30 * time.Second

// accepted enters that the cluster has written a pin into its set.
func (b *book) accepted(e *entry, a *action, p *wirePin, now time.Time) {
	e.accepted, e.nextAsk, e.askEvery = now, now, b.cfg.MoveEvery
	e.again = pause{}
	switch a.kind {
	case doDescribe:
		b.failed(&e.words, now, settleTime, b.cfg.RetryMax, "")
	case doMove:
		b.failed(&e.shift, now, settleTime, b.cfg.RetryMax, "")
	}
	if a.kind != doDescribe {
		b.lastPin, e.progress, e.mend = now, now, pause{}
		for _, r := range e.reports {
			r.furthest = 0
		}
	}
	b.enterPin(p, now)
	e.in, e.wasIn = true, true
}

func (b *book) gone(e *entry) {
	e.in, e.wasIn = false, false
	clear(e.reports)
}
