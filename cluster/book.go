package cluster

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// book is all that a Keeper knows. It calls nobody and has no clock: what the cluster
// says is entered with a time, and plan tells what to do. The Keeper guards it.
type book struct {
	cfg    *KeeperConfig
	policy Policy
	jitter func() float64 // in [0,1)

	pins     map[string]*entry
	peers    map[string]*member
	newest   string
	given    bool      // Want was called
	wants    []Want    // as it was given
	listed   time.Time // when the last complete list began; zero: there was none
	looked   bool      // a list was tried
	released map[string]bool
	mine     []string           // what was wanted here once, or see Keeper.Supersede: CIDs, the newest last
	before   map[string]keptPin // of the last run; of pins not seen yet
	lastPin  time.Time          // when the cluster last accepted one
	lastTold time.Time          // when a peer was last told of one
	pause    pause              // after calls that nobody answered
	away     string             // why the cluster cannot be reached
	met      bool               // it has told who its peers are
	flights  []*entry           // those that take the one place; as of the last look
	sorted   []*entry           // by order; nil when that may have changed
	version  uint64             // of what is shown
}

// entry is one CID: wanted, or a pin of ours.
type entry struct {
	cid  string
	bad  bool              // not a CID: it is never sent
	want *Want             // nil: not wanted
	meta map[string]string // what its metadata should be
	seq  int               // its place among the wants

	// As the cluster has it.
	in         bool
	wasIn      bool
	ours       bool
	name       string
	metadata   map[string]string
	allocs     []string // IDs of peers
	everywhere bool
	min, max   int
	created    time.Time
	expires    time.Time
	listed     bool               // expires is known
	reports    map[string]*report // by ID of peer
	askedFor   time.Time          // the newest question
	asked      time.Time          // the newest one that was answered

	state  State
	since  time.Time
	reason string

	acting   kind      // what the cluster is being told about it; empty is nothing
	accepted time.Time // when the cluster accepted it last from us
	again    pause     // before the next pin of it, in whatever form
	mend     pause     // before the next recover
	words    pause     // before it is described again
	shift    pause     // before it is moved again
	told     pause     // before peers are told of it again
	toldTo   []string  // IDs of peers that were, or may have been
	have     int       // copies, as of the last look
	calm     time.Time // until then there is nothing to do for it
	progress time.Time
	held     bool    // it once was
	last     keptPin // as it was in the last run, until it is judged the first time
	nextAsk  time.Time
	askEvery time.Duration
	waiting  int // calls of Wait
}

// report is what one peer said last of a CID.
type report struct {
	name     string
	status   status
	error    string
	since    time.Time // of the status
	at       time.Time // when it was asked
	attempts int
	furthest int // how far it came since the CID was accepted
}

// member is one peer.
type member struct {
	id, name, version string
	heard             bool      // the cluster hears its pings, or it has answered since they ended
	pinged            bool      // it was among those that the cluster heard last
	doubt             string    // why what it holds cannot be known, though it is heard
	doubted           lane      // which call said so
	since             time.Time // of up
	went              time.Time // when it was last seen not to be up any more
	seen              time.Time
	ipfs              string
	ipfsError         string
	addrs             []string
	sees              []string
	free, used        int64
	apart             pause // before an endpoint of its own is looked for again
}

func (m *member) up() bool { return m.heard && m.doubt == "" }

// pause is time that grows between tries.
type pause struct {
	tries int
	until time.Time
	error string
}

func (p *pause) over(now time.Time) bool { return !now.Before(p.until) }

func newBook(p Policy, cfg *KeeperConfig) *book {
	return &book{
		cfg: cfg, policy: p, jitter: rand.Float64,
		pins: make(map[string]*entry), peers: make(map[string]*member), released: make(map[string]bool),
	}
}

// failed makes a pause longer, with a quarter of it by chance so that not everything is
// tried again at the same time.
func (b *book) failed(p *pause, now time.Time, least, most time.Duration, err string) {
	d := most
	if p.tries < 30 {
		d = min(most, least<<p.tries)
	}
	if d <= 0 {
		d = most
	}
	p.tries++
	p.until = now.Add(d*3/4 + time.Duration(b.jitter()*float64(d)/2))
	p.error = err
}

// want replaces the wanted set. The same one again changes nothing, so that who is told
// of changes may answer with what is wanted.
func (b *book) want(wants []Want, now time.Time) {
	if b.given && slices.EqualFunc(b.wants, wants, sameWant) {
		return
	}
	b.given, b.wants = true, slices.Clone(wants)
	b.newest = ""
	for _, e := range b.pins {
		e.want = nil
	}
	named := make(map[string]bool, len(wants))
	for i := range wants {
		w := wants[i]
		named[w.CID] = true
		if b.released[w.CID] && !w.Newest {
			continue
		}
		delete(b.released, w.CID)
		e := b.pins[w.CID]
		if e == nil {
			e = b.enter(w.CID, now)
			e.bad = !isCID(w.CID)
		}
		b.owns(w.CID)
		e.want, e.meta, e.seq = &w, b.metadataOf(&w), i
		if w.Newest {
			b.newest = w.CID
		}
	}
	for cid := range b.released {
		if !named[cid] {
			delete(b.released, cid)
		}
	}
	b.sorted = nil
	b.version++
	b.sweepOut()
	b.judgeAll(now)
}

// maxMine bounds the pins of which it is known that they are ours to unpin. Of those that
// were unpinned longest ago it need not be known: what a peer that was away brings back of
// them stays, and is shown.
const maxMine = 256

// owns enters that a pin is ours to unpin.
func (b *book) owns(cid string) {
	b.mine = append(slices.DeleteFunc(b.mine, func(c string) bool { return c == cid }), cid)
	if n := len(b.mine) - maxMine; n > 0 {
		kept := b.mine[:0]
		for i, c := range b.mine {
			if _, there := b.pins[c]; i >= n || there {
				kept = append(kept, c)
			}
		}
		b.mine = kept
	}
}

func sameWant(x, y Want) bool {
	return x.CID == y.CID && x.Name == y.Name && x.Update == y.Update && x.SmallChange == y.SmallChange &&
		x.Size == y.Size && x.Newest == y.Newest && maps.Equal(x.Metadata, y.Metadata)
}

func (b *book) enter(cid string, now time.Time) *entry {
	e := &entry{
		cid: cid, state: StateWanted, since: now, progress: now, reports: make(map[string]*report),
		askEvery: b.cfg.MoveEvery,
	}
	b.remember(e)
	b.pins[cid], b.sorted = e, nil
	return e
}

// target is how many copies of each pin there should be, and least with how many one is
// held.
func (b *book) target() int {
	if b.policy.Max > 0 {
		return b.policy.Max
	}
	return max(1, len(b.peers))
}

func (b *book) least() int {
	if b.policy.Min > 0 {
		return b.policy.Min
	}
	return b.target()
}

// allocated are the peers that should have a CID.
func (b *book) allocated(e *entry) []string {
	if !e.everywhere {
		return e.allocs
	}
	all := make([]string, 0, len(b.peers))
	for id := range b.peers {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// current says whether a peer's report still tells something: the peer answers, and
// has not been away since.
func (b *book) current(id string, r *report) bool {
	m := b.peers[id]
	return r != nil && m != nil && m.up() && !r.at.Before(m.since)
}

// holds says whether a peer counts as a copy.
func (b *book) holds(e *entry, id string) bool {
	r := e.reports[id]
	return e.in && r != nil && r.status == statusPinned && b.current(id, r)
}

func (b *book) copies(e *entry) int {
	n := 0
	for _, id := range b.allocated(e) {
		if b.holds(e, id) {
			n++
		}
	}
	return n
}

// atWork says whether peers are about to have a CID, or may be: those that fetch it, or
// have not said anything yet.
func (b *book) atWork(e *entry, now time.Time) bool {
	for _, id := range b.allocated(e) {
		if m := b.peers[id]; m != nil && !m.up() {
			continue
		}
		r := e.reports[id]
		switch {
		case r == nil || !b.current(id, r):
			if now.Sub(e.accepted) < unknownTime {
				return true
			}
		case r.status == statusPinning || r.status == statusPinQueued:
			return true
		}
	}
	return false
}

// unknownTime is how long a peer that has not said anything may be at work.
const unknownTime = time.Minute

func (b *book) upPeers() []string {
	var all []string
	for id, m := range b.peers {
		if m.up() {
			all = append(all, id)
		}
	}
	return all
}

// nameOf is what people call a peer.
func (b *book) nameOf(e *entry, id string) string {
	if m := b.peers[id]; m != nil && m.name != "" {
		return m.name
	}
	if r := e.reports[id]; r != nil && r.name != "" {
		return r.name
	}
	return shortID(id)
}

func shortID(id string) string {
	if len(id) > 12 {
		return "…" + id[len(id)-8:]
	}
	return id
}
