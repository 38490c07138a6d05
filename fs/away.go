package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// A store may be away when a vault is opened. Then the vault is opened as this device knew
// it last: from the commit that it accepted, whose blocks lie on the local disk as a rule,
// and the journal. Nothing is committed on top of that before the store was seen to show
// no other state.

// awayWait is how long Open waits for the list of commits if it can do without.
const awayWait = 5 * time.Second

// listCommits lists the commits of a vault. Who knows one waits not as long as others.
func (t *Tree) listCommits(ctx context.Context, known bool) ([]CommitName, error) {
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, awayWait)
		defer cancel()
	}
	names, err := t.cfg.Store.Commits(ctx, t.cfg.Vault)
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return names, err
}

// knownHead is the head of the commit that this device accepted last, without asking the
// store what it shows. The error is cause if it is not to be had.
func (t *Tree) knownHead(ctx context.Context, cause error) (*loadedHead, error) {
	a := t.state.get().Accepted
	if a.Sequence == 0 {
		return nil, cause
	}
	commit, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return nil, cause
	}
	name := CommitName{Vault: t.cfg.Vault, Device: a.Device, Sequence: a.Sequence}
	l, err := loadCommit(ctx, &t.cfg, name, commit, time.Time{}, false)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w (and commit %d, which this device knows, is not here: %v)", cause, a.Sequence, err)
	case l.cid.String() != a.Head:
		return nil, cause
	}
	t.cfg.Log.Warn("the store is away; opening the drive as this device knew it last", "sequence", a.Sequence, "error", cause)
	return l, nil
}

// confirm looks what the store shows, if the tree was opened without that. Until it has
// answered, and shows nothing that contradicts, nothing is committed.
func (c *committer) confirm(ctx context.Context) error {
	t := c.t
	if !t.unconfirmed {
		return nil
	}
	probe := &Tree{cfg: t.cfg, state: t.state, reader: t.reader}
	l, err := probe.newestHead(ctx)
	if err == nil {
		err = probe.readOnly
	}
	if errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
		return fmt.Errorf("the store was away when the drive was mounted, and still is: %w", errors.Join(ctx.Err(), err))
	}
	if err == nil && l.cid != t.top.head && l.head.Device != t.cfg.Identity.Device() {
		err = fmt.Errorf("%w: %s took over with commit %d while the store was away; what only this device has is kept, and `ipfscloud aside` shows it",
			ErrOtherWriter, l.head.Device, l.head.Sequence)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range probe.alerts {
		if !slices.Contains(t.alerts, a) && len(t.alerts) < maxAlerts {
			t.alerts = append(t.alerts, a)
			if cause := probe.causes[a]; cause != nil {
				t.alarm(cause)
			}
		}
	}
	if t.journal == nil { // read-only, and stays what it is
		t.unconfirmed = false
		return nil
	}
	if err != nil {
		by := probe.forked
		if by == nil && l != nil && l.head.Device != t.cfg.Identity.Device() {
			by = l
		}
		t.displace(err, by)
		return err
	}
	t.unconfirmed = false
	t.cfg.Log.Info("the store is back, and shows what the drive was mounted with")
	return nil
}
