package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bstore "github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	kubo "github.com/ipfs/kubo"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/node"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// EmbeddedConfig says where and how the node in this process runs. Zero durations stand
// for the defaults.
type EmbeddedConfig struct {
	RepoDir    string   // of the node; made on first use
	SocketPath string   // where the node gives out its RPC, mode 0600; "" for nowhere
	Network    *Network // nil: offline
	Log        *slog.Logger

	GetTimeout   time.Duration // reading one block from the disk; 10 s
	FetchTimeout time.Duration // getting one from the peers; 20 s
	PutTimeout   time.Duration // putting a batch of blocks; 30 s
	SyncTimeout  time.Duration // 30 s
	LinkTimeout  time.Duration // linking or unlinking a commit, with its syncs; 60 s
}

func (c *EmbeddedConfig) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.GetTimeout, 10 * time.Second},
		{&c.FetchTimeout, 20 * time.Second},
		{&c.PutTimeout, 30 * time.Second},
		{&c.SyncTimeout, 30 * time.Second},
		{&c.LinkTimeout, 60 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Embedded is a Store on a Kubo node in this process. The node is offline unless it is
// given a Network; then what is not on this disk is asked of its peers.
//
// Blocks lie as files in the node's repo. A block that waits for its commit is safe from
// the node's garbage collection through the pending set, without a lock: writers and the
// collection do not wait for each other. Only a Link waits for a collection to end.
//
// Lock order: the link slot, then the node's pin lock, then pending.mu.
type Embedded struct {
	conf     EmbeddedConfig
	lock     *os.File // the repo's directory, flocked
	node     *core.IpfsNode
	blocks   bstore.Blockstore // the node's blocks, without guard or network
	catalog  catalog
	pending  *pending
	linked   *counter
	syncs    syncer
	server   *server
	linkSlot chan none // held by who changes MFS
	info     fs.StoreInfo

	life context.Context // ends with Close: what runs beside the operations ends then
	end  context.CancelFunc

	gate     gate
	peers    *peerGate // with whom there are connections; nil for an offline node
	unusable struct {  // addresses that SetPeers was given last
		sync.Mutex
		last []string
	}
	mended atomic.Bool // some roots were lost and are not all linked again
}

var _ fs.Store = (*Embedded)(nil)

// repoDepth is how deep a repo is looked into for links and for what belongs to others: down
// to the directories of flatfs, but not to its blocks.
const repoDepth = 2

// OpenEmbedded starts the node. Its errors wrap fs.ErrBusy when another process or store
// has the repo, fs.ErrNotSupported when the repo's version cannot be brought to ours, and
// fs.ErrNoSpace.
func OpenEmbedded(ctx context.Context, conf EmbeddedConfig) (_ *Embedded, err error) {
	conf.defaults()
	e := &Embedded{
		conf:     conf,
		linkSlot: make(chan none, 1),
		info:     fs.StoreInfo{Kind: "embedded", Version: kubo.CurrentVersionNumber},
	}
	defer func() {
		if err != nil {
			err = meaning(errors.Join(err, e.release()))
		}
	}()
	if err := safefile.MakeDir(conf.RepoDir); err != nil {
		return nil, err
	}
	// Kubo opens what lies there by names.
	if err := safefile.CheckTree(conf.RepoDir, repoDepth); err != nil {
		return nil, err
	}
	if e.lock, err = lockDir(conf.RepoDir, "IPFS repo"); err != nil {
		return nil, err
	}
	apiAddr := ""
	if conf.SocketPath != "" {
		apiAddr = "/unix/" + filepath.Clean(conf.SocketPath)
	}
	if conf.Network != nil {
		if err := conf.Network.Check(); err != nil {
			return nil, err
		}
	}
	r, err := openRepo(conf.RepoDir, settings{apiAddr, conf.Network}, e.lock)
	if err != nil {
		return nil, err
	}
	before, err := fileExists(mendedPath(conf.RepoDir))
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	now, err := mendRoot(ctx, r, conf.Log, func() error { return touch(mendedPath(conf.RepoDir)) })
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	e.mended.Store(before || now)
	if e.pending, err = openPending(pendingPath(conf.RepoDir)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	e.pending.guard(before || now)
	if e.linked, err = openCounter(linkedPath(conf.RepoDir)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	// The context of the node is not that of its start.
	build := &core.BuildCfg{Repo: r, Permanent: true, ShutdownTimeout: 30 * time.Second}
	if conf.Network != nil {
		e.peers = &peerGate{open: conf.Network.Public, local: conf.Network.onlyLocal()}
		build.Online, build.Host = true, conf.Network.hostOption(e.peers)
	}
	n, err := core.NewNode(context.WithoutCancel(ctx), build)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	e.node = n
	e.blocks = n.BaseBlocks
	e.catalog = catalog{offlineDAG(n.BaseBlocks)}
	e.syncs.sync = func() error { return syncFS(e.lock) }
	n.IsDaemon = true
	n.Blockstore = &guardedBlockstore{GCBlockstore: n.Blockstore, pending: e.pending}
	if conf.SocketPath != "" {
		if e.server, err = serve(n, conf.RepoDir, conf.SocketPath, conf.Log); err != nil {
			return nil, err
		}
		addr, err := ma.NewMultiaddr(apiAddr)
		if err != nil {
			return nil, err
		}
		if err := r.SetAPIAddr(addr); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// release closes what is open, in the reverse order of OpenEmbedded.
func (e *Embedded) release() error {
	var errs []error
	if e.end != nil {
		e.end()
	}
	if e.server != nil {
		errs = append(errs, e.server.close())
	}
	if e.node != nil {
		errs = append(errs, e.node.Close())
	}
	if e.pending != nil {
		errs = append(errs, e.pending.close())
	}
	if e.linked != nil {
		errs = append(errs, e.linked.close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}

// Close implements fs.Store. It waits for operations under way, for a while.
func (e *Embedded) Close() error {
	e.end()
	first, idle := e.gate.close(e.conf.LinkTimeout)
	if !first {
		return nil
	}
	if !idle {
		e.conf.Log.Error("closing the IPFS node while an operation hangs")
	}
	return e.release()
}

// Put implements fs.Store. The CIDs are taken as they are; Get verifies them.
func (e *Embedded) Put(ctx context.Context, bs []fs.Block) error {
	if err := checkBlocks(bs); err != nil {
		return err
	}
	kubos := make([]blocks.Block, len(bs))
	for i, b := range bs {
		k, err := kuboCID(b.CID)
		if err != nil {
			return err
		}
		if kubos[i], err = blocks.NewBlockWithCid(b.Data, k); err != nil {
			return meaning(err)
		}
	}
	if len(bs) == 0 {
		return ctx.Err()
	}
	return doErr(ctx, &e.gate, e.conf.PutTimeout, func(ctx context.Context) error {
		if err := e.pending.add(bs); err != nil {
			return fmt.Errorf("record %d blocks: %w", len(bs), err)
		}
		if err := e.blocks.PutMany(ctx, kubos); err != nil {
			return fmt.Errorf("put %d blocks: %w", len(bs), err)
		}
		return nil
	})
}

// Sync implements fs.Store. It writes out the file system of the repo.
func (e *Embedded) Sync(ctx context.Context) error {
	return doErr(ctx, &e.gate, e.conf.SyncTimeout, e.syncs.wait)
}

// Get implements fs.Store.
func (e *Embedded) Get(ctx context.Context, c fs.CID) ([]byte, error) {
	k, err := kuboCID(c)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, meaning(err)
	}
	if b := e.cached(k, 0, allOf); b != nil && c.Verify(b) {
		return b, nil
	}
	b, err := do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) ([]byte, error) {
		b, err := e.blocks.Get(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", c, meaning(err))
		}
		if !c.Verify(b.RawData()) {
			return nil, fmt.Errorf("block %s: %w", c, fs.ErrIntegrity)
		}
		return b.RawData(), nil
	})
	lost := errors.Is(err, fs.ErrNotFound) || errors.Is(err, fs.ErrIntegrity)
	if e.conf.Network == nil || !lost || len(e.node.Peering.ListPeers()) == 0 {
		return b, err
	}
	fetched, fetchErr := do(ctx, &e.gate, e.conf.FetchTimeout, func(ctx context.Context) ([]byte, error) {
		return e.fetch(ctx, c, k)
	})
	if fetchErr != nil {
		if errors.Is(err, fs.ErrIntegrity) {
			return nil, err // the damage is the news
		}
		return nil, fetchErr
	}
	return fetched, nil
}

// Has implements fs.Store. It asks the disk, not a cache. A block whose file is empty, as
// a power cut leaves it, is not there.
func (e *Embedded) Has(ctx context.Context, c fs.CID) (bool, error) {
	k, err := kuboCID(c)
	if err != nil {
		return false, err
	}
	return do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) (bool, error) {
		size, err := e.size(ctx, k)
		if errors.Is(err, datastore.ErrNotFound) {
			return false, nil
		}
		return err == nil && (size > 0 || c.Verify(nil)), err
	})
}

// size returns the length in bytes of a block's file.
func (e *Embedded) size(ctx context.Context, k cid.Cid) (int, error) {
	key := bstore.BlockPrefix.Child(dshelp.MultihashToDsKey(k.Hash()))
	return e.node.Repo.Datastore().GetSize(ctx, key)
}

// Free implements fs.Store: the blocks are deleted.
func (e *Embedded) Free(ctx context.Context, cids []fs.CID) error {
	return doErr(ctx, &e.gate, e.conf.PutTimeout, func(ctx context.Context) error {
		for _, c := range cids {
			if err := ctx.Err(); err != nil {
				return err
			}
			k, err := kuboCID(c)
			if err != nil {
				return err
			}
			err = e.pending.free(c, func() error { return e.blocks.DeleteBlock(ctx, k) })
			if err != nil {
				return fmt.Errorf("free %s: %w", c, err)
			}
		}
		return nil
	})
}

// Usage implements fs.Store: what the repo takes, and what its file system has left for
// this user.
func (e *Embedded) Usage(ctx context.Context) (used, free uint64, err error) {
	type usage struct{ used, free uint64 }
	u, err := do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) (usage, error) {
		used, err := e.node.Repo.GetStorageUsage(ctx)
		if err != nil {
			return usage{}, err
		}
		var st unix.Statfs_t
		if err := unix.Statfs(e.conf.RepoDir, &st); err != nil {
			return usage{}, os.NewSyscallError("statfs", err)
		}
		return usage{used, st.Bavail * uint64(st.Bsize)}, nil
	})
	return u.used, u.free, err
}

// Info implements fs.Store.
func (e *Embedded) Info() fs.StoreInfo { return e.info }

// Uncommitted lists the blocks that were put, now or by an earlier process, and that no
// Link has named and no Free has dropped. What of them the tree does not know either is
// left over from a crash.
func (e *Embedded) Uncommitted() []fs.CID { return e.pending.list() }

// root is the root of MFS as a start after a power cut would find it; ok is false while
// there is none.
func (e *Embedded) root(ctx context.Context) (root cid.Cid, ok bool, err error) {
	value, err := e.node.Repo.Datastore().Get(ctx, node.FilesRootDatastoreKey)
	if errors.Is(err, datastore.ErrNotFound) {
		return cid.Undef, false, nil
	} else if err != nil {
		return cid.Undef, false, err
	}
	root, err = cid.Cast(value)
	return root, err == nil, err
}

func mendedPath(repo string) string { return filepath.Join(repo, "ipfscloud-mended") }

func fileExists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func touch(path string) error {
	f, err := safefile.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
