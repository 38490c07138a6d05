package ipfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/plugins/levelds"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// The layout of an embedded repo: blocks as files, everything else in leveldb. It is
// Kubo's default, so that the ordinary ipfs program can open the repo too.
const (
	blocksDir = "blocks"
	shardFunc = "/repo/flatfs/shard/v1/next-to-last/2"
)

func datastoreSpec() map[string]any {
	return map[string]any{
		"type": "mount",
		"mounts": []any{
			map[string]any{
				"mountpoint": "/blocks",
				"type":       "measure",
				"prefix":     "flatfs.datastore",
				"child": map[string]any{
					"type": "flatfs", "path": blocksDir, "sync": false, "shardFunc": shardFunc,
				},
			},
			map[string]any{
				"mountpoint": "/",
				"type":       "measure",
				"prefix":     "leveldb.datastore",
				"child": map[string]any{
					"type": "levelds", "path": "datastore", "compression": "none",
				},
			},
		},
	}
}

// registerDatastores tells Kubo of the two datastores we use. Kubo keeps them in a map of
// the process without a lock, which forces this one variable on us.
var registerDatastores = sync.OnceValue(func() error {
	if err := fsrepo.AddDatastoreConfigHandler("flatfs", newSyncedConfig); err != nil {
		return fmt.Errorf("register flatfs: %w", err)
	}
	for _, p := range levelds.Plugins {
		d, ok := p.(plugin.PluginDatastore)
		if !ok {
			return errors.New("kubo's leveldb plugin is no datastore")
		}
		if err := fsrepo.AddDatastoreConfigHandler(d.DatastoreTypeName(), d.DatastoreConfigParser()); err != nil {
			return fmt.Errorf("register leveldb: %w", err)
		}
	}
	return nil
})

// syncedConfig makes the datastore of blocks. On disk it is flatfs; but where flatfs's
// Sync does nothing, ours makes the blocks survive a power cut. Everything in Kubo that
// asks for a Sync of blocks before it moves a root gets one in truth.
type syncedConfig struct {
	path  string
	shard *flatfs.ShardIdV1
}

func newSyncedConfig(params map[string]any) (fsrepo.DatastoreConfig, error) {
	path, ok := params["path"].(string)
	if !ok {
		return nil, errors.New("flatfs: 'path' is missing or no string")
	}
	name, ok := params["shardFunc"].(string)
	if !ok {
		return nil, errors.New("flatfs: 'shardFunc' is missing or no string")
	}
	shard, err := flatfs.ParseShardFunc(name)
	if err != nil {
		return nil, err
	}
	return &syncedConfig{path: path, shard: shard}, nil
}

// DiskSpec is flatfs's own.
func (c *syncedConfig) DiskSpec() fsrepo.DiskSpec {
	return map[string]any{"type": "flatfs", "path": c.path, "shardFunc": c.shard.String()}
}

// Create opens the datastore below the repo's path.
func (c *syncedConfig) Create(path string) (repo.Datastore, error) {
	p := c.path
	if !filepath.IsAbs(p) {
		p = filepath.Join(path, p)
	}
	linked := linkedBytes{linkedPath(path)}
	if _, err := os.Stat(filepath.Join(p, flatfs.DiskUsageFile)); errors.Is(err, os.ErrNotExist) {
		// It counts all files anew.
		if err := os.Remove(linked.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	d, err := flatfs.CreateOrOpen(p, c.shard, false)
	if err != nil {
		return nil, err
	}
	dir, err := safefile.OpenDir(p)
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	return &syncedFlatFS{Datastore: d, dir: dir, linked: linked}, nil
}

// syncedFlatFS is flatfs with a Sync that syncs, and that leaves alone what it has. Its
// directory stays open from the start, because the kernel tells a failed write-back to
// descriptors opened before it.
//
// Kubo, with WriteThrough, writes a block again that is there, so that a file which a power
// cut emptied is mended. But the new file takes the place of one that may be on the disk
// long since, and is not there itself before the next Sync: a power cut in between would
// damage a block of commits that are acknowledged. So what is there is compared first.
type syncedFlatFS struct {
	*flatfs.Datastore
	dir    *os.File
	linked linkedBytes
}

// DiskUsage is flatfs's count and what it does not count.
func (d *syncedFlatFS) DiskUsage(ctx context.Context) (uint64, error) {
	n, err := d.Datastore.DiskUsage(ctx)
	return uint64(max(0, int64(n)+d.linked.get())), err
}

// Sync writes out the whole file system that holds the blocks.
func (d *syncedFlatFS) Sync(ctx context.Context, prefix datastore.Key) error {
	if err := d.Datastore.Sync(ctx, prefix); err != nil {
		return err
	}
	return syncFS(d.dir)
}

// Put implements datastore.Write.
func (d *syncedFlatFS) Put(ctx context.Context, key datastore.Key, value []byte) error {
	if d.holds(ctx, key, value) {
		return nil
	}
	return d.Datastore.Put(ctx, key, value)
}

// Batch implements datastore.Batching.
func (d *syncedFlatFS) Batch(ctx context.Context) (datastore.Batch, error) {
	b, err := d.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return sparingBatch{Batch: b, store: d}, nil
}

// sparingBatch puts only what is not there.
type sparingBatch struct {
	datastore.Batch
	store *syncedFlatFS
}

// Put implements datastore.Write.
func (b sparingBatch) Put(ctx context.Context, key datastore.Key, value []byte) error {
	if b.store.holds(ctx, key, value) {
		return nil
	}
	return b.Batch.Put(ctx, key, value)
}

// holds reports whether the file of a key has just this content.
func (d *syncedFlatFS) holds(ctx context.Context, key datastore.Key, value []byte) bool {
	size, err := d.GetSize(ctx, key)
	if err != nil || size != len(value) {
		return false
	}
	there, err := d.Get(ctx, key)
	return err == nil && bytes.Equal(there, value)
}

// Close closes the datastore.
func (d *syncedFlatFS) Close() error {
	return errors.Join(d.Datastore.Close(), d.dir.Close())
}

// syncFS is syncfs(2) on the file system that holds f.
func syncFS(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sys error
	if err := conn.Control(func(fd uintptr) { sys = unix.Syncfs(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError("syncfs", sys)
}
