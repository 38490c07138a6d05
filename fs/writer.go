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

// shared tells whether others have the vault's key too, besides the recovery key.
func (v *vaultKeys) shared() bool {
	r, err := crypt.DecodeKeyring(v.keyring)
	return err == nil && len(r.Entries) > 2
}

// overtaken looks for a commit of another device that is newer than ours, before we make
// one beside it. From then on the tree is read-only; what is not committed stays in the
// journal.
func (c *committer) overtaken(ctx context.Context) error {
	t := c.t
	if !t.vault.shared() {
		return nil
	}
	names, err := t.cfg.Store.Commits(ctx, t.vault.id.String())
	if err != nil {
		return fmt.Errorf("looking for commits of other devices: %w", err)
	}
	for _, n := range names {
		if n.Sequence <= t.top.sequence || n.Device == t.cfg.Identity.Device() {
			continue
		}
		l, err := loadHead(ctx, &t.cfg, n, t.top.time)
		if err == nil && turnsOf(l.head.Journals).against(turnsOf(t.carried)) != turnsNewer {
			err = fmt.Errorf("%s went on with commit %d after it was relieved: %w", n.Device, n.Sequence, ErrFork)
		}
		if err != nil { // of a device that was revoked, or not to be had
			t.cfg.Log.Warn("a commit of another device is not used", "device", n.Device, "sequence", n.Sequence, "error", err)
			continue
		}
		err = fmt.Errorf("%w: %s took over with commit %d; what is not committed here stays in the journal", ErrOtherWriter, l.head.Device, l.head.Sequence)
		t.mu.Lock()
		if t.readOnly == nil {
			t.readOnly = err
			t.alarm(err)
		}
		t.mu.Unlock()
		return err
	}
	return nil
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
