package fs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Rewrapped says what Rewrap starts from and what it changes.
type Rewrapped struct {
	Name   CommitName
	Commit CID
	// Open opens the keyring of that commit, with the keys of a device or of a recovery
	// phrase. The caller has judged that the commit is to be believed.
	Open crypt.Opener
	// NewEpoch draws a new vault key: who had the old one cannot read what comes after.
	NewEpoch bool
	// OtherLine lets it follow a head that is not a successor of what this device has
	// accepted; see Newest.
	OtherLine bool
	// Aside are the ends of lines that are given up: commits of this device that another
	// machine with its keys has made. They are told no more.
	Aside []NamedCommit
}

// NamedCommit is a commit directory and the name that it has, or should have.
type NamedCommit struct {
	Name   CommitName
	Commit CID
}

// Rewrap makes the next commit of a vault: the same tree, under a keyring that is wrapped
// for the recipients that cfg.Identity has now. Nothing of the tree is encrypted anew: all
// of it hangs on the pointer in the head. The vault must not be open. cfg.Vault is not used.
func Rewrap(ctx context.Context, cfg Config, from Rewrapped) (HeadInfo, error) {
	cfg.fill()
	state, err := openState(cfg.StateDir)
	if err != nil {
		return HeadInfo{}, err
	}
	ev, err := Examine(ctx, cfg.Store, from.Open, from.Name, from.Commit)
	if err != nil {
		return HeadInfo{}, err
	}
	last := ev.Head.Sequence
	if a := state.get().Accepted; from.OtherLine {
		last = max(last, a.Sequence)
	} else if last < a.Sequence {
		return HeadInfo{}, fmt.Errorf("%w: commit %d, this device has accepted %d", ErrRollback, ev.Head.Sequence, a.Sequence)
	}
	recipients, err := cfg.Identity.Recipients(ctx)
	if err != nil {
		return HeadInfo{}, fmt.Errorf("keys to wrap the vault key for: %w", err)
	}
	old := ev.head
	if old.Device != cfg.Identity.Device() || from.OtherLine {
		// From here on this device's state names the commit that is made below, and what it had
		// written on its own could not be told from what others wrote.
		because := fmt.Sprintf("this device took over from commit %d of %s", old.Sequence, old.Device)
		if _, err := part(ctx, &cfg, state, lineOf(old, ev.headCID), because); err != nil {
			return HeadInfo{}, err
		}
	}
	epoch, key := old.Epoch, ev.key
	if from.NewEpoch {
		if key, err = crypt.NewVaultKey(); err != nil {
			return HeadInfo{}, err
		}
		epoch++
		if _, err := os.Stat(cfg.JournalDir); err == nil {
			if err := keepJournalKey(state, ev.keyring); err != nil {
				return HeadInfo{}, err
			}
		}
	}
	keys, err := wrap(ctx, cfg.Identity, old.Vault, epoch, key, recipients)
	if err != nil {
		return HeadInfo{}, err
	}
	t := &Tree{cfg: cfg, vault: keys, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}
	w := &commitWriter{t: t, ctx: ctx, pages: map[CID]*page{}}
	if w.seq, err = state.nextSequence(last, cfg.Now()); err != nil {
		return HeadInfo{}, err
	}
	// The commit's directory links the tree's top node, which must lie in the store.
	for _, c := range []CID{old.Root.Node, old.Root.CID} {
		b, err := cfg.Store.Get(ctx, c)
		if err == nil {
			err = w.put(Block{c, b})
		}
		if err != nil {
			return HeadInfo{}, fmt.Errorf("the vault's page: %w", err)
		}
	}
	head := &crypt.Head{
		DID: cfg.Identity.DID(), Vault: old.Vault, Epoch: epoch, Sequence: w.seq, Root: old.Root,
		Keyring: keys.keyringCID, Device: cfg.Identity.Device(), Time: cfg.Now().UnixNano(), Journals: old.Journals,
		Parents: []crypt.Parent{{Device: old.Device, Sequence: old.Sequence, Head: ev.headCID}},
	}
	if old.Device != head.Device {
		head.Journals = takeTurn(head.Journals, head.Device, old.Sequence)
		if err := state.update(func(s *localState) { s.Relieved = true }); err != nil {
			return HeadInfo{}, err
		}
	}
	if a := state.get().Accepted; from.OtherLine && a.Sequence > 0 && a.Head != ev.headCID.String() {
		ours, err := a.line()
		if err != nil {
			return HeadInfo{}, err
		}
		giveUp(head, ours.session, ours.sequence)
		if l := t.acceptedHead(ctx, a); l != nil {
			giveUpLine(head, l)
		}
	}
	for _, c := range from.Aside {
		l, err := loadCommit(ctx, &cfg, c.Name, c.Commit, time.Time{}, true)
		if err != nil {
			return HeadInfo{}, fmt.Errorf("a line to give up: %w", err)
		}
		giveUpLine(head, l)
	}
	newSession().signOn(head)
	info, err := linkHead(ctx, cfg, keys, state, head, w, nil)
	if err != nil {
		return HeadInfo{}, err
	}
	// A journal that was begun on top of the old head goes on, on top of this one.
	err = state.update(func(s *localState) {
		if s.Base == ev.headCID.String() {
			s.Base = info.head.String()
		}
		if s.Opened.On == ev.headCID.String() {
			s.Opened.On = info.head.String()
		}
	})
	return info.info(), err
}

// CommitLog reads the DID document, or its log, that stands beside a commit in the clear.
// Nothing of it is verified.
func CommitLog(ctx context.Context, store Store, commit CID) ([]byte, error) {
	links, err := commitLinks(ctx, store, commit)
	if err != nil {
		return nil, err
	}
	_, log, err := commitPart(ctx, store, commit, links, "did")
	return log, err
}
