package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// One device writes a vault at a time: the one that made the newest commit. The others
// mount it read-only, until one of them takes over with a commit of its own (see Rewrap).

// ErrOtherWriter: another device writes this vault. It is an ErrReadOnly.
var ErrOtherWriter = fmt.Errorf("another device writes this drive: %w", ErrReadOnly)

// checkWriter tells why this device may not write on top of a head, or nil.
func (t *Tree) checkWriter(ctx context.Context, l *loadedHead) error {
	id := t.cfg.Identity
	if err := id.MayCommit(ctx, t.cfg.Now()); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	if l.head.Device != id.Device() {
		return fmt.Errorf("%w: %s made commit %d", ErrOtherWriter, l.head.Device, l.head.Sequence)
	}
	return nil
}

// overtaken looks for a commit of another device that this one has to give way to, before we
// make one beside it. From then on the tree is read-only; what is not committed stays in the
// journal.
//
// The numbers do not tell: the other one may have taken over from an earlier commit than our
// newest, and have made fewer since. What counts is the turn that its head has and ours has not.
func (c *committer) overtaken(ctx context.Context) error {
	c.looking.Lock()
	defer c.looking.Unlock()
	t := c.t
	t.mu.Lock()
	vault, seen, at := t.vault, turnsOf(t.carried), t.top.time
	t.mu.Unlock()
	names, err := t.cfg.Store.Commits(ctx, vault.id.String())
	if err != nil {
		return fmt.Errorf("looking for commits of other devices: %w", err)
	}
	for _, n := range names {
		if n.Device == t.cfg.Identity.Device() || c.looked[n] {
			continue
		}
		l, err := loadHead(ctx, &t.cfg, n, at)
		if err == nil && turnsOf(l.head.Journals).against(seen) != turnsNewer {
			if l.head.Sequence > c.lastSequence() {
				t.cfg.Log.Warn("a commit of another device is not used: it went on after it was relieved", "device", n.Device, "sequence", n.Sequence)
			}
			c.hasLooked(n)
			continue
		}
		if err != nil { // of a device that was revoked, or not to be had
			t.cfg.Log.Warn("a commit of another device is not used", "device", n.Device, "sequence", n.Sequence, "error", err)
			continue
		}
		err = fmt.Errorf("%w: %s took over with commit %d; what only this device has is kept, and `ipfscloud aside` shows it", ErrOtherWriter, l.head.Device, l.head.Sequence)
		t.mu.Lock()
		t.displace(err, l)
		t.mu.Unlock()
		t.note()
		return err
	}
	return nil
}

func (c *committer) hasLooked(n CommitName) {
	if c.looked == nil || len(c.looked) > maxMade {
		c.looked = map[CommitName]bool{}
	}
	c.looked[n] = true
}

func (c *committer) lastSequence() uint64 {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.t.top.sequence
}

// LookAgain asks whether this device may still write, without waiting for the next commit:
// whether the DID document still lets it, and whether the store shows that another device
// took over. In the second case the tree is read-only from then on (ErrOtherWriter); in the
// first it is the caller who judges the error, and may call Displace.
func (t *Tree) LookAgain(ctx context.Context) error {
	t.mu.Lock()
	readOnly := t.readOnly != nil
	t.mu.Unlock()
	if readOnly || t.journal == nil {
		return nil
	}
	if err := t.cfg.Identity.MayCommit(ctx, t.cfg.Now()); err != nil {
		return err
	}
	return t.commits.overtaken(ctx)
}

// Displace makes the tree read-only: this device may not write any more. Those who write the
// drive now have seen all that was changed before since, and perhaps nothing that was changed
// later; the zero time if they have seen all commits.
func (t *Tree) Displace(ctx context.Context, why error, since time.Time) {
	t.mu.Lock()
	t.displace(why, nil)
	if t.displaced.by == nil {
		t.displaced.since = since
	}
	t.mu.Unlock()
	if t.journal != nil {
		t.note()
	} else if err := t.noteIdle(ctx, why, since); err != nil {
		t.cfg.Log.Error("noting what the journal stands on", "error", err)
	}
}

// Supersedes tells whether a commit that was found outside the store is one that this device
// has to give way to, or to follow: it has a turn that this device has not seen, or goes on
// after what this device has accepted.
func Supersedes(ctx context.Context, cfg Config, name CommitName, commit CID) (bool, error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return false, err
	}
	a := state.get().Accepted
	l, err := loadCommit(ctx, &cfg, name, commit, a.time(), false)
	if err != nil {
		return false, err
	}
	switch turnsOf(l.head.Journals).against(a.Turns) {
	case turnsNewer:
		return true, nil
	case turnsSame:
		return l.head.Sequence > a.Sequence, nil
	}
	return false, nil
}

// partFrom sets aside what this device has and the drive has not, when the newest commit is
// one with which another device took over.
func (t *Tree) partFrom(ctx context.Context, l *loadedHead) error {
	if t.forked != nil {
		l = t.forked
	}
	if t.readOnly != nil && t.forked == nil && t.cfg.At == nil && !t.cfg.ReadOnly && l.head.Device == t.cfg.Identity.Device() &&
		!errors.Is(t.readOnly, ErrRollback) && !errors.Is(t.readOnly, ErrFork) {
		return t.noteIdle(ctx, t.readOnly, time.Time{})
	}
	if t.cfg.At != nil || t.cfg.ReadOnly || t.unconfirmed || l.head.Device == t.cfg.Identity.Device() ||
		t.forked == nil && !errors.Is(t.readOnly, ErrOtherWriter) {
		return nil
	}
	_, err := part(ctx, &t.cfg, t.state, lineOf(l.head, l.cid), fmt.Sprintf("%s took over with commit %d", l.head.Device, l.head.Sequence))
	return err
}

// Halt makes the tree read-only and says why among the alerts: another machine has written
// in its place. Nothing is committed from then on; a commit that is being linked may still
// end well. What is not committed stays in the journal. A second reason changes nothing.
func (t *Tree) Halt(why error) {
	t.mu.Lock()
	first := t.halted == nil
	if first {
		t.halted = why
		t.displace(why, nil)
		t.alarm(why)
	}
	t.mu.Unlock()
	if !first || t.journal == nil {
		return
	}
	if err := t.state.update(func(s *localState) { s.Halted = true }); err != nil {
		t.cfg.Log.Error("remembering that the drive was halted", "error", err)
	}
}

// mayCommit tells why nothing is committed any more, or nil.
func (t *Tree) mayCommit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.halted
}

// Handover names the newest commit that a device has accepted, for another device that
// shall accept nothing older.
type Handover struct {
	Vault string `json:"vault"`
	acceptedHead
}

// HandOut is the handover of the vault whose state is kept in a directory. ErrNotFound when
// no commit was accepted yet.
func HandOut(stateDir, vault string) (*Handover, error) {
	s, err := openState(stateDir)
	if err != nil {
		return nil, err
	}
	a := s.get().Accepted
	if a.Sequence == 0 {
		return nil, fmt.Errorf("this device knows no commit of vault %s; mount it first: %w", vault, ErrNotFound)
	}
	return &Handover{Vault: vault, acceptedHead: a}, nil
}

// Short is the handover without what the commit has too.
func (h Handover) Short() *Handover {
	h.Keyring = nil
	return &h
}

// Receive remembers a handover in a state directory that knows of no commit, or of an older
// one of the same vault.
func Receive(stateDir string, b json.RawMessage) (*Handover, error) {
	var h Handover
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("handover of a vault: %v: %w", err, ErrInvalid)
	}
	_, vaultErr := crypt.ParseVaultID(h.Vault)
	_, headErr := crypt.ParseCID(h.Head)
	_, commitErr := crypt.ParseCID(h.Commit)
	countErr := CheckSequence(h.Sequence, time.Now())
	if err := errors.Join(vaultErr, headErr, commitErr, countErr); err != nil || h.Device == "" {
		return nil, fmt.Errorf("handover of a vault: %v: %w", err, ErrInvalid)
	}
	s, err := openState(stateDir)
	if err != nil {
		return nil, err
	}
	if have := s.get().Accepted.Sequence; have >= h.Sequence {
		return nil, fmt.Errorf("commit %d is handed over, this device has accepted %d: %w", h.Sequence, have, ErrRollback)
	}
	return &h, s.update(func(l *localState) { l.Accepted = h.acceptedHead })
}

// Newest is the newest commit of a vault that verifies. ErrRollback or ErrFork if that is
// not what this device has accepted, and is not built upon; but if it is a fork because
// another device has taken over, and this one went on, it returns the other's with ErrFork.
func Newest(ctx context.Context, cfg Config) (HeadInfo, error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return HeadInfo{}, err
	}
	t := &Tree{cfg: cfg, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}
	l, err := t.newestHead(ctx)
	if err == nil {
		err = t.readOnly
	}
	switch {
	case err == nil:
		return l.info(), nil
	case t.forked != nil:
		return t.forked.info(), err
	}
	return HeadInfo{}, err
}
