package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// openWait is for the first answer of a node that is not embedded: who mounts is told
// soon that it does not answer.
const openWait = 5 * time.Second

// keepWritten is the size of the largest blocks that stay in the cache when they are
// written. Pages of metadata are smaller.
const keepWritten = 32 << 10

// openStore opens the embedded node, with a network or offline, or the user's own behind
// a cache.
func openStore(ctx context.Context, h Home, c Config, network *ipfs.Network, log *slog.Logger) (fs.Store, error) {
	return openStoreAway(ctx, h, c, network, false, log)
}

// openStoreAway is openStore; with mayBeAway the user's own node need not answer.
func openStoreAway(ctx context.Context, h Home, c Config, network *ipfs.Network, mayBeAway bool, log *slog.Logger) (fs.Store, error) {
	if c.IPFS == "" {
		e, err := ipfs.OpenEmbedded(ctx, ipfs.EmbeddedConfig{RepoDir: h.IPFS, SocketPath: h.IPFSSocket(), Network: network, Log: log})
		if err != nil {
			return nil, fmt.Errorf("embedded IPFS node: %w", err)
		}
		return e, nil
	}
	auth, err := c.ipfsAuthorization()
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	r, err := ipfs.OpenRPC(opening, ipfs.RPCConfig{URL: c.IPFS, Authorization: auth, StagingDir: h.Staging, MayBeAway: mayBeAway, Log: log})
	if err != nil {
		return nil, fmt.Errorf("IPFS node at %s: %w", redact(c.IPFS), err)
	}
	cached, err := ipfs.NewCache(r, ipfs.CacheConfig{Dir: filepath.Join(h.Cache, "blocks"), Limit: c.CacheMiB << 20,
		MinFree: c.CacheMinFreeMiB << 20, KeepWritten: keepWritten, Log: log})
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("block cache: %w", err)
	}
	return cached, nil
}

// ipfsAuthorization is what the user's own node asks for; "" for nothing.
func (c Config) ipfsAuthorization() (string, error) {
	if c.IPFSAuthFile == "" {
		return "", nil
	}
	b, err := safefile.ReadSecret(c.IPFSAuthFile, tokenMax)
	if err != nil {
		return "", fmt.Errorf("%w: authorization for the IPFS node: %w", ErrConfig, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// redact hides what may be a password in a URL.
func redact(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return scheme + "://…@" + rest[i+1:]
	}
	return url
}

// healer is a store that may have lost the names of commits, and keeps everything until
// it is told the ones that count.
type healer interface {
	Recovered() bool
	Relink(ctx context.Context, commits []ipfs.Commit) error
}

// heal gives a store its lost names back: those of the commit this device accepted last.
func heal(ctx context.Context, store fs.Store, stateDir, vault string, log *slog.Logger) error {
	h, ok := store.(healer)
	if !ok || !h.Recovered() {
		return nil
	}
	name, dir, err := fs.LastAccepted(stateDir, vault)
	if err != nil {
		return err
	}
	var commits []ipfs.Commit
	if name.Sequence > 0 {
		commits = append(commits, ipfs.Commit{Name: name, Dir: dir})
	}
	log.Warn("the node's MFS could not be read after a crash; linking the last commit again", "sequence", name.Sequence)
	return h.Relink(ctx, commits)
}
