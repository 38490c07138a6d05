package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
}

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
	tries := 0
	for _, p := range l.pins {
		if p.name.Device == n.id.Device() || p.name.Sequence <= top || n.judged[p.cid] {
			continue
		}
		if tries++; tries > restoreTries {
			break
		}
		if err := l.meet(ctx); err != nil {
			return got, err
		}
		if p.name.Sequence < known.Sequence {
			// Its number is lower than ours, and it may have taken over all the same, from an
			// earlier commit than our newest.
			newer, err := n.supersedes(ctx, p)
			if err != nil && ctx.Err() != nil {
				return got, fmt.Errorf("commit %d of %s: %w", p.name.Sequence, p.name.Device, err)
			}
			if !newer {
				if n.judged != nil && !errors.Is(err, fs.ErrUnavailable) {
					n.judged[p.cid] = true
				}
				continue
			}
		}
		f, err := fs.Adopt(ctx, n.store, n.id, p.name, p.cid, at)
		switch {
		case err == nil:
			n.log.Info("another device's commit came from Egress", "device", f.Head.Device, "sequence", f.Head.Sequence)
			return p.name, nil
		case ctx.Err() != nil:
			return got, fmt.Errorf("commit %d of %s: %w", p.name.Sequence, p.name.Device, err)
		case errors.Is(err, crypt.ErrNotRecipient):
			n.log.Warn("a commit in Egress is not for this device", "device", p.name.Device, "sequence", p.name.Sequence)
			if n.judged != nil {
				n.judged[p.cid] = true
			}
		default:
			n.log.Warn("a commit in Egress cannot be used", "device", p.name.Device, "sequence", p.name.Sequence, "error", err)
		}
	}
	return got, nil
}

// watcher is the judge of a mounted drive: a device that was relieved while it is mounted
// learns of it before its next commit.
func (n news) watcher() pinJudge {
	var names []fs.CommitName // that were linked here
	n.judged = map[fs.CID]bool{}
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
