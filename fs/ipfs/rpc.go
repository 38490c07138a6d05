package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/cluster-labs/ipfscloud/fs"
)

// RPCConfig says which node to speak to and how. Zero durations stand for the defaults.
type RPCConfig struct {
	// URL of the node's RPC: http://HOST:PORT, https://…, /unix/PATH, the path of a
	// socket, or a multiaddr.
	URL string
	// Authorization is what the node's API.Authorizations asks for: "bearer:TOKEN",
	// "basic:USER:PASSWORD", a bare token, or the whole header.
	Authorization string
	// StagingDir keeps blocks until the node has them. It belongs to this store alone.
	StagingDir string
	// MayBeAway opens the store although the node does not answer: for who knows what is
	// staged and cached here, and can wait for the rest.
	MayBeAway bool
	Log       *slog.Logger

	RequestTimeout time.Duration // of one request, once tried; sending data adds to it; 15 s
	GetTimeout     time.Duration // of Get, Has, Commits, Resolve and Usage; 20 s
	SyncTimeout    time.Duration // of Put and Sync, which are local; 30 s
	LinkTimeout    time.Duration // of Link and Unlink; sending data adds to it; 60 s
	// FetchTimeout lets Get ask the node's network for a block that the node has not.
	// 0 is never.
	FetchTimeout time.Duration
}

func (c *RPCConfig) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.RequestTimeout, 15 * time.Second},
		{&c.GetTimeout, 20 * time.Second},
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

// RPC is a Store on a Kubo node of its own, over the node's RPC. Blocks are put into a
// staging directory here; Link sends them. They leave the staging when the commit after
// theirs is linked and verified: see staging.
type RPC struct {
	conf     RPCConfig
	client   *client
	staging  *staging
	catalog  catalog
	linkSlot chan none // held by who changes MFS
	version  atomic.Pointer[string]
	gate     gate
}

var _ fs.Store = (*RPC)(nil)

// OpenRPC asks the node for its version and opens the staging. Its errors wrap
// fs.ErrInvalid for a bad address, fs.ErrUnavailable when the node does not answer (unless
// it may be away) or refuses the authorization, and fs.ErrBusy when another store has the
// staging.
func OpenRPC(ctx context.Context, conf RPCConfig) (*RPC, error) {
	conf.defaults()
	c, err := newClient(conf.URL, conf.Authorization, conf.RequestTimeout)
	if err != nil {
		return nil, err
	}
	version, err := within(ctx, conf.GetTimeout, c.version)
	switch {
	case err == nil:
	case conf.MayBeAway && errors.Is(err, fs.ErrUnavailable) && !errors.Is(err, errRefused) && !errors.Is(err, errAnswer):
		conf.Log.Warn("the IPFS node is away", "error", err)
	default:
		c.close()
		return nil, fmt.Errorf("asking for its version: %w", err) // without the URL, which may hold a password
	}
	s, err := openStaging(conf.StagingDir)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("staging: %w", meaning(err))
	}
	r := &RPC{
		conf:     conf,
		client:   c,
		staging:  s,
		linkSlot: make(chan none, 1),
	}
	if version != "" {
		r.version.Store(&version)
	}
	r.catalog = catalog{merkledag.NewReadOnlyDagService(remoteNodes{c})}
	return r, nil
}

// Put implements fs.Store: it stages the blocks.
func (r *RPC) Put(ctx context.Context, bs []fs.Block) error {
	if err := checkBlocks(bs); err != nil {
		return err
	}
	return doErr(ctx, &r.gate, r.conf.SyncTimeout, func(context.Context) error {
		return r.staging.put(bs)
	})
}

// Sync implements fs.Store.
func (r *RPC) Sync(ctx context.Context) error {
	return doErr(ctx, &r.gate, r.conf.SyncTimeout, r.staging.sync)
}

// Get implements fs.Store: from the staging, or else from the node.
func (r *RPC) Get(ctx context.Context, c fs.CID) ([]byte, error) {
	limit := r.conf.GetTimeout + r.conf.FetchTimeout
	return do(ctx, &r.gate, limit, func(ctx context.Context) ([]byte, error) {
		return r.get(ctx, c)
	})
}

func (r *RPC) get(ctx context.Context, c fs.CID) ([]byte, error) {
	data, stagingErr := r.staging.get(c)
	if stagingErr == nil {
		return data, nil
	}
	k, err := kuboCID(c)
	if err != nil {
		return nil, err
	}
	data, err = r.client.block(ctx, k, true)
	if errors.Is(err, fs.ErrNotFound) && r.conf.FetchTimeout > 0 {
		data, err = within(ctx, r.conf.FetchTimeout, func(ctx context.Context) ([]byte, error) {
			return r.client.block(ctx, k, false)
		})
	}
	if err == nil && c.Verify(data) {
		return data, nil
	}
	if !errors.Is(stagingErr, fs.ErrNotFound) {
		return nil, stagingErr // damage here says more than absence there
	}
	if err == nil {
		err = fs.ErrIntegrity
	}
	return nil, fmt.Errorf("block %s: %w", c, err)
}

// Has implements fs.Store.
func (r *RPC) Has(ctx context.Context, c fs.CID) (bool, error) {
	return do(ctx, &r.gate, r.conf.GetTimeout, func(ctx context.Context) (bool, error) {
		if _, ok := r.staging.size(c); ok {
			return true, nil
		}
		k, err := kuboCID(c)
		if err != nil {
			return false, err
		}
		return r.client.hasBlock(ctx, k)
	})
}

// Free implements fs.Store: what is staged is dropped, the rest is left to the node's
// garbage collection.
func (r *RPC) Free(ctx context.Context, cids []fs.CID) error {
	return doErr(ctx, &r.gate, r.conf.SyncTimeout, func(context.Context) error {
		return r.staging.drop(cids)
	})
}

// Commits implements fs.Store.
func (r *RPC) Commits(ctx context.Context, vault string) ([]fs.CommitName, error) {
	return do(ctx, &r.gate, r.conf.GetTimeout, func(ctx context.Context) ([]fs.CommitName, error) {
		root, err := r.root(ctx)
		if err != nil {
			return nil, err
		}
		r.learnVersion(ctx)
		return r.catalog.commits(ctx, root, vault)
	})
}

// learnVersion asks a node for its version that was away when the store was opened.
func (r *RPC) learnVersion(ctx context.Context) {
	if r.version.Load() != nil {
		return
	}
	if v, err := r.client.version(ctx); err == nil {
		r.version.Store(&v)
	}
}

// Resolve implements fs.Store.
func (r *RPC) Resolve(ctx context.Context, name fs.CommitName) (fs.CID, error) {
	if err := checkName(name); err != nil {
		return fs.CID{}, err
	}
	return do(ctx, &r.gate, r.conf.GetTimeout, func(ctx context.Context) (fs.CID, error) {
		return r.resolve(ctx, name)
	})
}

func (r *RPC) resolve(ctx context.Context, name fs.CommitName) (fs.CID, error) {
	root, err := r.root(ctx)
	if err != nil {
		return fs.CID{}, err
	}
	return r.catalog.commit(ctx, root, name)
}

// root is the root of the node's MFS.
func (r *RPC) root(ctx context.Context) (cid.Cid, error) {
	var stat struct{ Hash string }
	q := request{command: "files/stat", args: []string{"/"}, options: noNetwork()}
	if err := r.client.json(ctx, q, &stat); err != nil {
		return cid.Undef, err
	}
	root, err := cid.Decode(stat.Hash)
	if err != nil {
		return cid.Undef, fmt.Errorf("the root of MFS: %w: %w", errAnswer, err)
	}
	return root, nil
}

// Usage implements fs.Store. It tells what the node says of its repo. A node that is
// fuller than its own limit, which Kubo does not enforce, leaves both unknown.
func (r *RPC) Usage(ctx context.Context) (used, free uint64, err error) {
	var stat struct{ RepoSize, StorageMax uint64 }
	err = doErr(ctx, &r.gate, r.conf.GetTimeout, func(ctx context.Context) error {
		q := request{command: "repo/stat", options: map[string]any{"size-only": true}}
		return r.client.json(ctx, q, &stat)
	})
	if err != nil || stat.RepoSize >= stat.StorageMax {
		return 0, 0, err
	}
	return stat.RepoSize, stat.StorageMax - stat.RepoSize, nil
}

// Info implements fs.Store. The version is empty while the node was always away.
func (r *RPC) Info() fs.StoreInfo {
	info := fs.StoreInfo{Kind: "rpc"}
	if v := r.version.Load(); v != nil {
		info.Version = *v
	}
	return info
}

// Close implements fs.Store. It waits for operations under way, for a while.
func (r *RPC) Close() error {
	first, idle := r.gate.close(r.conf.LinkTimeout)
	if !first {
		return nil
	}
	if !idle {
		r.conf.Log.Error("closing the IPFS store while an operation hangs")
	}
	r.client.close()
	return r.staging.close()
}

// remoteNodes reads nodes of MFS from a node elsewhere, offline, and verifies each.
type remoteNodes struct{ client *client }

// Get implements ipld.NodeGetter.
func (g remoteNodes) Get(ctx context.Context, k cid.Cid) (ipld.Node, error) {
	data, err := g.client.block(ctx, k, true)
	if err != nil {
		return nil, err
	}
	if sum, err := k.Prefix().Sum(data); err != nil || !sum.Equals(k) {
		return nil, fmt.Errorf("node %s: %w", k, fs.ErrIntegrity)
	}
	b, err := blocks.NewBlockWithCid(data, k)
	if err != nil {
		return nil, err
	}
	if k.Type() == cid.Raw {
		return merkledag.DecodeRawBlock(b)
	}
	return merkledag.DecodeProtobufBlock(b)
}

// GetMany implements ipld.NodeGetter.
func (g remoteNodes) GetMany(ctx context.Context, ks []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption, len(ks))
	go func() {
		defer close(out)
		for _, k := range ks {
			n, err := g.Get(ctx, k)
			out <- &ipld.NodeOption{Node: n, Err: err} // there is room for all
		}
	}()
	return out
}
