package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// peered is a store whose node keeps connections to the peers it is told.
type peered interface {
	SetPeers(addrs []string, reach ipfs.Reach) error
	Addresses() []string
	Connected() int
	Redial()
}

const (
	// Metadata of our pins. The owner, in cluster.OwnerKey, is ownerPrefix, vault and device.
	ownerPrefix = "ipfscloud/"
	vaultKey    = "vault"
	deviceKey   = "device"
	sequenceKey = "sequence"
	snapshotKey = "snapshot" // of one that is retained; its name is nobody's business

	snapshotMark = "yes"

	keepCommits = 64               // that are remembered, at most
	askPeers    = 5 * time.Second  // for how many there are, at the start
	lookAtLeast = 10 * time.Second // what the keeper knows is looked at so often, whatever it says
	redialEvery = 5 * time.Second  // while a peer is up that the node has no connection to
)

// egress keeps the copies of one drive: it tells the keeper which commits are wanted, and
// the node which peers there are. It is the tree's fs.Replicas. One goroutine, run, owns
// all but what mu guards.
type egress struct {
	client   *cluster.Client
	keeper   *cluster.Keeper
	follow   bool              // the policy is that of as many peers as there are
	retained func() []Snapshot // whose copies stay
	here     bool              // the peers run on this machine
	node     peered            // nil: the store finds its peers by itself
	vault    string
	away     time.Duration // that Egress does not answer, until nobody waits for it any more
	watch    *pinWatch     // of the commits of other machines
	log      *slog.Logger

	changed chan struct{} // capacity 1: there is a new commit
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	commits []egressCommit // by sequence, the newest last
	policy  cluster.Policy
	counted int // peers that policy is for; 0 before any were counted
}

type egressCommit struct {
	sequence uint64
	cid      string
	device   string
	bytes    int64 // of changes that are new in it, about
	copies   int   // as peers reported last
	// held is since when there were copies, as far as this process has seen.
	held time.Time
}

// newEgress prepares to keep copies; nil if there is no Egress.
func newEgress(ctx context.Context, h Home, c Config, store fs.Store, vault, device string, retained func() []Snapshot, watch *pinWatch, log *slog.Logger) (*egress, error) {
	client, err := egressClient(h, c, log)
	if client == nil || err != nil {
		return nil, err
	}
	e := &egress{client: client, vault: vault, away: c.Deadline.Duration, watch: watch, retained: retained, log: log, changed: make(chan struct{}, 1), done: make(chan struct{})}
	e.node, _ = store.(peered)
	if used, err := c.egressInUse(h); err == nil {
		e.here = used.Local
	}
	e.policy, e.follow = choosePolicy(c)
	k := cluster.KeeperConfig{Owner: ownerOf(vault, device), StateFile: h.pinsFile(), Log: log}
	if e.node != nil {
		k.Origins = e.node.Addresses
	}
	if e.keeper, err = cluster.NewKeeper(client, e.policy, k); err != nil {
		client.Close()
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ctx, cancel := context.WithTimeout(ctx, askPeers)
	defer cancel()
	peers, err := client.Peers(ctx)
	if err != nil {
		log.Warn("asking Egress for its peers", "error", err)
	}
	e.tell(peers)
	// One that is away now, and was there yesterday, is a peer too.
	e.count(max(len(peers), len(e.keeper.Peers())))
	return e, nil
}

// Copies without a word in the configuration: those that count, and those that are wanted,
// as far as there are so many peers.
const (
	defaultLeast  = 2
	defaultTarget = 3
)

// choosePolicy is what the configuration says of copies, and whether that is nothing: then
// it follows the number of peers.
func choosePolicy(c Config) (p cluster.Policy, follow bool) {
	p = cluster.Policy{Min: c.Egress.ReplicasMin, Max: c.Egress.ReplicasMax, Peers: c.Egress.Peers}
	switch {
	case p.Min == 0 && p.Max == 0:
		p.Min, p.Max, follow = defaultLeast, defaultTarget, true
	case p.Max == 0:
		p.Max = max(p.Min, defaultTarget)
	case p.Min == 0:
		p.Min = min(defaultLeast, p.Max)
	}
	return p, follow
}

// forPeers is a policy that follows the number of peers.
func forPeers(p cluster.Policy, peers int) cluster.Policy {
	p.Min, p.Max = min(defaultLeast, peers), min(defaultTarget, peers)
	return p
}

// count lets the policy follow the number of peers there are. It never wants fewer copies
// than for as many as were counted before: a peer that is away is to come back, or to be
// replaced.
func (e *egress) count(peers int) {
	e.mu.Lock()
	p := e.policy
	if e.follow && peers > e.counted {
		e.counted = peers
		p = forPeers(p, peers)
	}
	changed := p.Min != e.policy.Min || p.Max != e.policy.Max
	e.policy = p
	e.mu.Unlock()
	if !changed {
		return
	}
	if err := e.keeper.SetPolicy(p); err != nil {
		e.log.Error("the number of copies", "error", err) // it is between 1 and 3
	}
}

// least is how many copies make a commit held, and target how many there are to be.
func (e *egress) least() int  { e.mu.Lock(); defer e.mu.Unlock(); return e.policy.Min }
func (e *egress) target() int { e.mu.Lock(); defer e.mu.Unlock(); return e.policy.Max }

// start begins to keep copies of what the tree commits. first is its newest commit, if its
// copies are this device's. The watch of other machines' commits runs beside it.
func (e *egress) start(first fs.HeadInfo) {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.mu.Lock()
	none := len(e.commits) == 0
	e.mu.Unlock()
	if none && first.Sequence > 0 { // else there has been a newer one meanwhile
		e.committed(first)
	}
	go e.run(ctx)
}

func (e *egress) stop() {
	if e == nil {
		return
	}
	if e.cancel != nil {
		e.cancel()
		<-e.done
	}
	e.client.Close()
}

// committed is told of each commit; it returns at once.
func (e *egress) committed(h fs.HeadInfo) {
	e.mu.Lock()
	e.commits = append(e.commits, egressCommit{sequence: h.Sequence, cid: h.Commit.String(), device: h.Device, bytes: h.Bytes})
	if n := len(e.commits); n > keepCommits {
		e.commits = slices.Delete(e.commits, 0, n-keepCommits)
	}
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *egress) run(ctx context.Context) {
	defer close(e.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.watch.run(ctx) })
	wg.Go(func() {
		if err := e.keeper.Run(ctx); err != nil && ctx.Err() == nil {
			e.log.Error("keeping copies", "error", err)
		}
	})
	tick := time.NewTicker(lookAtLeast)
	defer tick.Stop()
	var dialed time.Time
	for {
		news := e.keeper.Changed()
		peers := e.keeper.Peers()
		if e.keeper.Summary().Reachable {
			e.count(len(peers))
		}
		e.look()
		e.tell(peers)
		if e.node != nil && e.node.Connected() < reachable(peers) && time.Since(dialed) > redialEvery {
			dialed = time.Now()
			e.node.Redial()
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-e.watch.looked():
		case <-e.changed:
		case <-tick.C:
		}
	}
}

// retain is told that other commits are retained.
func (e *egress) retain() {
	if e == nil {
		return
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// look takes over what the keeper has learnt, and tells it what is wanted: the newest
// commit, those whose copies are being made, so that one of them is whole at last, and
// those that are retained.
func (e *egress) look() {
	copies := map[string]int{}
	for _, p := range e.keeper.Pins() {
		copies[p.CID] = p.Copies
	}
	flying := e.keeper.InFlight()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.commits) == 0 {
		return
	}
	newest := len(e.commits) - 1
	var wants []cluster.Want
	held := -1 // the newest commit with copies
	for i := range e.commits {
		c := &e.commits[i]
		c.copies = copies[c.cid]
		switch {
		case c.copies == 0:
			c.held = time.Time{}
		case c.held.IsZero():
			c.held = time.Now()
			fallthrough
		default:
			held = i
		}
		if i == newest || slices.Contains(flying, c.cid) {
			wants = append(wants, e.want(i, i == newest))
		}
	}
	e.keeper.Want(e.wantRetained(wants))
	if c := &e.commits[newest]; c.copies > 0 && !e.watch.lookedSince(c.held) {
		e.watch.want(false)
	}
	// What is older than a held commit matters no more, unless it is on its way.
	first := max(0, held)
	for i := range e.commits[:first] {
		if slices.Contains(flying, e.commits[i].cid) {
			first = i
			break
		}
	}
	e.commits = slices.Delete(e.commits, 0, first)
}

// wantRetained adds the snapshots to what is wanted.
func (e *egress) wantRetained(wants []cluster.Want) []cluster.Want {
	for _, x := range e.retained() {
		i := slices.IndexFunc(wants, func(w cluster.Want) bool { return w.CID == x.CID })
		if i < 0 {
			i = len(wants)
			wants = append(wants, e.wantCommit(x.CID, x.Device, x.Sequence))
		}
		wants[i].Metadata[snapshotKey] = snapshotMark
	}
	return wants
}

func (e *egress) wantCommit(cid, device string, sequence uint64) cluster.Want {
	name := fs.CommitName{Vault: e.vault, Device: device, Sequence: sequence}
	return cluster.Want{CID: cid, Name: name.Path()[1:], Metadata: commitMetadata(e.vault, device, sequence)}
}

func (e *egress) want(i int, newest bool) cluster.Want {
	c := &e.commits[i]
	var size int64 // what no peer has
	for k := i; k >= 0 && e.commits[k].copies == 0; k-- {
		size += e.commits[k].bytes
	}
	w := e.wantCommit(c.cid, c.device, c.sequence)
	w.Size, w.Newest = size, newest
	for k := i - 1; k >= 0; k-- {
		if e.commits[k].copies > 0 {
			w.Update, w.SmallChange = e.commits[k].cid, true // a commit has what changed, and shares the rest
			break
		}
	}
	return w
}

// reachable counts the peers whose nodes should have a connection to ours.
func reachable(peers []cluster.Peer) (n int) {
	for _, p := range peers {
		if p.Up && len(p.IPFSAddrs) > 0 {
			n++
		}
	}
	return n
}

// tell names the peers' nodes to ours.
func (e *egress) tell(peers []cluster.Peer) {
	var addrs []string
	for _, p := range peers {
		addrs = append(addrs, p.IPFSAddrs...)
	}
	if e.node == nil || len(addrs) == 0 { // those it has may still be there
		return
	}
	if err := e.node.SetPeers(addrs, e.client.Reach); err != nil {
		e.log.Warn("telling the IPFS node its peers", "error", err)
	}
}

// Copies implements fs.Replicas.
func (e *egress) Copies(sequence uint64) (held, target int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.commits {
		if c.sequence >= sequence && e.checked(&c) {
			held = max(held, c.copies)
		}
	}
	return held, e.policy.Max
}

// checked tells whether the copies of a commit count: nobody else's commit stood beside
// them after they were made. It is called with mu held.
func (e *egress) checked(c *egressCommit) bool {
	return !c.held.IsZero() && e.watch.lookedSince(c.held)
}

// unchecked says why the copies of the newest commit, which are there, do not count yet. ""
// if they do.
func (e *egress) unchecked() string {
	e.mu.Lock()
	n := len(e.commits)
	counts := n == 0 || e.commits[n-1].copies == 0 || e.checked(&e.commits[n-1])
	e.mu.Unlock()
	if counts {
		return ""
	}
	if t := e.watch.trouble(); t != "" {
		return t
	}
	return "Egress is being asked whether another machine has written too"
}

// Oldest implements fs.Replicas.
func (e *egress) Oldest() uint64 {
	flying := e.keeper.InFlight()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.commits {
		if slices.Contains(flying, c.cid) {
			return c.sequence
		}
	}
	return 0
}

// onlyHere is how many committed bytes no peer has, about.
func (e *egress) onlyHere() (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range slices.Backward(e.commits) {
		if c.copies > 0 {
			break
		}
		n += c.bytes
	}
	return n
}

// newest is the newest commit.
func (e *egress) newest() egressCommit {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.commits) == 0 {
		return egressCommit{}
	}
	return e.commits[len(e.commits)-1]
}

// Wait implements fs.Replicas. It asks for the newest commit, which has all that is in
// the one that is waited for, and is content with any between them.
func (e *egress) Wait(ctx context.Context, sequence uint64, n int) error {
	if most := e.target(); n > most && most > 0 {
		return fmt.Errorf("%d copies are waited for, and there will be %d: %w", n, most, fs.ErrInvalid)
	}
	e.look() // the keeper may not know of the newest commit yet
	for {
		if held, _ := e.Copies(sequence); held >= n {
			return nil
		}
		newest := e.newest()
		waiting, cancel := context.WithCancel(ctx)
		result := make(chan error, 1)
		go func() { result <- e.keeper.Wait(waiting, newest.cid, n) }() // ends with cancel
		err := e.awaitCopies(ctx, sequence, n, newest, result)
		cancel()
		if !errors.Is(err, errNewer) {
			return err
		}
	}
}

// errNewer: there is a newer commit, and the older one may never be copied.
var errNewer = errors.New("a newer commit")

func (e *egress) awaitCopies(ctx context.Context, sequence uint64, n int, newest egressCommit, result <-chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		news, looked := e.keeper.Changed(), e.watch.looked()
		e.look()
		if s := e.keeper.Summary(); s.Error != "" && time.Since(s.ErrorSince) > e.away {
			return e.short(sequence, n, fmt.Errorf("%w: %s", cluster.ErrUnavailable, s.Error))
		}
		if held, _ := e.Copies(sequence); held >= n {
			return nil
		}
		if e.newest().sequence != newest.sequence && !slices.Contains(e.keeper.InFlight(), newest.cid) {
			return errNewer
		}
		select {
		case err := <-result:
			switch {
			case err == nil: // the copies are there; whether they count, the next look tells
				result = nil
				e.look()
				e.watch.want(true)
				continue
			case errors.Is(err, cluster.ErrNotWanted):
				return errNewer
			}
			return e.short(sequence, n, err)
		case <-ctx.Done():
			return e.short(sequence, n, ctx.Err())
		case <-news:
		case <-looked:
		case <-tick.C:
			if result == nil {
				e.watch.want(true)
			}
		}
	}
}

func (e *egress) short(sequence uint64, n int, why error) error {
	held, _ := e.Copies(sequence)
	if u := e.unchecked(); u != "" {
		why = fmt.Errorf("the copies are there, but %s: %w", u, why)
	}
	if e.keeper.Summary().Refused && !errors.Is(why, cluster.ErrRefused) {
		why = fmt.Errorf("%w: %w", cluster.ErrRefused, why) // to try again does not help
	}
	return fmt.Errorf("%d of %d copies: %w: %w", held, n, fs.ErrUnavailable, why)
}
