package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// restoreTries is how many commits of a vault are tried, the newest first.
const restoreTries = 16

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

// pinned is a commit as a pin in Egress names it.
type pinned struct {
	name     fs.CommitName
	cid      fs.CID
	snapshot bool
}

// findInEgress looks for vaults of this identity among the pins of Egress, verifies their
// newest commits, and links them in the store.
func (s *Service) findInEgress(ctx context.Context) ([]fs.Found, error) {
	client, err := egressClient(s.p.Home, s.p.Config, s.p.Log)
	if client == nil || err != nil {
		return nil, err
	}
	defer client.Close()
	pins, err := client.Find(ctx, "", "")
	if err != nil {
		return nil, fmt.Errorf("looking for your vault in Egress: %w", egressError(err))
	}
	vaults := vaultsOf(pins)
	if len(vaults) == 0 {
		return nil, nil
	}
	if err := s.meetPeers(ctx, client); err != nil {
		return nil, err
	}
	var found []fs.Found
	var last error
	s.found = map[string][]Snapshot{}
	for vault, commits := range vaults {
		f, err := s.adoptNewest(ctx, commits)
		switch {
		case err == nil:
			found = append(found, f)
			s.found[vault] = s.snapshotsAmong(ctx, commits)
		case !errors.Is(err, crypt.ErrNotRecipient): // else another person's
			last = err
		}
	}
	if len(found) == 0 && last != nil {
		return nil, fmt.Errorf("restoring from Egress: %w", last)
	}
	if len(found) == 1 {
		s.restored = &found[0]
	}
	return found, nil
}

// vaultsOf are the commits among pins, by vault, the newest first.
func vaultsOf(pins []cluster.Found) map[string][]pinned {
	out := map[string][]pinned{}
	for _, p := range pins {
		if !strings.HasPrefix(p.Metadata[cluster.OwnerKey], ownerPrefix) {
			continue
		}
		seq, err := fs.ParseSequence(p.Metadata[sequenceKey])
		cid, cidErr := crypt.ParseCID(p.CID)
		if err != nil || cidErr != nil || fs.CheckSequence(seq, time.Now()) != nil {
			continue // not one of ours
		}
		name := fs.CommitName{Vault: p.Metadata[vaultKey], Device: p.Metadata[deviceKey], Sequence: seq}
		out[name.Vault] = append(out[name.Vault], pinned{name, cid, p.Metadata[snapshotKey] != ""})
	}
	for _, commits := range out {
		slices.SortFunc(commits, func(a, b pinned) int {
			switch {
			case a.name.Sequence > b.name.Sequence:
				return -1
			case a.name.Sequence < b.name.Sequence:
				return 1
			}
			return 0
		})
	}
	return out
}

// adoptNewest takes over the newest commit that can be had and verifies. What the pins say
// of themselves is not taken for true: the metadata of a pin may be that of an older one.
func (s *Service) adoptNewest(ctx context.Context, commits []pinned) (fs.Found, error) {
	var best pinned
	var first error
	var after, before time.Time // of the newest commit so far, and of the one before it
	// The oldest first: what a commit claims to follow is looked at before it.
	for _, c := range slices.Backward(commits[:min(len(commits), restoreTries)]) {
		h, err := fs.Inspect(ctx, s.store, s.p.Identity, c.name, c.cid, after)
		if ctx.Err() != nil {
			return fs.Found{}, err
		}
		if errors.Is(err, crypt.ErrNotRecipient) { // another person's; or of a device that was revoked
			if first == nil {
				first = err
			}
			continue
		}
		if err != nil {
			s.p.Log.Warn("a commit in Egress cannot be used", "cid", c.cid, "error", err)
			if first == nil || errors.Is(first, crypt.ErrNotRecipient) {
				first = err
			}
			continue
		}
		if c.name.Sequence = h.Sequence; h.Sequence > best.name.Sequence {
			best, before = c, after
			if h.Time.After(after) {
				after = h.Time
			}
		}
	}
	if best.name.Sequence == 0 {
		return fs.Found{}, first
	}
	f, err := fs.Adopt(ctx, s.store, s.p.Identity, best.name, best.cid, before)
	if err == nil {
		s.p.Log.Warn("restored from Egress", "vault", f.Vault, "sequence", f.Head.Sequence, "time", f.Head.Time.Format(time.RFC3339))
	}
	return f, err
}

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
	return node.SetPeers(addrs)
}

// Restored is the commit that was found in Egress when this machine had none.
func (s *Service) Restored() (sequence uint64, at time.Time, ok bool) {
	if s.restored == nil {
		return 0, time.Time{}, false
	}
	return s.restored.Head.Sequence, s.restored.Head.Time, true
}
