package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	key, err := crypt.NewVaultKey()
	if err != nil {
		return "", err
	}
	keys, err := wrap(ctx, cfg.Identity, crypt.NewVaultID(), 1, key, recipients)
	if err != nil {
		return "", err
	}

	now := cfg.Now().UnixNano()
	t := &Tree{cfg: cfg, vault: keys, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}
	w := &commitWriter{t: t, ctx: ctx, pages: map[CID]*page{}}
	if w.seq, err = state.nextSequence(0, cfg.Now()); err != nil {
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
	var missing error // and accepted
	var state *stateFile
	if cfg.At != nil { // it needs nothing that this device remembers
		state, err = openState(cfg.StateDir)
	} else {
		state, missing, err = openKnown(&cfg)
	}
	if err != nil {
		return nil, err
	}
	t := &Tree{cfg: cfg, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit),
		space: &space{dir: cfg.JournalDir}, inodes: map[Ino]*inode{}, orphans: map[*inode]struct{}{},
		crowded: make(chan struct{}, 1), epoch: 1, dirtyDone: make(chan struct{})}
	t.crowdedAt = t.inodeLimit()
	for _, err := range cfg.Notices {
		t.alarm(err)
	}
	if missing != nil {
		t.alarm(fmt.Errorf("mounted without it, as you have said: %w", missing))
	}
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
	if err := removeLeftovers(cfg.JournalDir); err != nil {
		return nil, err
	}
	if err := t.partFrom(ctx, l); err != nil {
		return nil, err
	}
	t.commits = newCommitter(t)
	t.space.refused = t.commits.squeezed
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
				Commit: l.commit.String(), Keyring: l.keys.keyring, Turns: turnsOf(l.head.Journals), Time: l.head.Time,
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
	// Keyring opens the commit in place of its own keyring, which may have been wrapped for
	// other devices than this one; see KeyringFor. nil: its own does.
	Keyring []byte
}

// headAt is the head of one commit, found in the store or, by its CID, elsewhere. What this
// device has accepted since says nothing against it: nobody takes it for the newest.
func (t *Tree) headAt(ctx context.Context, at *At) (*loadedHead, error) {
	name := CommitName{Vault: t.cfg.Vault, Device: at.Device, Sequence: at.Sequence}
	l, err := loadCommit(ctx, &t.cfg, name, at.Commit, time.Time{}, true)
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
		l, err := loadHead(ctx, cfg, n, accepted.time())
		if err == nil && best != nil && best.head.Device != l.head.Device {
			// What best claims to follow is known now.
			if err := best.judge(ctx, cfg, l.info().Time, false); err != nil {
				t.alarm(err)
				best = nil
			}
		}
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
	case best == nil && accepted.Sequence > 0 && accepted.Device != cfg.Identity.Device():
		return nil, fmt.Errorf("%w; %s has made commit %d", ErrNoCommits, accepted.Device, accepted.Sequence)
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
	// A device that was told of the commit, and has never had it, fetches it from its peers.
	_, err := t.cfg.Store.Get(ctx, l.head.Root.CID) // it must lie in the store to be linked
	if err == nil {
		err = t.cfg.Store.Link(ctx, l.name, l.commit, []CID{l.commit, l.cid, l.head.Root.CID})
	}
	if err != nil {
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
