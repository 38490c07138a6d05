package ipfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bstore "github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-cid"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// pending is the set of blocks that were put and that no commit names yet. The garbage
// collection of the node spares them. It is a file of fixed records beside the blocks, so
// that the blocks are spared after a restart too; the file is synced with the blocks.
//
// A lost removal only spares a block for too long. A lost addition could lose a block, so
// the record is written before the block is.
type pending struct {
	mu      sync.Mutex // held while a block is deleted: an addition waits for the deletion
	file    *os.File
	path    string
	size    int64 // of the file
	blocks  map[[32]byte]pendingBlock
	guarded bool // no block at all may be collected
}

type pendingBlock struct {
	codec crypt.Codec
	size  int // bytes; unknownSize when put by an earlier process
}

const (
	pendingAdd    = '+'
	pendingRemove = '-'
	pendingRecord = 2 + 32
	unknownSize   = -1

	// compactPending is the size of the file in bytes from which it is rewritten when
	// most of its records are spent.
	compactPending = 1 << 20
)

var (
	errUncommitted = errors.New("the block waits for its commit")
	errRecovering  = errors.New("the roots of the node were lost and are not all linked again")
)

func openPending(path string) (*pending, error) {
	file, err := safefile.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p := &pending{file: file, path: path, blocks: make(map[[32]byte]pendingBlock)}
	data, err := safefile.ReadFile(path)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	for ; len(data) >= pendingRecord; data = data[pendingRecord:] {
		codec, digest := crypt.Codec(data[1]), [32]byte(data[2:pendingRecord])
		switch {
		case codec != crypt.Raw && codec != crypt.DagPB: // zeroes after a power cut
		case data[0] == pendingAdd:
			p.blocks[digest] = pendingBlock{codec, unknownSize}
		case data[0] == pendingRemove:
			delete(p.blocks, digest)
		}
		p.size += pendingRecord
	}
	if len(data) > 0 { // the process died within a record
		if err := file.Truncate(p.size); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return p, nil
}

func (p *pending) close() error { return p.file.Close() }

// add records blocks that are about to be put.
func (p *pending) add(blocks []fs.Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var records []byte
	for _, b := range blocks {
		if _, ok := p.blocks[b.CID.Digest]; !ok {
			records = appendPending(records, pendingAdd, b.CID.Codec, b.CID.Digest)
		}
	}
	if err := p.append(records); err != nil {
		return err
	}
	for _, b := range blocks {
		p.blocks[b.CID.Digest] = pendingBlock{b.CID.Codec, len(b.Data)}
	}
	return nil
}

// addSized records a block of size bytes that is about to be put.
func (p *pending) addSized(c fs.CID, size int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.blocks[c.Digest]; !ok {
		if err := p.append(appendPending(nil, pendingAdd, c.Codec, c.Digest)); err != nil {
			return err
		}
	}
	p.blocks[c.Digest] = pendingBlock{c.Codec, size}
	return nil
}

// remove ends the wait of blocks; those that do not wait are passed over.
func (p *pending) remove(cids []fs.CID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removeLocked(cids)
}

func (p *pending) removeLocked(cids []fs.CID) error {
	var records []byte
	for _, c := range cids {
		if _, ok := p.blocks[c.Digest]; ok {
			delete(p.blocks, c.Digest)
			records = appendPending(records, pendingRemove, c.Codec, c.Digest)
		}
	}
	if len(records) == 0 {
		return nil
	}
	if len(p.blocks) == 0 {
		if err := p.file.Truncate(0); err != nil {
			return err
		}
		p.size = 0
		return nil
	}
	if err := p.append(records); err != nil {
		return err
	}
	if p.size > compactPending && p.size > 4*pendingRecord*int64(len(p.blocks)) {
		return p.compact()
	}
	return nil
}

func (p *pending) append(records []byte) error {
	n, err := p.file.Write(records)
	if err != nil && n > 0 { // do not let a torn record shift those that follow
		err = errors.Join(err, p.file.Truncate(p.size))
		n = 0
	}
	p.size += int64(n)
	return err
}

// compact rewrites the file with the live records alone. A power cut leaves the old file
// or the new one: the new one is synced before it takes the place.
func (p *pending) compact() (err error) {
	var records []byte
	for digest, b := range p.blocks {
		records = appendPending(records, pendingAdd, b.codec, digest)
	}
	tmp := p.path + ".new"
	file, err := safefile.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(tmp))
		}
	}()
	if _, err := file.Write(records); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.path); err != nil {
		return err
	}
	old := p.file
	p.file, p.size = file, int64(len(records))
	return old.Close()
}

func appendPending(b []byte, op byte, codec crypt.Codec, digest [32]byte) []byte {
	return append(append(b, op, byte(codec)), digest[:]...)
}

// known returns the size in bytes that a waiting block was put with.
func (p *pending) known(c fs.CID) (size int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.blocks[c.Digest]
	return b.size, ok && b.size != unknownSize
}

// list returns the waiting blocks in no particular order.
func (p *pending) list() []fs.CID {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]fs.CID, 0, len(p.blocks))
	for digest, b := range p.blocks {
		out = append(out, fs.CID{Codec: b.codec, Digest: digest})
	}
	return out
}

// free ends the wait of a block and deletes it, in one step as the set sees it.
func (p *pending) free(c fs.CID, remove func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.removeLocked([]fs.CID{c}); err != nil {
		return err
	}
	return remove()
}

// waits reports whether a block waits for its commit.
func (p *pending) waits(c cid.Cid) bool {
	digest, ok := digestOf(c)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok = p.blocks[digest]
	return ok
}

// mayCollect returns an error while nothing may be collected.
func (p *pending) mayCollect() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.guarded {
		return errRecovering
	}
	return nil
}

// guard forbids or allows the collection of all other blocks.
func (p *pending) guard(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guarded = on
}

// guardedBlockstore is the node's blockstore as its garbage collection and its users see
// it. A collection sweeps while blocks are put; this keeps its hands off those that wait
// for a commit, and stops no writer for it.
type guardedBlockstore struct {
	bstore.GCBlockstore
	pending *pending
	sweeps  atomic.Int32 // collections that hold the lock
}

// GCLock notes that a collection runs.
func (g *guardedBlockstore) GCLock(ctx context.Context) bstore.Unlocker {
	u := g.GCBlockstore.GCLock(ctx)
	g.sweeps.Add(1)
	return &sweepUnlocker{Unlocker: u, sweeps: &g.sweeps}
}

type sweepUnlocker struct {
	bstore.Unlocker
	sweeps *atomic.Int32
}

func (u *sweepUnlocker) Unlock(ctx context.Context) {
	u.sweeps.Add(-1)
	u.Unlocker.Unlock(ctx)
}

// AllKeysChan lists the blocks. To a collection it does not show those that wait: a block
// begins to wait before it is there to be listed, and no Link ends its wait while a
// collection runs.
func (g *guardedBlockstore) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	if g.sweeps.Load() == 0 {
		return g.GCBlockstore.AllKeysChan(ctx)
	}
	if err := g.pending.mayCollect(); err != nil {
		return nil, err
	}
	all, err := g.GCBlockstore.AllKeysChan(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		for c := range all { // it ends with ctx
			if g.pending.waits(c) {
				continue
			}
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// DeleteBlock deletes a block unless it waits for a commit: one that was garbage when the
// collection listed it may have been put anew.
func (g *guardedBlockstore) DeleteBlock(ctx context.Context, c cid.Cid) error {
	g.pending.mu.Lock()
	defer g.pending.mu.Unlock()
	if g.pending.guarded {
		return errRecovering
	}
	if digest, ok := digestOf(c); ok {
		if _, waits := g.pending.blocks[digest]; waits {
			return fmt.Errorf("block %s: %w", c, errUncommitted)
		}
	}
	return g.GCBlockstore.DeleteBlock(ctx, c)
}

func pendingPath(repo string) string { return filepath.Join(repo, "ipfscloud-pending") }
