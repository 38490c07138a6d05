package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// news brings the commits of other devices from Egress to the node of this one.
type news struct {
	home   Home
	config Config
	id     fs.Identity
	store  fs.Store
	vault  string
	log    *slog.Logger
	// judged are pins that need no second look; nil where there is only one.
	judged map[fs.CID]bool
	// failed counts the looks in which a pin could not be used; nil where there is only one.
	failed map[fs.CID]int
}

const linkWait = 15 * time.Second // that the commits of others may take to be read, in one look

// supersedes tells whether a commit is one that this device has to give way to.
func (n news) supersedes(ctx context.Context, p pinned) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readHead)
	defer cancel()
	return fs.Supersedes(ctx, fs.Config{Store: n.store, Identity: n.id, Vault: n.vault, StateDir: n.home.State, Log: n.log}, p.name, p.cid)
}

// fetch looks once, for commands that work on a drive that is not mounted. Without Egress it
// does nothing.
func (n news) fetch(ctx context.Context) (got fs.CommitName, err error) {
	w, err := newPinWatch(n.home, n.config, n.store, n.vault, n.log)
	if w == nil || err != nil {
		return got, err
	}
	defer w.close()
	err = w.look(ctx, lookWait, func(ctx context.Context, l *pinLook) (err error) {
		got, err = n.link(ctx, l)
		return err
	})
	return got, err
}

// judge is link as a pinJudge.
func (n news) judge(ctx context.Context, l *pinLook) error {
	_, err := n.link(ctx, l)
	return err
}

// link links the newest commit of another device that Egress has and the node has not, if
// it verifies, and returns its name.
func (n news) link(ctx context.Context, l *pinLook) (got fs.CommitName, err error) {
	names, err := n.store.Commits(ctx, n.vault)
	if err != nil {
		return got, err
	}
	top := uint64(0) // of what others have committed and the node has
	for _, c := range names {
		if c.Device != n.id.Device() && fs.CheckSequence(c.Sequence, time.Now()) == nil {
			top = max(top, c.Sequence)
		}
	}
	known, at, err := fs.AcceptedAt(n.home.State, n.vault)
	if err != nil {
		return got, err
	}
	forget(n.judged, l.pins)
	forget(n.failed, l.pins)
	var unknown []pinned
	for _, p := range l.pins {
		if p.name.Device != n.id.Device() && p.name.Sequence > top && !n.judged[p.cid] {
			unknown = append(unknown, p)
		}
	}
	if len(unknown) == 0 {
		return got, nil
	}
	if err := l.meet(ctx); err != nil {
		return got, err
	}
	// Those that could not be used in earlier looks stand behind the others.
	slices.SortStableFunc(unknown, func(a, b pinned) int { return cmp.Compare(n.failed[a.cid], n.failed[b.cid]) })
	part, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	results := tryCommits(part, newSlots(), unknown, func(error) bool { return false }, func(ctx context.Context, p pinned) (bool, error) {
		return n.counts(ctx, p, known.Sequence, at)
	})
	slices.SortStableFunc(results, func(a, b tried[bool]) int { return cmp.Compare(b.commit.name.Sequence, a.commit.name.Sequence) })
	for _, r := range results {
		if r.err == nil && r.got && got.Sequence == 0 {
			f, err := fs.Adopt(ctx, n.store, n.id, r.commit.name, r.commit.cid, at)
			if err == nil {
				n.log.Info("another device's commit came from Egress", "device", f.Head.Device, "sequence", f.Head.Sequence)
				got = r.commit.name
				continue
			}
			r.err = err
		}
		if r.err != nil || !r.got {
			n.settle(r)
		}
	}
	if got.Sequence == 0 && ctx.Err() != nil {
		return got, fmt.Errorf("%d commits of other devices in Egress: %w", len(unknown), ctx.Err())
	}
	return got, nil
}

// forget drops what is known of pins that are there no more: anyone who may pin in Egress
// could have these maps grow for ever.
func forget[V any](known map[fs.CID]V, pins []pinned) {
	if len(known) == 0 {
		return
	}
	there := make(map[fs.CID]bool, len(pins))
	for _, p := range pins {
		there[p.cid] = true
	}
	maps.DeleteFunc(known, func(c fs.CID, _ V) bool { return !there[c] })
}

// counts verifies a commit of another device, and tells whether it is newer than what this
// one has accepted.
func (n news) counts(ctx context.Context, p pinned, known uint64, at time.Time) (bool, error) {
	if p.name.Sequence < known {
		// Its number is lower than ours, and it may have taken over all the same, from an
		// earlier commit than our newest.
		return n.supersedes(ctx, p)
	}
	ctx, cancel := context.WithTimeout(ctx, readHead)
	defer cancel()
	_, err := fs.Inspect(ctx, n.store, n.id, p.name, p.cid, at)
	return err == nil, err
}

// settle notes what needs no second look, and says what cannot be used: that is tried again,
// after all that was tried less often.
func (n news) settle(r tried[bool]) {
	switch {
	case r.err == nil && !r.got, errors.Is(r.err, crypt.ErrNotRecipient):
		if n.judged != nil {
			n.judged[r.commit.cid] = true
		}
	case n.failed != nil:
		n.failed[r.commit.cid]++
	}
	if r.err != nil && n.failed[r.commit.cid] < 2 {
		n.log.Warn("a commit in Egress cannot be used", "device", r.commit.name.Device, "sequence", r.commit.name.Sequence, "error", r.err)
	}
}

// watcher is the judge of a mounted drive: a device that was relieved while it is mounted
// learns of it before its next commit.
func (n news) watcher() pinJudge {
	var names []fs.CommitName // that were linked here
	n.judged, n.failed = map[fs.CID]bool{}, map[fs.CID]int{}
	return func(ctx context.Context, l *pinLook) error {
		got, err := n.link(ctx, l)
		if err != nil || got.Sequence == 0 {
			return err
		}
		if names = append(names, got); len(names) > 2 { // a drive that is mounted to read unlinks nothing itself
			if err := n.store.Unlink(ctx, names[0]); err != nil {
				n.log.Warn("unlinking an old commit of another device", "error", err)
			}
			names = names[1:]
		}
		return nil
	}
}
