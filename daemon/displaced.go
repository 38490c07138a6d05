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

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// displacement judges the pins of other devices for what they say about this one: that another
// device took over, or that a recovery or revocation has taken this device out of the identity.
// A device that was locked out cannot open the commits that follow; the DID document beside
// them, in the clear, is all that it can still read.
type displacement struct {
	home   Home
	vault  string
	store  fs.Store
	id     fs.Identity
	log    *slog.Logger
	tree   *fs.Tree
	failed map[fs.CID]time.Time // commits that could not be read, since when; the looks alone use it

	mu     sync.Mutex // guards all below
	read   map[fs.CID]bool
	locked string    // why this device may not write any more, for people; "" while it may
	kept   [2]uint64 // the newest commits at the last two looks that showed nobody else
}

const (
	readLog   = 5 * time.Second  // that the DID document of one commit may take to be read
	learnWait = 12 * time.Second // and those of all commits, in one look
	// unreadable is how long a commit of another device that cannot be read keeps the drive from
	// saying that anything is stored. The machine that has it may be switched off for good, and
	// anyone who has the password of Egress can pin what nobody can read.
	unreadable = 2 * time.Minute
)

// judge is a pinJudge.
func (d *displacement) judge(ctx context.Context, l *pinLook) error {
	missing := d.learn(ctx, l)
	if err := d.lookAgain(ctx); err != nil {
		return err
	}
	if missing == nil {
		d.confirm()
	}
	return missing
}

// learn reads the DID documents that commits of other devices carry.
func (d *displacement) learn(ctx context.Context, l *pinLook) (missing error) {
	forget(d.failed, l.pins)
	d.mu.Lock()
	forget(d.read, l.pins)
	d.mu.Unlock()
	var unread []pinned
	for _, p := range l.pins {
		if p.name.Device != d.id.Device() && !d.hasRead(p.cid) {
			unread = append(unread, p)
		}
	}
	if len(unread) == 0 {
		return nil
	}
	if err := l.meet(ctx); err != nil {
		return err
	}
	// What could not be read in earlier looks comes after the others.
	slices.SortStableFunc(unread, func(a, b pinned) int { return d.failed[a.cid].Compare(d.failed[b.cid]) })
	part, cancel := context.WithTimeout(ctx, learnWait)
	defer cancel()
	var last error
	tried := map[fs.CID]bool{}
	for _, r := range tryCommits(part, newSlots(), unread, func(error) bool { return false }, func(ctx context.Context, p pinned) (struct{}, error) {
		return struct{}{}, d.take(ctx, p)
	}) {
		tried[r.commit.cid] = true
		last = cmp.Or(last, r.err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("commits of other devices in Egress: %w", ctx.Err())
	}
	for _, p := range unread {
		switch {
		case d.hasRead(p.cid):
			delete(d.failed, p.cid)
			continue
		case !tried[p.cid]:
			missing = fmt.Errorf("commit %d of %s was not looked at yet: %w", p.name.Sequence, p.name.Device, fs.ErrUnavailable)
			continue
		case d.failed[p.cid].IsZero():
			if d.failed == nil {
				d.failed = map[fs.CID]time.Time{}
			}
			d.failed[p.cid] = time.Now()
		}
		if time.Since(d.failed[p.cid]) < unreadable {
			missing = fmt.Errorf("commit %d of %s, which this device does not know: %w", p.name.Sequence, p.name.Device, cmp.Or(last, error(fs.ErrUnavailable)))
		}
	}
	return missing
}

// take keeps the DID document of one commit, if it holds and is newer. Beside fs.ErrIntegrity
// the commit counts as read.
func (d *displacement) take(ctx context.Context, p pinned) error {
	ctx, cancel := context.WithTimeout(ctx, readLog)
	defer cancel()
	b, err := fs.CommitLog(ctx, d.store, p.cid)
	if err == nil {
		if takeErr := d.id.TakeLog(ctx, b); takeErr != nil {
			if ctx.Err() != nil || errors.Is(takeErr, auth.ErrNoSession) {
				return takeErr
			}
			d.log.Warn("the DID document of a commit is not used", "device", p.name.Device, "sequence", p.name.Sequence, "error", takeErr)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrIntegrity) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read == nil {
		d.read = map[fs.CID]bool{}
	}
	d.read[p.cid] = true
	return err // what does not verify says nothing, and is not asked for again
}

func (d *displacement) hasRead(c fs.CID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read[c]
}

// opened is told of the tree. If the DID document does not let this device write, it says why.
func (d *displacement) opened(ctx context.Context, t *fs.Tree) {
	d.tree = t
	if err := d.id.MayCommit(ctx, time.Now()); mayNot(err) {
		short, long, since := d.lockedOut(ctx, err)
		d.locked = long // no look has begun yet
		t.Displace(ctx, fmt.Errorf("%w: %s", fs.ErrReadOnly, short), since)
	}
}

// refused explains why the drive cannot be opened, if the reason is that the DID document does not
// list this device any more: then not even its own commits are believed, and what the drive says
// of that would sound as if they were damaged.
func (d *displacement) refused(ctx context.Context, cfg fs.Config, err error) error {
	if ctx.Err() != nil || !mayNot(d.id.MayCommit(ctx, time.Now())) {
		return err
	}
	if how, _ := d.removed(ctx); how == "" {
		return err
	}
	short, long, since := d.lockedOut(ctx, auth.ErrDevice)
	if noteErr := fs.NoteLockedOut(ctx, cfg, errors.New(short), since); noteErr != nil {
		d.log.Error("noting what only this device has", "error", noteErr)
	}
	d.log.Info("the drive cannot be opened", "error", err)
	return fmt.Errorf("%s: %w", long, auth.ErrDevice)
}

// lookAgain makes the drive read-only if it must be.
func (d *displacement) lookAgain(ctx context.Context) error {
	err := d.tree.LookAgain(ctx)
	if mayNot(err) {
		short, long, since := d.lockedOut(ctx, err)
		d.tree.Displace(ctx, fmt.Errorf("%w: %s", fs.ErrReadOnly, short), since)
		d.mu.Lock()
		d.locked = long
		d.mu.Unlock()
	}
	return err
}

// mayNot tells an answer of the identity from one that could not be had.
func mayNot(err error) bool {
	return errors.Is(err, auth.ErrDevice) || errors.Is(err, auth.ErrDeactivated) || errors.Is(err, auth.ErrScope)
}

// confirm notes that a look has shown nobody who writes in this device's place. The commit
// that was the newest then is retained: if another device takes over before the next look, it
// is the one to compare with.
func (d *displacement) confirm() {
	newest := d.tree.Status().Commit
	d.mu.Lock()
	defer d.mu.Unlock()
	if newest.Device == d.id.Device() && newest.Sequence != d.kept[1] {
		d.kept = [2]uint64{d.kept[1], newest.Sequence}
	}
}

// retained are the commits to keep beside the snapshots.
func (d *displacement) retained() (out []uint64) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.kept {
		if n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// alert is what the owner must know, or "".
func (d *displacement) alert() string {
	if d == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locked
}

// mayLag is how much earlier than a recovery or revocation the commit was looked for that it goes
// on from, at most; and how wrong the clocks of two machines may be.
const mayLag = time.Hour

// lockedOut says in plain words why this device may not write any more, in a few words and with
// what to do; and what was changed before since those who write now have seen.
func (d *displacement) lockedOut(ctx context.Context, err error) (short, long string, since time.Time) {
	const kept = "What only this device has stays here: `ipfscloud aside list` and `ipfscloud aside export` show it and copy it out. "
	if how, at := d.removed(ctx); how != "" {
		return "this device was locked out of the identity",
			"this device was locked out of the identity: it was " + how + " at " + at.Local().Format(time.DateTime) + ". Nothing that it writes reaches the drive any more; the drive is read-only here. " + kept +
				"To join again, empty this home with `ipfscloud destroy` after that, and run `ipfscloud device add`", at.Add(-mayLag)
	}
	if errors.Is(err, auth.ErrDeactivated) {
		return "the identity was given up", "the identity was given up for good: nobody writes this drive any more. " + kept, since
	}
	return "this device may not write any more", fmt.Sprintf("this device may not write any more: %v. %s"+
		"A device with all rights can let it in again: `ipfscloud device add` here asks for that", err, kept), since
}

// removed says how and when the DID document was changed so that it does not list this device
// any more; "" if it does.
func (d *displacement) removed(ctx context.Context) (how string, at time.Time) {
	history, err := auth.DeviceHistory(ctx, d.home.Keystore)
	if err != nil {
		d.log.Warn("the history of the DID document", "error", err)
		return "", at
	}
	for _, p := range history {
		if !p.This || p.Removed.Version == "" {
			continue
		}
		how = "revoked"
		if p.Removed.By == auth.ByRecovery {
			how = "left out when the identity was recovered with the recovery phrase"
		}
		return how, p.Removed.Time
	}
	return "", at
}
