package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	firstDelay  = time.Second     // from the first change after idle to its commit
	commitDelay = 5 * time.Second // between commits, unless somebody waits
	retryDelay  = 2 * time.Second // after a commit that failed, doubled up to…
	retryMax    = time.Minute
	// commitDeadline bounds one attempt, whatever the store does.
	commitDeadline = 10 * time.Minute
	syncInterval   = time.Second // between syncs of the journal that nobody asked for
)

// committer turns changes into commits. One goroutine, run, writes them; another, ahead,
// seals what has the size of a blob as soon as it is there, also while a commit is written.
// Others talk to them through the channels and through the fields under mu.
//
// Lock order: sealing, Tree.mu, mu.
type committer struct {
	t     *Tree
	stop  chan struct{}
	done  chan struct{} // run has ended
	ended chan struct{} // ahead has

	changed chan struct{}   // capacity 1: there is something to commit
	urgent  chan struct{}   // capacity 1: somebody waits for it
	sweeps  chan struct{}   // capacity 1: a sweep was asked for, see sweep.go
	sources chan struct{}   // capacity 1: there are sources to seal
	sealing sync.Mutex      // held while sources are sealed ahead, and while a view is frozen
	ctx     context.Context // ends what the committer waits for
	cancel  context.CancelFunc

	looking sync.Mutex          // one look for commits of other devices at a time; before Tree.mu
	looked  map[CommitName]bool // those that are no reason to stop; guarded by looking

	mu       sync.Mutex
	full     []*source    // to be sealed early
	inHand   int          // those that are being sealed
	waiters  []chan error // told of the next commit that begins after they came
	last     error        // of the last attempt
	sweeping bool         // the next commit is made even if nothing changed
	sealed   []CID        // blobs that were sealed ahead since the last freeze
	unlinked []CID        // blobs that the store has and no commit names yet; run's own
	freed    []string     // keys of the dead list whose blocks are gone; run's own
	garbage  uint64       // newest commit whose dead blocks a sweep is to free; 0: none. run's own
	swept    time.Time    // when a commit was last made, or thought of, for a sweep alone; run's own
	idle     bool         // nothing had changed in the last commit; run's own
	// died are blobs on the dead list, with the sequence of their death, which files in
	// memory may still use, or use again: a copy may have been made while the commit that
	// gave them up was written. They are not freed; the next commit either takes them off
	// the list, or nobody has them any more. run's own.
	died map[CID]uint64
	// branches are what foreign has looked at; nil for those of this line. run's own.
	branches map[CommitName]*otherLine
}

func newCommitter(t *Tree) *committer {
	ctx, cancel := context.WithCancel(context.Background())
	return &committer{t: t, stop: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}), ctx: ctx, cancel: cancel,
		changed: make(chan struct{}, 1), urgent: make(chan struct{}, 1), sources: make(chan struct{}, 1),
		sweeps: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *committer) wake()  { poke(c.changed) }
func (c *committer) hurry() { poke(c.urgent) }

// seal queues a source that has the size of a blob and will not change any more.
func (c *committer) seal(s *source) {
	c.mu.Lock()
	c.full = append(c.full, s)
	c.mu.Unlock()
	poke(c.sources)
}

// busySealing reports whether sealing ahead is going to give memory back.
func (c *committer) busySealing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.full) > 0 || c.inHand > 0
}

// wait commits all changes made so far and returns how that ended.
func (c *committer) wait(ctx context.Context) error {
	w := make(chan error, 1)
	c.mu.Lock()
	c.waiters = append(c.waiters, w)
	c.mu.Unlock()
	c.hurry()
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return fmt.Errorf("the drive is closed: %w", ErrStale)
	}
}

// run is the committer's goroutine.
func (c *committer) run() {
	defer close(c.done)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	sync := time.NewTicker(syncInterval)
	defer sync.Stop()
	sweep := time.NewTimer(sweepDelay)
	defer sweep.Stop()
	var lastEnd time.Time
	delay := retryDelay
	for {
		due := false
		select {
		case <-c.stop:
			return
		case <-sync.C:
			c.t.reader.blobs.age()
			c.t.mu.Lock()
			c.t.balance()
			c.t.mu.Unlock()
			if c.t.journal == nil { // read-only
				continue
			}
			// What was not synced when the machine dies is lost: at most a second.
			if err := c.t.journal.Sync(c.ctx, c.t.journal.Last()); err != nil {
				c.t.cfg.Log.Error("syncing the journal", "error", err)
			}
			continue
		case <-c.changed:
			wait := max(firstDelay, commitDelay-time.Since(lastEnd))
			timer.Reset(wait)
			continue
		case <-timer.C:
			due = true
		case <-c.urgent:
			due = true
		case <-sweep.C:
			if due = c.sweepDue(); !due && c.garbage > 0 {
				sweep.Reset(sweepDelay)
			}
		case <-c.sweeps:
			due = c.sweepDue()
		}
		if !due {
			continue
		}
		timer.Stop()
		err := c.commit()
		lastEnd = time.Now()
		if err != nil {
			c.t.cfg.Log.Warn("commit failed", "error", err, "retry", delay)
			timer.Reset(delay)
			delay = min(2*delay, retryMax)
			continue
		}
		delay = retryDelay
		if c.garbage > 0 {
			sweep.Reset(c.sweepPause())
		}
		c.t.mu.Lock()
		more := c.t.pendingOps > 0
		c.t.mu.Unlock()
		if more {
			timer.Reset(commitDelay)
		}
	}
}

// ahead is the goroutine that seals what has the size of a blob.
func (c *committer) ahead() {
	defer close(c.ended)
	for {
		select {
		case <-c.stop:
			return
		case <-c.sources:
			c.sealFull()
		}
	}
}

// sealFull seals the queued sources and gives their memory back.
func (c *committer) sealFull() {
	c.sealing.Lock()
	defer c.sealing.Unlock()
	for c.sealSome() {
	}
}

// sealSome seals a few of the queued sources and reports whether there were any. It is
// called with sealing held.
func (c *committer) sealSome() bool {
	c.mu.Lock()
	n := min(len(c.full), 8)
	full := slices.Clone(c.full[:n])
	c.full = c.full[n:]
	c.inHand = n
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.inHand = 0
		c.mu.Unlock()
		c.t.wakeWriters()
	}()
	full = slices.DeleteFunc(full, func(s *source) bool { return s.taken || s.stored() })
	if len(full) > 0 {
		if err := c.sealSources(full); err != nil {
			c.t.cfg.Log.Warn("sealing ahead failed", "error", err) // the commit will do it
			c.mu.Lock()
			c.full = nil
			c.mu.Unlock()
			return false
		}
	}
	return n > 0
}

func (c *committer) sealSources(full []*source) error {
	t := c.t
	ctx, cancel := context.WithTimeout(c.ctx, t.cfg.Deadline)
	defer cancel()
	t.mu.Lock()
	// A commit that is being written has the next number or a later one; a blob may be
	// younger than it says, but not older.
	birth := t.top.sequence + 1
	t.mu.Unlock()
	ptrs := make([]crypt.Pointer, len(full))
	blocks := make([]Block, 0, len(full))
	for i, s := range full {
		var err error
		var b Block
		if ptrs[i], b, err = t.sealSource(ctx, s, birth); err != nil {
			return err
		}
		if b.Data != nil {
			blocks = append(blocks, b)
		}
	}
	if err := t.cfg.Store.Put(ctx, blocks); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range full {
		c.sealed = append(c.sealed, ptrs[i].CID)
		t.reader.keep(ptrs[i].CID, s.data)
		t.dirty -= int64(len(s.data))
		s.ptr, s.data = ptrs[i], nil
	}
	t.balance()
	t.signalRoom()
	return nil
}

// freeze seals what is queued and freezes the view of the next commit: what is sealed
// ahead from then on belongs to a later one.
func (c *committer) freeze() *job {
	c.sealing.Lock()
	defer c.sealing.Unlock()
	c.spillOrphans()
	for {
		for c.sealSome() {
		}
		c.t.mu.Lock()
		c.mu.Lock()
		queued := len(c.full)
		c.mu.Unlock()
		if queued > 0 { // came meanwhile
			c.t.mu.Unlock()
			continue
		}
		j := c.t.freeze(c.takeSweep())
		c.t.mu.Unlock()
		c.mu.Lock()
		c.unlinked = append(c.unlinked, c.sealed...)
		c.sealed = nil
		c.mu.Unlock()
		return j
	}
}

// commit freezes a view, writes and links it, and makes it the committed state. Waiters
// that came before the freeze are told how it ended.
func (c *committer) commit() (err error) {
	c.mu.Lock()
	waiters := c.waiters
	c.waiters = nil
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		for _, w := range waiters {
			w <- err
		}
	}()
	ctx, cancel := context.WithTimeout(c.ctx, commitDeadline)
	defer cancel()
	if err := errors.Join(c.t.mayCommit(), c.confirm(ctx)); err != nil {
		return err
	}
	j := c.freeze()
	if j == nil {
		return nil
	}
	w := &commitWriter{t: c.t, ctx: ctx, pages: map[CID]*page{}}
	top, err := w.write(j)
	if err == nil {
		err = c.link(ctx, w, j, &top)
	}
	if err != nil {
		if w.stored {
			c.unlinked = append(c.unlinked, w.blobs...)
		}
		c.t.thaw(j, w.stored)
		c.t.noteError(err)
		if !w.linking { // else the store may have linked it, and needs the pages
			w.discard()
		}
		return err
	}
	c.t.install(j, top)
	c.t.reader.pages.drop(w.replaced)
	c.unlinked, c.freed, c.died = nil, nil, w.died
	c.idle = j.ops == 0
	if len(w.died) > 0 || j.ops > 0 && w.gone >= sweepWorth {
		c.garbage = top.sequence
	}
	if err := c.t.journal.Trim(j.position); err != nil {
		c.t.cfg.Log.Warn("trimming the journal", "error", err)
	}
	if err := c.t.stage.trim(j.position); err != nil {
		c.t.cfg.Log.Warn("removing staged blobs", "error", err)
	}
	if c.t.cfg.Committed != nil {
		info := top.info()
		info.Bytes = j.bytes
		c.t.cfg.Committed(info)
	}
	c.retire(ctx, &top)
	return nil
}

// link makes a written view a commit: it seals and links the head, and remembers it.
func (c *committer) link(ctx context.Context, w *commitWriter, j *job, top *vaultTop) error {
	t := c.t
	if err := errors.Join(t.mayCommit(), c.overtaken(ctx)); err != nil {
		return err
	}
	head := &crypt.Head{
		DID: t.cfg.Identity.DID(), Vault: t.vault.id, Epoch: t.vault.epoch, Sequence: top.sequence,
		Root: top.pointer, Keyring: t.vault.keyringCID, Device: t.cfg.Identity.Device(),
		Time:     t.cfg.Now().UnixNano(),
		Journals: append([]crypt.JournalPosition{{Device: t.cfg.Identity.Device(), Journal: t.journal.ID(), Position: j.position}}, t.carried...),
	}
	if !t.top.head.IsZero() {
		head.Parents = []crypt.Parent{{Device: t.top.device, Sequence: t.top.sequence, Head: t.top.head}}
	}
	w.contained = j.position
	t.session.signOn(head)
	info, err := linkHead(ctx, t.cfg, t.vault, t.state, head, w, c.unlinked)
	if err != nil {
		return err
	}
	top.commitInfo = info
	t.stand(head, info)
	return nil
}

// linkHead puts the head and what stands beside it, links the commit, and remembers that
// it was accepted.
func linkHead(ctx context.Context, cfg Config, v *vaultKeys, state *stateFile, head *crypt.Head, w *commitWriter, unlinked []CID) (commitInfo, error) {
	var info commitInfo
	log, version, err := cfg.Identity.Log(ctx)
	if err == nil {
		err = cfg.Identity.MayCommit(ctx, time.Unix(0, head.Time))
	}
	if err != nil {
		return info, fmt.Errorf("the DID document of the commit: %w", err)
	}
	head.Log, head.LogVersion = crypt.Sum(crypt.Raw, log), version
	w.log = head.Log
	sealed, err := crypt.SealHead(ctx, head, v.key, cfg.Identity.Sign)
	if err != nil {
		return info, err
	}
	headCID := crypt.Sum(crypt.Raw, sealed)
	dir := EncodeDir([]Link{ // sorted by name
		{"did", head.Log, uint64(len(log))},
		{"head", headCID, uint64(len(sealed))},
		{"keyring", v.keyringCID, uint64(len(v.keyring))},
		{"root", head.Root.Node, head.Root.Size},
	})
	for _, b := range []Block{{head.Log, log}, {headCID, sealed}, {v.keyringCID, v.keyring}, dir} {
		if err := w.put(b); err != nil {
			return info, err
		}
	}
	if err := w.flush(); err != nil {
		return info, err
	}
	w.stored, w.linking = true, true
	name := CommitName{Vault: v.id.String(), Device: head.Device, Sequence: head.Sequence}
	all := append(append(append([]CID(nil), unlinked...), w.blobs...), w.put2...)
	if err := cfg.Store.Link(ctx, name, dir.CID, all); err != nil {
		return info, fmt.Errorf("linking commit %d: %w", head.Sequence, err)
	}
	info = commitInfo{pointer: head.Root, sequence: head.Sequence, device: head.Device, head: headCID, commit: dir.CID, time: time.Unix(0, head.Time)}
	err = state.update(func(s *localState) {
		s.Accepted = acceptedHead{Device: head.Device, Sequence: head.Sequence,
			Head: headCID.String(), Commit: dir.CID.String(), Keyring: v.keyring, Turns: turnsOf(head.Journals), Time: head.Time,
			Session: ownSession(head, headCID).String()}
		if w.contained > 0 {
			s.Contained = w.contained
		}
		s.Opened.goOn(head, s.Accepted)
	})
	return info, err
}

// retire unlinks the commits before the previous one, but for those that are being
// copied or retained, and frees what only they needed.
// A failure costs space and nothing else: the next commit tries again.
func (c *committer) retire(ctx context.Context, top *vaultTop) {
	t := c.t
	names, err := t.cfg.Store.Commits(ctx, t.vault.id.String())
	all := slices.Clone(names)
	// Numbers above our own are not ours: what somebody else links retires nothing.
	names = slices.DeleteFunc(names, func(n CommitName) bool { return n.Sequence > top.sequence })
	if err != nil || len(names) < 2 {
		return
	}
	keep := names[len(names)-2].Sequence // the newest and the one before stay
	if t.cfg.Replicas != nil {
		// What is being copied must stay whole until that ends.
		if oldest := t.cfg.Replicas.Oldest(); oldest > 0 {
			keep = min(keep, oldest)
		}
	}
	needs := keep // what was dead before this one, nobody needs
	var retained []uint64
	if t.cfg.Retained != nil {
		retained = t.cfg.Retained()
	}
	aside, err := asideCommits(t.cfg.JournalDir, names)
	if err != nil {
		t.cfg.Log.Warn("nothing is freed", "error", err)
		return
	}
	retained = slices.Concat(retained, aside)
	for _, seq := range retained {
		needs = min(needs, seq)
	}
	foreign, parting := c.foreign(ctx, all, retained)
	needs = min(needs, parting)
	for _, n := range names[:len(names)-2] {
		if n.Sequence >= keep {
			break
		}
		if foreign[n] || slices.Contains(retained, n.Sequence) {
			continue
		}
		if err := t.cfg.Store.Unlink(ctx, n); err != nil {
			t.cfg.Log.Warn("unlinking an old commit", "sequence", n.Sequence, "error", err)
			return
		}
	}
	c.free(ctx, top, needs, retained)
}

// close stops the goroutine after the attempt that runs.
func (c *committer) close() {
	close(c.stop)
	c.cancel()
	<-c.done
	<-c.ended
}
