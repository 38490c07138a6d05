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

const newsWait = 30 * time.Second // that a mount waits for news from Egress

// news brings the commits of other devices from Egress to the node of this one.
type news struct {
	home   Home
	config Config
	id     fs.Identity
	store  fs.Store
	vault  string
	log    *slog.Logger
}

// shared tells whether the identity has other devices, besides the recovery key.
func (n news) shared(ctx context.Context) bool {
	list, err := n.id.Recipients(ctx)
	return err == nil && len(list) > 2
}

// fetch links the newest commit of another device that Egress has and the node has not, if
// it verifies, and returns its name. Without Egress it does nothing.
func (n news) fetch(ctx context.Context) (got fs.CommitName, err error) {
	if !n.shared(ctx) {
		return got, nil
	}
	ctx, cancel := context.WithTimeout(ctx, newsWait)
	defer cancel()
	client, err := egressClient(n.home, n.config, n.log)
	if client == nil || err != nil {
		return got, err
	}
	defer client.Close()
	pins, err := client.Find(ctx, vaultKey, n.vault)
	if err != nil {
		return got, egressError(err)
	}
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
	met := false
	tries := 0
	for _, p := range vaultsOf(pins)[n.vault] {
		if p.name.Device == n.id.Device() || p.name.Sequence < known.Sequence || p.name.Sequence <= top {
			continue
		}
		if tries++; tries > restoreTries {
			break
		}
		if !met {
			if err := meetPeers(ctx, n.store, client); err != nil {
				return got, err
			}
			met = true
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
		default:
			n.log.Warn("a commit in Egress cannot be used", "device", p.name.Device, "sequence", p.name.Sequence, "error", err)
		}
	}
	return got, nil
}

const askNews = time.Minute // between two looks while the drive is mounted

// watch looks for news until ctx ends: a device that was relieved while it is mounted learns
// of it before its next commit.
func (n news) watch(ctx context.Context) {
	tick := time.NewTicker(askNews)
	defer tick.Stop()
	var names []fs.CommitName // that were linked here
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		got, err := n.fetch(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Info("asking Egress for commits of other devices", "error", err)
		}
		if got.Sequence == 0 {
			continue
		}
		if names = append(names, got); len(names) > 2 { // a drive that is mounted to read unlinks nothing itself
			if err := n.store.Unlink(ctx, names[0]); err != nil {
				n.log.Warn("unlinking an old commit of another device", "error", err)
			}
			names = names[1:]
		}
	}
}
