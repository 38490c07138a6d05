package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	announceWait = 30 * time.Second // that a command waits for the first copy of its commit
	announceTick = 200 * time.Millisecond
)

// announce has Egress keep a commit that a command made while no drive is mounted, and waits
// for the first copy. Devices that are mounted elsewhere learn from Egress that they were
// relieved, revoked or locked out: until then they go on, and say that what they write is
// stored. Without Egress there is nobody to tell. An error means that others may not know yet;
// the commit is made all the same, and the next mount has it kept.
func announce(ctx context.Context, h Home, c Config, store fs.Store, vault string, head fs.HeadInfo, log *slog.Logger) error {
	client, err := egressClient(h, c, log)
	if client == nil || err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, announceWait)
	defer cancel()
	peers, err := client.Peers(ctx)
	if err != nil {
		return egressError(err)
	}
	policy, follow := choosePolicy(c)
	if follow && len(peers) > 0 {
		policy = forPeers(policy, len(peers))
	}
	if err := meetPeers(ctx, store, client); err != nil {
		return err
	}
	var origins []string
	if node, ok := store.(peered); ok {
		origins = node.Addresses()
	}
	name := fs.CommitName{Vault: vault, Device: head.Device, Sequence: head.Sequence}
	commit := head.Commit.String()
	metadata := commitMetadata(vault, head.Device, head.Sequence)
	metadata[cluster.OwnerKey] = ownerOf(vault, head.Device)
	if err := client.Announce(ctx, commit, name.Path()[1:], policy, metadata, origins); err != nil {
		return egressError(err)
	}
	tick := time.NewTicker(announceTick)
	defer tick.Stop()
	for {
		n, err := client.Copies(ctx, commit)
		if err == nil && n > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no peer of Egress has commit %d yet: %w", head.Sequence, fs.ErrUnavailable)
		case <-tick.C:
		}
	}
}

// ownerOf names the device that keeps a pin.
func ownerOf(vault, device string) string { return ownerPrefix + vault + "/" + device }

// commitMetadata is what a pin of a commit says of it.
func commitMetadata(vault, device string, sequence uint64) map[string]string {
	return map[string]string{vaultKey: vault, deviceKey: device, sequenceKey: fmt.Sprintf("%016x", sequence)}
}
