package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
)

// A login waits so long for news of its DID: from other devices' commits, and before that
// from the places where all can read it.
const (
	refreshWait = 15 * time.Second
	sourcesWait = 5 * time.Second
)

// RefreshLog asks where other devices of the identity commit to (the IPFS node of the
// user's own, and Egress) for a newer log of its DID, and keeps what holds. It trusts
// nobody, and what does not answer is left out: the log that lies here counts then.
//
// It asks for commits above the one that this device knows last, and for those of others.
func RefreshLog(ctx context.Context, h Home, c Config, log *slog.Logger) error {
	sum, err := auth.Inspect(h.Keystore)
	if err != nil || sum.DID == auth.SelfCertifying(sum.DID) {
		return err
	}
	if now := auth.PresentDID(ctx, h.Keystore, sum.DID); published(h, now) {
		askSources(ctx, h, c, now, log)
	}
	return refreshFromCommits(ctx, h, c, log)
}

// refreshFromCommits is RefreshLog without the places where all can read the log.
func refreshFromCommits(ctx context.Context, h Home, c Config, log *slog.Logger) error {
	sum, err := auth.Inspect(h.Keystore)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	used, err := c.egressInUse(h)
	if err != nil {
		return err
	}
	vault, err := readVault(h.vaultFile())
	if err != nil || vault == "" || used.none() && c.IPFS == "" {
		return err
	}
	r := refresh{home: h, config: c, log: log, vault: vault, device: sum.Device}
	if name, _, err := fs.LastAccepted(h.State, vault); err == nil {
		r.known = name.Sequence
	}
	if err := r.run(ctx, used); err != nil && !errors.Is(err, ErrBusy) { // busy: the drive is mounted, and learns by itself
		log.Info("asking for news of the DID", "error", err)
	}
	return nil
}

// askSources keeps the newest log that lies where all can read it: under the IPNS name, or
// on the web server of the DID's domain.
func askSources(ctx context.Context, h Home, c Config, id string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, sourcesWait)
	defer cancel()
	sources, done := logSources(h, c)
	defer done()
	if _, err := auth.LogMethod(h.Keystore, sources...).Newest(ctx, id); err != nil {
		log.Info("asking where the DID is published", "error", err)
	}
}

type refresh struct {
	home          Home
	config        Config
	log           *slog.Logger
	vault, device string
	known         uint64 // sequence of the newest commit that this device has accepted
}

func (r *refresh) news(n fs.CommitName) bool {
	return n.Vault == r.vault && (n.Device != r.device || n.Sequence > r.known)
}

func (r *refresh) run(ctx context.Context, used EgressUse) error {
	var pins []pinned
	var client *cluster.Client
	if !used.none() {
		var err error
		if client, err = egressClient(r.home, r.config, r.log); err != nil {
			return err
		}
		defer client.Close()
		found, err := client.Find(ctx, vaultKey, r.vault)
		if err != nil {
			return fmt.Errorf("asking Egress: %w", egressError(err))
		}
		for _, p := range vaultsOf(found)[r.vault] {
			if r.news(p.name) {
				pins = append(pins, p)
			}
		}
	}
	if len(pins) == 0 && r.config.IPFS == "" {
		return nil
	}
	lock, err := takeLock(r.home.lockFile())
	if err != nil {
		return err
	}
	defer lock.Close()
	store, err := IdentitySearch{Home: r.home, Config: r.config, Log: r.log}.openStore(ctx)
	if err != nil {
		return err
	}
	err = r.read(ctx, store, pins)
	return errors.Join(err, store.Close())
}

func (r *refresh) read(ctx context.Context, store fs.Store, pins []pinned) error {
	if r.config.IPFS != "" {
		names, err := store.Commits(ctx, r.vault)
		if err != nil {
			return err
		}
		for _, n := range names {
			if !r.news(n) {
				continue
			}
			cid, err := store.Resolve(ctx, n)
			if err != nil {
				return err
			}
			pins = append(pins, pinned{name: n, cid: cid})
		}
	}
	var taking sync.Mutex // one log at a time
	tryCommits(ctx, newSlots(), pins, func(error) bool { return false }, func(ctx context.Context, p pinned) (struct{}, error) {
		read, cancel := context.WithTimeout(ctx, readLog)
		defer cancel()
		b, err := fs.CommitLog(read, store, p.cid)
		if err != nil {
			r.log.Warn("a commit cannot be read", "cid", p.cid, "error", err)
			return struct{}{}, err
		}
		taking.Lock()
		defer taking.Unlock()
		taken, err := auth.TakeLog(ctx, r.home.Keystore, b)
		if err != nil {
			r.log.Warn("the log of a commit is not used", "device", p.name.Device, "sequence", p.name.Sequence, "error", err)
		}
		if taken {
			r.log.Info("a newer DID document was found", "device", p.name.Device, "sequence", p.name.Sequence)
		}
		return struct{}{}, err
	})
	return nil
}
