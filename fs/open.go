package fs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
)

// Create makes a new vault with an empty root directory, links its first commit, and
// returns its id. cfg.Vault is not used.
func Create(ctx context.Context, cfg Config) (string, error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return "", err
	}
	if a := state.get().Accepted; a.Sequence != 0 {
		return "", fmt.Errorf("%s holds the state of a vault: %w", cfg.StateDir, ErrExist)
	}
	recipients, err := cfg.Identity.Recipients(ctx)
	if err != nil {
		return "", fmt.Errorf("keys to wrap the vault key for: %w", err)
	}
	keys, err := wrap(ctx, cfg.Identity, crypt.NewVaultID(), 1, crypt.NewKey(), recipients)
	if err != nil {
		return "", err
	}

	now := cfg.Now().UnixNano()
	t := &Tree{cfg: cfg, vault: keys, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}
	w := &commitWriter{t: t, ctx: ctx, pages: map[CID]*page{}}
	if w.seq, err = state.nextSequence(0); err != nil {
		return "", err
	}
	top := vaultTop{root: &record{attr: Attr{Ino: RootIno, Mode: ModeDir | 0o755, Nlink: 2,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Atime: now, Mtime: now, Ctime: now, Btime: now},
		label: crypt.NewLabel()}}
	for i := range top.labels {
		top.labels[i] = crypt.NewLabel()
	}
	if err := w.put(emptyDir); err != nil {
		return "", err
	}
	if err := w.top(&top); err != nil {
		return "", err
	}
	head := &crypt.Head{DID: cfg.Identity.DID(), Vault: keys.id, Epoch: keys.epoch, Sequence: w.seq,
		Root: top.pointer, Keyring: keys.keyringCID, Device: cfg.Identity.Device(), Time: now}
	newSession().signOn(head)
	if _, err := linkHead(ctx, cfg, keys, state, head, w, nil); err != nil {
		return "", err
	}
	return keys.id.String(), nil
}

// Open opens a vault at its newest commit and replays the journal. A store that shows an
// older state than this device has accepted, or another one of the same number, is opened
// read-only, with an alert. If the store is away, the newest commit is the one that this
// device accepted last, as far as its blocks are on the local disk.
func Open(ctx context.Context, cfg Config) (_ *Tree, err error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	t := &Tree{cfg: cfg, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit),
		space: &space{dir: cfg.JournalDir}, inodes: map[Ino]*inode{}, orphans: map[*inode]struct{}{},
		crowded: make(chan struct{}, 1), epoch: 1, dirtyDone: make(chan struct{})}
	t.crowdedAt = t.inodeLimit()
	t.ring.newer, t.ring.older = &t.ring, &t.ring
	var l *loadedHead
	if cfg.At != nil {
		l, err = t.headAt(ctx, cfg.At)
	} else {
		l, err = t.newestHead(ctx)
	}
	var away error
	if cfg.At == nil && errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		away = err
		l, err = t.knownHead(ctx, err)
		t.unconfirmed = err == nil
	}
	if err != nil {
		return nil, err
	}
	if err := t.load(ctx, l); err != nil {
		return nil, err
	}
	if cfg.ReadOnly && t.readOnly == nil {
		t.readOnly = errors.New("mounted read-only")
	}
	if t.readOnly == nil {
		t.readOnly = t.checkWriter(ctx, l)
	}
	t.commits = newCommitter(t)
	t.commits.last = away // until it has looked again
	t.ahead = newReadAhead(t.reader)
	t.inMemory, t.aheadOf = t.memoryPage, t.ahead.pages
	defer func() {
		if err != nil {
			t.ahead.close()
		}
	}()
	t.line = lineOf(l.head, l.cid)
	if t.readOnly == nil {
		t.session = newSession()
		if err := t.openJournal(ctx, l); err != nil {
			return nil, err
		}
		err := state.update(func(s *localState) {
			s.Accepted = acceptedHead{Device: l.head.Device, Sequence: l.head.Sequence, Head: l.cid.String(),
				Commit: l.commit.String(), Keyring: l.keys.keyring, Turns: turnsOf(l.head.Journals),
				Session: ownSession(l.head, l.cid).String()}
			s.Reserved = max(s.Reserved, l.head.Sequence, t.seen)
			if cfg.Leap {
				s.Reserved += leap(time.Unix(0, l.head.Time), cfg.Now())
			}
			s.Relieved, s.Halted = false, false
			s.Opened = opening{Session: t.session.String(), From: t.contained, On: s.Accepted.Head}
		})
		if err != nil {
			t.journal.Abandon()
			t.stage.close()
			return nil, err
		}
		t.attempted = max(t.top.sequence, state.get().Reserved)
	}
	if cfg.Before != nil && t.journal != nil {
		if why := cfg.Before(ctx, t); why != nil {
			t.Halt(why)
		}
	}
	go t.commits.run()
	go t.commits.ahead()
	t.mu.Lock()
	if t.pendingOps > 0 || t.unconfirmed {
		t.commits.wake()
	}
	t.mu.Unlock()
	return t, nil
}

// At names a commit of a vault.
type At struct {
	Device   string
	Sequence uint64
	Commit   CID
}

// headAt is the head of one commit, found in the store or, by its CID, elsewhere. What this
// device has accepted since says nothing against it: nobody takes it for the newest.
func (t *Tree) headAt(ctx context.Context, at *At) (*loadedHead, error) {
	name := CommitName{Vault: t.cfg.Vault, Device: at.Device, Sequence: at.Sequence}
	l, err := loadCommit(ctx, &t.cfg, name, at.Commit)
	if err == nil {
		t.readOnly = fmt.Errorf("this is the drive as commit %d left it", at.Sequence)
	}
	return l, err
}

// newestHead finds the newest commit that verifies, and holds it against what this
// device has accepted before.
func (t *Tree) newestHead(ctx context.Context) (*loadedHead, error) {
	cfg := &t.cfg
	accepted := t.state.get().Accepted
	names, err := t.listCommits(ctx, accepted.Sequence > 0)
	if err != nil {
		return nil, fmt.Errorf("listing the commits of vault %s: %w", cfg.Vault, err)
	}
	for _, n := range names {
		if n.Device == cfg.Identity.Device() {
			t.seen = max(t.seen, n.Sequence)
		}
	}
	var best *loadedHead
	var firstErr error
	for _, n := range slices.Backward(names) {
		if best != nil && n.Device == accepted.Device { // older, and no turn of another device
			continue
		}
		l, err := loadHead(ctx, cfg, n)
		if err == nil {
			now := turnsOf(l.head.Journals)
			switch now.against(accepted.Turns) {
			case turnsOlder:
				err = fmt.Errorf("commit %d of %s does not follow commit %d, with which this device has seen another one take over: %w", n.Sequence, n.Device, accepted.Sequence, ErrFork)
			case turnsNewer:
				if from := now.newest(); from <= accepted.Sequence && t.forked == nil {
					t.forked = l
					t.readOnly = fmt.Errorf("%w: another device took over from commit %d, this device has made or seen up to commit %d since; `ipfscloud device take-over` goes on from the other's",
						ErrFork, from-1, accepted.Sequence)
				}
			}
		}
		if err == nil {
			if best == nil {
				best = l
			}
			continue
		}
		if best != nil {
			continue
		}
		if errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return nil, err
		}
		// A device that was revoked goes on under the key of an older epoch, which is not
		// wrapped for us, or signs what the newest document does not admit any more.
		t.alarm(err)
		if firstErr == nil {
			firstErr = err
		}
	}
	if t.readOnly == nil && best != nil && accepted.Sequence > 0 && best.head.Device == cfg.Identity.Device() {
		// The numbers alone do not tell that it came after what this device has accepted.
		ours, err := accepted.line()
		if err != nil {
			return nil, err
		}
		theirs := lineOf(best.head, best.cid)
		if best.head.Sequence > ours.sequence && !theirs.follows(ours) && !ancestors(ctx, cfg, best, ours) {
			t.readOnly = fmt.Errorf("commit %d does not follow commit %d, which this device has accepted: %w", best.head.Sequence, ours.sequence, ErrTwin)
			t.forked = best
			t.alarm(t.readOnly)
			if l := t.acceptedHead(ctx, accepted); l != nil { // what this machine has written is what its user looks for
				return l, nil
			}
		}
	}
	if t.readOnly != nil {
		t.alarm(t.readOnly)
	}
	if accepted.Sequence > 0 && (best == nil || best.head.Sequence < accepted.Sequence) {
		if l := t.relink(ctx, accepted); l != nil {
			return l, nil
		}
	}
	switch {
	case best == nil && firstErr != nil:
		return nil, firstErr
	case best == nil && accepted.Sequence > 0:
		return nil, fmt.Errorf("commit %d was linked and the store shows none: %w: %w", accepted.Sequence, ErrRollback, ErrIntegrity)
	case best == nil:
		return nil, fmt.Errorf("vault %s has no commit in the store: %w", cfg.Vault, ErrNotFound)
	case best.head.Sequence < accepted.Sequence:
		t.readOnly = fmt.Errorf("%w: the newest commit it shows is %d, this device has accepted %d",
			ErrRollback, best.head.Sequence, accepted.Sequence)
		t.alarm(t.readOnly)
	case best.head.Sequence == accepted.Sequence && best.cid.String() != accepted.Head:
		t.readOnly = fmt.Errorf("%w: commit %d is %s, this device has accepted %s",
			ErrFork, best.head.Sequence, best.cid, accepted.Head)
		t.alarm(t.readOnly)
	}
	return best, nil
}

// relink links the accepted commit again if the store has lost its name only, as a node
// may whose root did not survive a power cut. nil if it cannot.
func (t *Tree) relink(ctx context.Context, a acceptedHead) *loadedHead {
	l := t.acceptedHead(ctx, a)
	if l == nil {
		return nil
	}
	if err := t.cfg.Store.Link(ctx, l.name, l.commit, []CID{l.commit, l.cid, l.head.Root.CID}); err != nil {
		t.cfg.Log.Warn("linking the last commit again", "error", err)
		return nil
	}
	t.cfg.Log.Warn("the store had lost the name of the last commit; it is linked again", "sequence", a.Sequence)
	return l
}

// load makes the tree's top out of a verified head.
func (t *Tree) load(ctx context.Context, l *loadedHead) error {
	sealed, err := t.reader.fetch(ctx, l.head.Root.CID)
	if err != nil {
		return fmt.Errorf("the vault's page: %w", err)
	}
	plain, err := crypt.OpenPage(crypt.PageVault, l.head.Root.Pointer, sealed)
	if err != nil {
		return fmt.Errorf("the vault's page: %w: %w", ErrIntegrity, err)
	}
	top, err := decodeTop(plain)
	if err != nil {
		return fmt.Errorf("the vault's page: %w: %w", ErrIntegrity, err)
	}
	i := l.info()
	top.commitInfo = commitInfo{sequence: i.Sequence, device: i.Device, head: l.cid, commit: l.commit, time: i.Time, pointer: l.head.Root}
	t.top, t.vault = *top, l.keys
	t.carried = carriedOn(l.head.Journals, t.cfg.Identity.Device())
	t.root = inodeOf(top.root)
	t.root.refs, t.root.since = 1, top.sequence
	t.inodes[RootIno] = t.root
	t.files, t.bytes = top.files, top.bytes
	return nil
}

// openJournal opens the journal and replays what the head does not contain.
func (t *Tree) openJournal(ctx context.Context, l *loadedHead) error {
	keys, err := t.journalKeys(ctx)
	if err != nil {
		return fmt.Errorf("the key of the journal: %w", err)
	}
	if keys == nil {
		if err := t.setAside(); err != nil {
			return err
		}
		keys = t.vault
	}
	open := func() (*journal.Journal, error) {
		key := keys.key.Derive(l.keys.id[:], "ipfscloud/v1/journal")
		stage, err := openStage(t.cfg.JournalDir)
		if err != nil {
			return nil, err
		}
		t.stage = stage
		j, err := journal.Open(journal.Config{Dir: t.cfg.JournalDir, Key: key, Before: stage.sync})
		if err != nil {
			t.stage.close()
			return nil, journalError(err)
		}
		return j, nil
	}
	j, err := open()
	if err != nil {
		return err
	}
	after, found := uint64(0), false
	for _, p := range l.head.Journals {
		if p.Journal == j.ID() {
			after, found = p.Position, true
		}
	}
	id := hex.EncodeToString(idOf(j))
	if s := t.state.get(); s.Journal == id && s.Base == l.cid.String() {
		found = true
	}
	if t.state.get().Relieved && j.Last() > after {
		found = false
	}
	if s := t.state.get(); j.Last() > s.Opened.From && !s.containedIn(l) {
		found = false
	}
	if !found && j.Last() > 0 {
		// These changes were made on top of another line of commits. They are kept
		// for rescue, and not mixed with this one.
		j.Abandon()
		t.stage.close()
		if err := t.setAside(); err != nil {
			return err
		}
		keys = t.vault
		if j, err = open(); err != nil {
			return err
		}
	}
	if keys.epoch != t.vault.epoch && j.Last() <= after {
		if err := t.renewJournal(j); err != nil {
			return err
		}
		keys, after, found = t.vault, 0, false
		if j, err = open(); err != nil {
			return err
		}
	}
	if !found {
		err := t.state.update(func(s *localState) {
			s.Journal, s.Base = hex.EncodeToString(idOf(j)), l.cid.String()
		})
		if err != nil {
			j.Abandon()
			return err
		}
	}
	t.journal, t.contained = j, after
	if err := t.replayJournal(ctx, after); err != nil {
		j.Abandon()
		t.stage.close()
		return err
	}
	return nil
}

// setAside keeps a journal that does not go with this state of the vault for rescue.
func (t *Tree) setAside() error {
	aside := filepath.Clean(t.cfg.JournalDir) + ".aside-" + t.cfg.Now().UTC().Format("20060102T150405.000")
	err := os.Rename(t.cfg.JournalDir, aside)
	if err == nil {
		t.alert("changes that belong to another state of this vault were set aside in " + aside)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("setting a foreign journal aside: %w", err)
	}
	return t.state.update(func(s *localState) { s.Journal, s.Base, s.JournalKeyring = "", "", nil })
}

func idOf(j *journal.Journal) []byte {
	id := j.ID()
	return id[:]
}

func (t *Tree) replayJournal(ctx context.Context, after uint64) error {
	t.replay = true
	n, bytes, streamed := 0, int64(0), int64(0)
	err := t.journal.Replay(after, func(number uint64, b []byte) error {
		o, err := decodeOp(b)
		if err == nil && o.kind == opStream {
			err = t.replayStream(o, number)
		}
		if err == nil {
			err = t.do(ctx, func() error { return t.apply(o) })
		}
		if err != nil {
			return fmt.Errorf("replaying record %d: %w", number, err)
		}
		n++
		bytes += int64(len(b))
		if o.kind == opStream {
			streamed += int64(o.size)
		}
		if t.dirty > t.dirtyLimit() {
			t.commits.sealFull()
		}
		return nil
	})
	if err != nil {
		return journalError(err)
	}
	if err := t.stage.trim(0); err != nil { // what no record speaks of
		return fmt.Errorf("removing staged blobs: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replay, t.replayed = false, nil
	t.pendingOps, t.pendingBytes, t.journalBytes = n, bytes+streamed, bytes
	t.space.owed.Store(bytes)
	if n > 0 {
		t.oldest = t.cfg.Now()
		t.cfg.Log.Info("replayed the journal", "changes", n, "bytes", bytes)
	}
	for in := range t.orphans {
		t.evict(in)
	}
	return nil
}

// Close commits what is pending, as far as ctx gives time, and closes the tree. What was
// not committed stays in the journal. A second call does nothing.
func (t *Tree) Close(ctx context.Context) error {
	if t.isClosed() {
		return nil
	}
	var err error
	if t.journal != nil {
		err = t.Sync(ctx, DurabilityIPFS)
	}
	return errors.Join(err, t.shut(func(j *journal.Journal) error { return j.Close() }))
}

// Abort closes the tree without waiting for the store or the disk. The journal keeps
// what was not committed.
func (t *Tree) Abort() {
	_ = t.shut(func(j *journal.Journal) error { j.Abandon(); return nil })
}

func (t *Tree) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

func (t *Tree) shut(end func(*journal.Journal) error) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	t.commits.close()
	t.ahead.close()
	if t.journal == nil {
		return nil
	}
	defer t.stage.close()
	return end(t.journal)
}
