package ipfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	bserv "github.com/ipfs/boxo/blockservice"
	bstore "github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/core/node"
	"github.com/ipfs/kubo/repo"

	"github.com/cluster-labs/ipfscloud/fs"
)

// The directories of MFS above a commit: root, CommitRoot, vault, device. All must be
// readable, or the node does not start or cannot link.
const dirsAboveCommit = 4

// setAsideKey holds the MFS root that could not be read, for a person who wants to look.
func setAsideKey() datastore.Key { return datastore.NewKey("/local/filesroot-unreadable") }

// offlineDAG reads nodes from the blocks alone and verifies each.
func offlineDAG(blocks bstore.Blockstore) ipld.DAGService {
	checked := &bstore.ValidatingBlockstore{Blockstore: blocks}
	return merkledag.NewDAGService(bserv.New(checked, offline.Exchange(checked)))
}

// mender rebuilds the directories of MFS from those of their parts that can be read.
type mender struct {
	blocks bstore.Blockstore
	dag    ipld.DAGService
	log    *slog.Logger
}

// mendRoot makes the MFS root of a closed node readable: what of the directories above
// commits cannot be read, as after a power cut, is left out, and the old root is set
// aside. It reports whether anything was left out; mark runs before that takes effect.
func mendRoot(ctx context.Context, r repo.Repo, log *slog.Logger, mark func() error) (mended bool, err error) {
	store := r.Datastore()
	value, err := store.Get(ctx, node.FilesRootDatastoreKey)
	if errors.Is(err, datastore.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read the root of MFS: %w", err)
	}
	m := mender{blocks: bstore.NewBlockstore(store), log: log}
	m.dag = offlineDAG(m.blocks)

	root := unixfs.EmptyDirNode()
	changed := true
	if k, err := cid.Cast(value); err != nil {
		log.Error("the root of MFS is no CID; beginning with an empty one", "error", err)
	} else if root, changed, err = m.mend(ctx, k, "/", dirsAboveCommit); err != nil {
		return false, err
	} else if !changed {
		return false, nil
	}
	if err := mark(); err != nil {
		return false, err
	}
	if err := m.put(ctx, root); err != nil {
		return false, err
	}
	if err := store.Put(ctx, setAsideKey(), value); err != nil {
		return false, err
	}
	if err := store.Sync(ctx, datastore.NewKey("/")); err != nil {
		return false, err
	}
	if err := store.Put(ctx, node.FilesRootDatastoreKey, root.Cid().Bytes()); err != nil {
		return false, err
	}
	return true, store.Sync(ctx, node.FilesRootDatastoreKey)
}

// mend returns the directory at k with the subdirectories that can be read, depth levels
// deep. The error is for what may pass; damage is no error.
func (m mender) mend(ctx context.Context, k cid.Cid, path string, depth int) (dir *merkledag.ProtoNode, changed bool, err error) {
	dir, damage := m.readDir(ctx, k)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if damage != nil {
		m.log.Error("a directory of MFS cannot be read; leaving out what was in it",
			"path", path, "cid", k, "error", damage)
		return unixfs.EmptyDirNode(), true, nil
	}
	if depth == 1 || sharded(dir) {
		return dir, false, nil
	}
	for _, l := range dir.Copy().Links() {
		if path == "/" && l.Name != commitDir {
			continue // not ours
		}
		if l.Cid.Type() != cid.DagProtobuf {
			continue // a file; no commit is below it
		}
		child, below, err := m.mend(ctx, l.Cid, path+l.Name+"/", depth-1)
		if err != nil {
			return nil, false, err
		}
		if !below {
			continue
		}
		changed = true
		if err := dir.RemoveNodeLink(l.Name); err != nil {
			return nil, false, err
		}
		if err := m.put(ctx, child); err != nil {
			return nil, false, err
		}
		if err := dir.AddNodeLink(l.Name, child); err != nil {
			return nil, false, err
		}
	}
	return dir, changed, nil
}

func (m mender) readDir(ctx context.Context, k cid.Cid) (*merkledag.ProtoNode, error) {
	n, err := m.dag.Get(ctx, k)
	if err != nil {
		return nil, err
	}
	p, ok := n.(*merkledag.ProtoNode)
	if !ok {
		return nil, merkledag.ErrNotProtobuf
	}
	f, err := unixfs.FSNodeFromBytes(p.Data())
	if err != nil {
		return nil, err
	}
	if !f.IsDir() {
		return nil, fmt.Errorf("of type %s: %w", f.Type(), fs.ErrNotDir)
	}
	if f.Type() == unixfs.THAMTShard { // its shards are read here, and then left alone
		if _, err := (catalog{m.dag}).list(ctx, k); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// sharded reports whether a directory is a HAMT, whose links are not its names.
func sharded(dir *merkledag.ProtoNode) bool {
	f, err := unixfs.FSNodeFromBytes(dir.Data())
	return err == nil && f.Type() == unixfs.THAMTShard
}

func (m mender) put(ctx context.Context, n *merkledag.ProtoNode) error {
	b, err := blocks.NewBlockWithCid(n.RawData(), n.Cid())
	if err != nil {
		return err
	}
	return m.blocks.Put(ctx, b)
}
