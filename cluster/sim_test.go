package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// sim is a cluster in memory and a book that looks after it, by a clock that the test
// turns: hours pass in milliseconds. It does what IPFS Cluster does as far as a book sees it.
type sim struct {
	t       *testing.T
	now     time.Time
	cfg     KeeperConfig
	step    time.Duration
	b       *book
	set     map[string]*wirePin
	peers   map[string]*simPeer
	refuse  error // what changes are answered with
	did     []did
	calls   map[lane]int
	pinged  time.Time
	listed  time.Time
	swept   time.Time
	rotated time.Time
	round   time.Duration // how long the slowest peer holds up an answer of all of them
	posts   time.Duration // how long a change is under way after the cluster has made it
	asking  map[lane]*simCall
	acting  *simCall
}

// simCall is a call that was answered and has not come back.
type simCall struct {
	back  time.Time
	enter func()
}

type did struct {
	at  time.Duration // since the beginning
	act *action
	err error
}

type simPeer struct {
	id, name string
	down     bool
	deaf     bool          // its Kubo does not answer
	mute     bool          // its pings get lost
	cut      bool          // what others put into the pin set does not reach it
	alone    bool          // none of the endpoints is its own
	sees     []string      // those it may allocate to; nil is all
	takes    time.Duration // for a pin; negative is for ever
	fails    bool
	pins     map[string]*simPin
	busy     map[string]bool     // those it copies
	own      map[string]*wirePin // what it was told itself, while it is cut
}

type simPin struct {
	status   status
	since    time.Time
	attempts int
}

var simBegin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(t *testing.T, peers int, p Policy, cfg KeeperConfig) *sim {
	t.Helper()
	s := &sim{
		t: t, now: simBegin, step: 250 * time.Millisecond, cfg: cfg, set: make(map[string]*wirePin), peers: make(map[string]*simPeer),
		calls: make(map[lane]int), asking: make(map[lane]*simCall),
	}
	s.cfg.settle()
	if s.cfg.Owner == "" {
		s.cfg.Owner = "me"
	}
	s.b = newBook(p, &s.cfg)
	s.b.jitter = func() float64 { return 0.5 }
	for i := range peers {
		id := fmt.Sprintf("peer%d", i+1)
		s.peers[id] = &simPeer{id: id, name: fmt.Sprintf("node%d", i+1), takes: 2 * time.Second,
			pins: make(map[string]*simPin), busy: make(map[string]bool), own: make(map[string]*wirePin)}
	}
	return s
}

// restart forgets what the book knows, as a new process would.
func (s *sim) restart() {
	s.b = newBook(s.b.policy, &s.cfg)
	s.b.jitter = func() float64 { return 0.5 }
	s.pinged, s.listed = time.Time{}, time.Time{}
	s.acting = nil
	clear(s.asking)
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(s.step) {
		s.tick()
	}
}

// until lets time pass until a condition holds, and fails the test after a limit.
func (s *sim) until(what string, limit time.Duration, ok func() bool) time.Duration {
	s.t.Helper()
	begun := s.now
	for !ok() {
		if s.now.Sub(begun) > limit {
			s.t.Fatalf("%s: not within %v\n%s", what, limit, s.dump())
		}
		s.run(s.step)
	}
	return s.now.Sub(begun)
}

func (s *sim) dump() string {
	var out strings.Builder
	for i, e := range s.b.order() {
		if i < 10 {
			fmt.Fprintf(&out, "%+v\n", s.b.pin(e, s.now))
		}
	}
	for _, d := range s.did[max(0, len(s.did)-10):] {
		fmt.Fprintf(&out, "%v %s %s\n", d.at, d.act.kind, d.act.cid)
	}
	return out.String()
}

func (s *sim) tick() {
	s.work()
	if s.now.Sub(s.pinged) >= s.b.pingsEvery(s.now) {
		s.pinged = s.now
		s.calls[lanePings]++
		var all []wireMetric
		for id, p := range s.peers {
			if !p.down && !p.mute {
				all = append(all, wireMetric{Peer: id, Valid: true})
			}
		}
		s.b.enterPings(all, s.now)
	}
	if s.now.Sub(s.listed) >= s.cfg.ListEvery {
		s.listed = s.now
		s.calls[laneList]++
		l := &listing{begun: s.now, seen: make(map[string]bool)}
		for cid, p := range s.set {
			l.seen[cid] = true
			s.b.enterPin(p, s.now)
		}
		s.b.enterList(l, s.now)
	}
	for l, c := range s.asking {
		if c.comeBack(s.now) {
			delete(s.asking, l)
		}
	}
	if s.acting != nil && s.acting.comeBack(s.now) {
		s.acting = nil
	}
	if s.asking[laneWatch] == nil {
		s.ask(laneWatch, s.b.watch(s.now))
	}
	if s.asking[laneSweep] == nil && s.now.Sub(s.swept) >= s.cfg.MoveEvery {
		rotate := s.now.Sub(s.rotated) >= s.cfg.SweepEvery
		if rotate {
			s.rotated = s.now
		}
		if cids := s.b.sweep(s.now, rotate); len(cids) > 0 {
			s.swept = s.now
			s.ask(laneSweep, cids)
		}
	}
	if s.acting != nil {
		return
	}
	if a := s.b.plan(s.now); a != nil {
		s.calls[laneAct]++
		s.b.begin(a)
		p, err := s.act(a)
		s.did = append(s.did, did{s.now.Sub(simBegin), a, err})
		c := &simCall{s.now.Add(s.posts), func() { s.b.done(a, p, err, s.now) }}
		if !c.comeBack(s.now) {
			s.acting = c
		}
	}
}

// comeBack enters an answer if it is time.
func (c *simCall) comeBack(now time.Time) bool {
	if now.Before(c.back) {
		return false
	}
	c.enter()
	return true
}

func (s *sim) ask(l lane, cids []string) {
	if len(cids) == 0 {
		return
	}
	s.calls[l]++
	var all []*wireStatus
	for _, cid := range cids {
		w := &wireStatus{CID: cid, Peers: make(map[string]wireState)}
		p := s.set[cid]
		for id, peer := range s.peers {
			st := wireState{Name: peer.name, Status: statusRemote.String()}
			switch {
			case p == nil:
				st.Status = statusUnpinned.String()
			case !slices.Contains(p.Allocations, id) && !p.everywhere():
				if peer.down {
					continue
				}
			case peer.down || peer.deaf:
				st.Status, st.Error = statusClusterError.String(), "no route"
			default:
				pin := peer.pins[cid]
				if pin == nil {
					st.Status = statusUnexpectedlyUnpinned.String()
					if peer.cut {
						st.Status = statusUnpinned.String()
					}
					break
				}
				st.Status, st.Attempts = pin.status.String(), pin.attempts
				if pin.status == statusPinError {
					st.Error = "context deadline exceeded"
				}
			}
			w.Peers[id] = st
		}
		if p != nil {
			w.Allocations, w.Metadata, w.Name, w.Created = p.Allocations, p.Metadata, p.Name, p.Timestamp
		}
		all = append(all, w)
	}
	asked := s.now
	c := &simCall{s.now.Add(s.round), func() {
		s.b.doubts(all, asked, s.now)
		for _, w := range all {
			s.b.enterStatus(w, asked, s.now)
		}
	}}
	if !c.comeBack(s.now) {
		s.asking[l] = c
	}
}

// work is what the peers do by themselves.
func (s *sim) work() {
	for _, peer := range s.peers {
		if peer.down || peer.deaf {
			continue
		}
		for cid := range peer.busy {
			pin := peer.pins[cid]
			switch {
			case pin == nil || pin.status != statusPinning:
				delete(peer.busy, cid)
			case peer.takes >= 0 && s.now.Sub(pin.since) >= peer.takes:
				pin.status, pin.since = statusPinned, s.now
				if peer.fails {
					pin.status = statusPinError
				}
			}
		}
	}
}

// answers says whether a peer's own endpoint does.
func (p *simPeer) answers() bool { return !p.down && !p.deaf && !p.alone }

// hears says whether a peer does what the pin set says.
func (p *simPeer) hears() bool { return !p.down && !p.deaf && !p.cut }

func (p *simPeer) track(cid string, now time.Time) {
	p.busy[cid] = true
	if pin := p.pins[cid]; pin == nil {
		p.pins[cid] = &simPin{status: statusPinning, since: now, attempts: 1}
	} else if pin.status == statusPinError {
		pin.status, pin.since, pin.attempts = statusPinning, now, pin.attempts+1
	}
}

func (s *sim) act(a *action) (*wirePin, error) {
	if s.refuse != nil {
		return &wirePin{}, s.refuse
	}
	switch a.kind {
	case doUnpin:
		delete(s.set, a.cid)
		for id, p := range s.peers {
			if !p.cut || slices.Contains(a.told, id) && p.answers() {
				delete(p.pins, a.cid)
				delete(p.own, a.cid)
			}
		}
		return &wirePin{}, nil
	case doRecover:
		for _, p := range s.peers {
			if slices.Contains(s.set[a.cid].Allocations, p.id) && p.hears() {
				p.track(a.cid, s.now)
			}
		}
		return &wirePin{}, nil
	case doTell:
		return s.tell(a, s.peers[a.peer])
	}
	p := s.pinOf(a)
	if a.update != "" {
		from := s.set[a.update]
		if from == nil {
			return p, fmt.Errorf("%w: not found", ErrNotFound)
		}
		*p = *from
		p.CID, p.Name = a.cid, a.name
	} else if err := s.allocate(p, s.set[p.CID], nil); err != nil {
		return p, err
	}
	s.put(p)
	out := *p
	return &out, nil
}

func (s *sim) pinOf(a *action) *wirePin {
	return &wirePin{
		CID: a.cid, Name: a.name, Metadata: maps.Clone(a.metadata), Min: a.min, Max: a.max, ExpireAt: a.expires,
		Timestamp: s.now,
	}
}

// put writes a pin into the pin set, and whom that reaches does what it says.
func (s *sim) put(p *wirePin) {
	s.set[p.CID] = p
	for id, peer := range s.peers {
		if (slices.Contains(p.Allocations, id) || p.everywhere()) && peer.hears() {
			peer.track(p.CID, s.now)
		} else if !peer.cut {
			delete(peer.pins, p.CID)
		}
	}
}

// tell has a peer write a pin into the pin set as it knows it.
func (s *sim) tell(a *action, peer *simPeer) (*wirePin, error) {
	p := s.pinOf(a)
	switch {
	case peer.alone:
		return p, errNoEndpoint
	case !peer.answers():
		return p, errSilence
	}
	if err := s.allocate(p, peer.own[p.CID], peer.sees); err != nil {
		return p, err
	}
	peer.own[p.CID] = p
	if slices.Contains(p.Allocations, peer.id) || p.everywhere() {
		peer.track(p.CID, s.now)
	}
	out := *p
	return &out, a.keeps(&out)
}

// heal has a peer that was cut off hear of the others, and they of what it was told. It is
// the worst that can come of it: where both have a pin, the peer's version stays.
func (s *sim) heal(id string) {
	peer := s.peers[id]
	peer.cut = false
	for cid := range peer.pins {
		if p := s.set[cid]; p == nil || !slices.Contains(p.Allocations, id) && !p.everywhere() {
			delete(peer.pins, cid)
		}
	}
	for cid, p := range s.set {
		if slices.Contains(p.Allocations, id) || p.everywhere() {
			peer.track(cid, s.now)
		}
	}
	for _, p := range peer.own {
		s.put(p)
	}
	clear(peer.own)
}

// allocate is IPFS Cluster's rule: allocations are left alone while the minimum is met. Who
// allocates knows the pin as it was before, and sees some of the peers, or all.
func (s *sim) allocate(p, old *wirePin, sees []string) error {
	if p.everywhere() {
		return nil
	}
	var valid, rest []string
	var before []string
	if old != nil {
		before = old.Allocations
	}
	for _, id := range slices.Sorted(maps.Keys(s.peers)) {
		switch {
		case s.peers[id].down || s.peers[id].deaf:
		case sees != nil && !slices.Contains(sees, id):
		case slices.Contains(before, id):
			valid = append(valid, id)
		default:
			rest = append(rest, id)
		}
	}
	switch {
	case len(valid) > p.Max:
		p.Allocations = valid[:p.Max]
	case len(valid) >= p.Min:
		p.Allocations = before
	case len(valid)+len(rest) < p.Min:
		return fmt.Errorf("%w: not enough peers to allocate CID", ErrCluster)
	default:
		p.Allocations = append(valid, rest[:min(len(rest), p.Max-len(valid))]...)
	}
	return nil
}

func (s *sim) pin(cid string) Pin {
	s.t.Helper()
	e := s.b.pins[cid]
	if e == nil {
		s.t.Fatalf("%s is not known\n%s", cid, s.dump())
	}
	return s.b.pin(e, s.now)
}

func (s *sim) is(cid string, state State, copies int) func() bool {
	return func() bool {
		e := s.b.pins[cid]
		return e != nil && e.state == state && s.b.copies(e) == copies
	}
}

func (s *sim) count(k kind, cid string) (n int) {
	for _, d := range s.did {
		if d.act.kind == k && (cid == "" || d.act.cid == cid) {
			n++
		}
	}
	return n
}

func (s *sim) want(wants ...Want) { s.b.want(wants, s.now) }

func (s *sim) down(id string) { s.peers[id].down = true }
func (s *sim) up(id string)   { s.peers[id].down = false }

// testCID is a valid CID for each number.
func testCID(n int) string { return rawCID(fmt.Sprint("block ", n)) }

var errSilence = fmt.Errorf("%w: %w", ErrUnavailable, errors.New("connection refused"))

func isOrNil(err, want error) bool { return errors.Is(err, want) && (want != nil || err == nil) }

// forget takes a pin out of the pin set behind the book's back.
func (s *sim) forget(cid string) {
	delete(s.set, cid)
	for _, p := range s.peers {
		delete(p.pins, cid)
	}
}
