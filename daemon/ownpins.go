package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	readHead  = 10 * time.Second // that the head of one commit may take to be read
	postponed = time.Minute      // until an old commit that cannot be read is tried again
)

// ownPins judges the pins of this device's own commits. One that this machine has not made
// comes from a later state of the same home, if the home was put back from a backup; or from
// another machine that has a copy of it.
type ownPins struct {
	home   Home
	device string
	vault  string
	store  fs.Store
	id     fs.Identity
	log    *slog.Logger
	// supersede is told of pins that are ancestors of the newest commit.
	supersede func(cids ...string)

	mu     sync.Mutex
	judged map[fs.CID]bool      // those that need no second look
	again  map[fs.CID]time.Time // when to try again to read an old one
	last   *pinLook             // the look before the drive was opened
}

func (o *ownPins) done(c fs.CID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.judged[c] || time.Now().Before(o.again[c])
}

// postpone leaves a pin alone for a while.
func (o *ownPins) postpone(c fs.CID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.again == nil {
		o.again = map[fs.CID]time.Time{}
	}
	o.again[c] = time.Now().Add(postponed)
}

func (o *ownPins) settle(c fs.CID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.judged == nil {
		o.judged = map[fs.CID]bool{}
	}
	o.judged[c] = true
}

// each calls fn for the pins of this device that need a look, the newest first. What cannot
// be read now makes an error, if its number is above the one where this device stands; what
// does not verify is nobody's.
func (o *ownPins) each(ctx context.Context, l *pinLook, stand uint64, relate func(context.Context, fs.CommitName, fs.CID) (fs.Relative, error), fn func(pinned, fs.Relative) error) error {
	tries := 0
	for _, p := range l.pins {
		if p.name.Device != o.device || o.done(p.cid) {
			continue
		}
		if tries++; tries > restoreTries {
			return fmt.Errorf("more than %d commits of this device in Egress are not known here: %w", restoreTries, fs.ErrUnavailable)
		}
		if err := l.meet(ctx); err != nil {
			return err
		}
		read, cancel := context.WithTimeout(ctx, readHead)
		r, err := relate(read, p.name, p.cid)
		cancel()
		switch {
		case err == nil:
			if err := fn(p, r); err != nil {
				return err
			}
		case ctx.Err() == nil && (errors.Is(err, crypt.ErrNotRecipient) || errors.Is(err, fs.ErrIntegrity)):
			o.log.Warn("a pin in Egress that names this device is not a commit of it", "cid", p.cid, "error", err)
			o.settle(p.cid)
		case ctx.Err() == nil && p.name.Sequence <= stand:
			// Whoever restores takes the highest number: what is stored is not in question.
			o.log.Info("an older commit of this device in Egress cannot be read now", "sequence", p.name.Sequence, "error", err)
			o.postpone(p.cid)
		default:
			return fmt.Errorf("commit %d of this device, which this machine has not made: %w", p.name.Sequence, err)
		}
	}
	return nil
}

// adopt is the judge before the drive is opened: the newest commit that comes after what
// this device has accepted is linked in the node, where the drive finds it. And no number is
// signed again that was seen in Egress.
func (o *ownPins) adopt(ctx context.Context, l *pinLook) error {
	o.mu.Lock()
	o.last = l
	o.mu.Unlock()
	known, cid, err := fs.LastAccepted(o.home.State, o.vault)
	if err != nil || known.Sequence == 0 {
		return err
	}
	for _, p := range l.pins {
		if p.name.Device == o.device {
			if err := fs.Skip(o.home.State, p.name.Sequence); err != nil {
				return err
			}
		}
	}
	cfg := fs.Config{Store: o.store, Identity: o.id, Vault: o.vault, StateDir: o.home.State, Log: o.log}
	relate := func(ctx context.Context, name fs.CommitName, commit fs.CID) (fs.Relative, error) {
		if commit == cid {
			return fs.Relative{Kin: fs.KinSame}, nil
		}
		return fs.Relate(ctx, cfg, name, commit)
	}
	found := errors.New("found")
	err = o.each(ctx, l, known.Sequence, relate, func(p pinned, r fs.Relative) error {
		if r.Kin != fs.KinDescendant {
			return nil
		}
		p.name.Sequence = r.Sequence
		f, err := fs.Adopt(ctx, o.store, o.id, p.name, p.cid, time.Time{})
		if err != nil {
			return fmt.Errorf("commit %d, a newer one of this device: %w", r.Sequence, err)
		}
		o.log.Warn("Egress has a newer state of this drive that this device has made; going on from there",
			"sequence", f.Head.Sequence, "was", known.Sequence)
		return found
	})
	if errors.Is(err, found) {
		return nil
	}
	return err
}

// opened judges the look before the drive was opened once more, by what it was opened with.
func (o *ownPins) opened(ctx context.Context, t *fs.Tree) error {
	o.mu.Lock()
	l := o.last
	o.mu.Unlock()
	if l == nil {
		return nil
	}
	err := o.compare(ctx, t, l)
	if !errors.Is(err, fs.ErrTwin) { // the next look tells
		return nil
	}
	return err
}

// compare is the judge of an open drive. A commit of this device that is not an ancestor of
// what this process has written was made by another machine, and after this one has begun:
// the drive is read-only from then on. fs.ErrTwin.
func (o *ownPins) compare(ctx context.Context, t *fs.Tree, l *pinLook) error {
	var old []string
	err := o.each(ctx, l, t.Status().Commit.Sequence, t.Relate, func(p pinned, r fs.Relative) error {
		switch r.Kin {
		case fs.KinAncestor:
			old = append(old, p.cid.String())
			o.settle(p.cid)
		case fs.KinAside, fs.KinSame:
			o.settle(p.cid)
		case fs.KinDescendant, fs.KinOther:
			return fmt.Errorf("%w: another one has made commit %d, and this one stands at commit %d; what this one has is kept here",
				fs.ErrTwin, r.Sequence, t.Status().Commit.Sequence)
		}
		return nil
	})
	if len(old) > 0 && o.supersede != nil {
		o.supersede(old...)
	}
	if errors.Is(err, fs.ErrTwin) {
		t.Halt(err)
	}
	return err
}

// others are the commits of this device that another machine has made, the newest first, as
// the newest one that this device has accepted tells.
func (o *ownPins) others(ctx context.Context, l *pinLook) (out []pinned, err error) {
	known, cid, err := fs.LastAccepted(o.home.State, o.vault)
	if err != nil || known.Sequence == 0 {
		return nil, err
	}
	cfg := fs.Config{Store: o.store, Identity: o.id, Vault: o.vault, StateDir: o.home.State, Log: o.log}
	err = o.each(ctx, l, known.Sequence, func(ctx context.Context, name fs.CommitName, commit fs.CID) (fs.Relative, error) {
		if commit == cid {
			return fs.Relative{Kin: fs.KinSame}, nil
		}
		return fs.Relate(ctx, cfg, name, commit)
	}, func(p pinned, r fs.Relative) error {
		if r.Kin == fs.KinDescendant || r.Kin == fs.KinOther {
			p.name.Sequence = r.Sequence
			out = append(out, p)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b pinned) int { return cmp.Compare(b.name.Sequence, a.name.Sequence) })
	return out, err
}

// meetTwin prepares a takeover from another machine with the keys of this one, if there is
// one: its newest commit is linked in the node if its number is above this machine's, so
// that the drive goes on from there. The others are returned: they are given up, and are
// snapshots from then on.
func (o *ownPins) meetTwin(ctx context.Context, w *pinWatch) (aside []pinned, err error) {
	known, _, err := fs.LastAccepted(o.home.State, o.vault)
	if err != nil {
		return nil, err
	}
	err = w.look(ctx, lookWait, func(ctx context.Context, l *pinLook) error {
		others, err := o.others(ctx, l)
		if err != nil || len(others) == 0 {
			return err
		}
		aside = others
		if newest := others[0]; newest.name.Sequence > known.Sequence {
			aside = nil // the next look tells of them
			_, err = fs.Adopt(ctx, o.store, o.id, newest.name, newest.cid, time.Time{})
		}
		return err
	})
	return aside, err
}

// keepOthers makes snapshots of commits that are given up.
func keepOthers(h Home, vault string, all []pinned) error {
	s, err := readSnapshots(h.snapshotsFile(), vault)
	if err != nil {
		return err
	}
	for _, p := range all {
		if len(s.of(p.cid.String())) > 0 {
			continue
		}
		now := time.Now().UTC()
		err := s.add(vault, Snapshot{Name: fmt.Sprintf("of another machine, %s (commit %d)", now.Format(time.RFC3339), p.name.Sequence),
			Device: p.name.Device, Sequence: p.name.Sequence, CID: p.cid.String(), Time: now})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepLine makes a snapshot of the newest commit of this machine, before it goes on from the
// line of another one that has the same keys.
func keepLine(h Home, vault string) error {
	name, cid, err := fs.LastAccepted(h.State, vault)
	if err != nil || name.Sequence == 0 {
		return err
	}
	s, err := readSnapshots(h.snapshotsFile(), vault)
	if err != nil {
		return err
	}
	if len(s.of(cid.String())) > 0 {
		return nil
	}
	now := time.Now().UTC()
	return s.add(vault, Snapshot{Name: fmt.Sprintf("before taking over, %s (commit %d)", now.Format(time.RFC3339), name.Sequence),
		Device: name.Device, Sequence: name.Sequence, CID: cid.String(), Time: now})
}
