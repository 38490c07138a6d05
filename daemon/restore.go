package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// restoreWait is for reading the commits that Egress names. Each block that nobody has takes
// as long as the store waits for one.
const restoreWait = 2 * time.Minute

// network is what the embedded node needs to reach Egress; nil keeps it offline. Without
// an address to listen at it dials the peers, and they fetch over its connections.
func (s *Service) network() (*ipfs.Network, error) {
	used, err := s.p.Config.egressInUse(s.p.Home)
	n := s.p.Config.Network
	if err != nil || used.nothing() && !n.Public {
		return nil, err
	}
	return &ipfs.Network{Listen: n.Listen, Upload: n.UploadKiB << 10, Download: n.DownloadKiB << 10,
		Public: n.Public, Bootstrap: n.Bootstrap}, nil
}

// findInEgress looks for vaults of this identity among the pins of Egress, verifies their
// newest commits, and links them in the store.
func (s *Service) findInEgress(ctx context.Context) ([]fs.Found, error) {
	client, err := egressClient(s.p.Home, s.p.Config, s.p.Log)
	if client == nil || err != nil {
		return nil, err
	}
	defer client.Close()
	vaults, err := findCommits(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("looking for your vault in Egress: %w", egressError(err))
	}
	if len(vaults) == 0 {
		return nil, nil
	}
	if err := s.meetPeers(ctx, client); err != nil {
		return nil, err
	}
	reading, cancel := context.WithTimeout(ctx, restoreWait)
	defer cancel()
	slots := newSlots()
	var (
		mu    sync.Mutex
		found []fs.Found
		last  error
		all   sync.WaitGroup
	)
	s.found = map[string][]Snapshot{}
	for vault, commits := range vaults {
		all.Go(func() { // ends with reading
			f, err := s.adoptNewest(reading, slots, commits)
			var snapshots []Snapshot
			if err == nil {
				snapshots = s.snapshotsAmong(reading, slots, commits)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				found = append(found, f)
				s.found[vault] = snapshots
			case !errors.Is(err, crypt.ErrNotRecipient): // else another person's
				last = err
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(found) == 0 && last != nil {
		return nil, fmt.Errorf("restoring from Egress: %w", last)
	}
	if len(found) == 1 {
		s.restored = &found[0]
	}
	return found, nil
}

// adoptNewest takes over the newest commit that can be had and verifies. What the pins say
// of themselves is not taken for true: the metadata of a pin may be that of an older one.
func (s *Service) adoptNewest(ctx context.Context, slots slots, commits []pinned) (fs.Found, error) {
	var best pinned
	var first error
	found := tryCommits(ctx, slots, commits, notForUs, func(ctx context.Context, c pinned) (fs.HeadInfo, error) {
		return fs.Inspect(ctx, s.store, s.p.Identity, c.name, c.cid, time.Time{})
	})
	var after, before time.Time // of the newest commit so far, and of the one before it
	// The oldest first: what a commit claims to follow is looked at before it. Their blocks are
	// here now.
	for _, c := range slices.Backward(found) {
		if c.err == nil {
			c.got, c.err = fs.Inspect(ctx, s.store, s.p.Identity, c.commit.name, c.commit.cid, after)
		}
		if notForUs(c.err) { // another person's; or of a device that was revoked
			if first == nil {
				first = c.err
			}
			continue
		}
		if c.err != nil {
			s.p.Log.Warn("a commit in Egress cannot be used", "cid", c.commit.cid, "error", c.err)
			if first == nil || notForUs(first) {
				first = c.err
			}
			continue
		}
		if c.commit.name.Sequence = c.got.Sequence; c.got.Sequence > best.name.Sequence {
			best, before = c.commit, after
			if c.got.Time.After(after) {
				after = c.got.Time
			}
		}
	}
	if best.name.Sequence == 0 {
		return fs.Found{}, cmp.Or(first, ctx.Err())
	}
	// That the time for looking is up does not keep what was found from being linked.
	linking, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreWait)
	defer cancel()
	f, err := fs.Adopt(linking, s.store, s.p.Identity, best.name, best.cid, before)
	if err == nil {
		s.p.Log.Warn("restored from Egress", "vault", f.Vault, "sequence", f.Head.Sequence, "time", f.Head.Time.Format(time.RFC3339))
	}
	return f, err
}

func notForUs(err error) bool { return errors.Is(err, crypt.ErrNotRecipient) }

// meetPeers tells the node the peers of Egress.
func (s *Service) meetPeers(ctx context.Context, client *cluster.Client) error {
	node, ok := s.store.(peered)
	if !ok {
		return nil
	}
	peers, err := client.Peers(ctx)
	if err != nil {
		return fmt.Errorf("asking Egress for its peers: %w", egressError(err))
	}
	var addrs []string
	for _, p := range peers {
		addrs = append(addrs, p.IPFSAddrs...)
	}
	return node.SetPeers(addrs, client.Reach)
}

// Restored is the commit that was found in Egress when this machine had none.
func (s *Service) Restored() (sequence uint64, at time.Time, ok bool) {
	if s.restored == nil {
		return 0, time.Time{}, false
	}
	return s.restored.Head.Sequence, s.restored.Head.Time, true
}
