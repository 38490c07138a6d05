package ipfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	bstore "github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/mfs"
	"github.com/ipfs/go-datastore"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// publishTries bounds how often the root is published anew when it is read back without
// the change, which happens when another user of the node's MFS gets in between.
const publishTries = 5

// Link implements fs.Store.
//
// The order makes it durable: the blocks are there; the change goes into MFS; MFS's root
// is published, for which Kubo syncs the blocks, then writes the root, then syncs it; and
// the name is read back from that root on disk. Nothing waits for a timer of MFS.
func (e *Embedded) Link(ctx context.Context, name fs.CommitName, dir fs.CID, cids []fs.CID) error {
	if err := checkName(name); err != nil {
		return err
	}
	if dir.Codec != crypt.DagPB {
		return fmt.Errorf("%s is no directory: %w", dir, fs.ErrInvalid)
	}
	err := doErr(ctx, &e.gate, e.conf.LinkTimeout, func(ctx context.Context) error {
		return e.link(ctx, name, dir, append(slices.Clone(cids), dir))
	})
	if err != nil {
		return fmt.Errorf("link %s: %w", name.Path(), e.full(err))
	}
	return nil
}

func (e *Embedded) link(ctx context.Context, name fs.CommitName, dir fs.CID, cids []fs.CID) error {
	for _, c := range cids {
		if err := e.present(ctx, c); err != nil {
			return err
		}
	}
	data, err := e.Get(ctx, dir)
	if err != nil {
		return err
	}
	nd, err := decodeDir(dir, data)
	if err != nil {
		return err
	}
	release, err := e.lockMFS(ctx)
	if err != nil {
		return err
	}
	defer release()
	root := e.node.FilesRoot
	parent, last := path.Split(name.Path())
	if err := mfs.Mkdir(root, parent, mfs.MkdirOpts{Mkparents: true}); err != nil {
		return fmt.Errorf("%s: %w", parent, err)
	}
	have, err := childOf(root, parent, last)
	switch {
	case errors.Is(err, fs.ErrNotFound):
		if err := mfs.PutNode(root, name.Path(), nd); err != nil {
			return err
		}
	case err != nil:
		return err
	case have != dir:
		return fmt.Errorf("it is linked to %s: %w", have, fs.ErrExist)
	}
	err = e.publish(ctx, parent, func(got fs.CID, err error) bool { return err == nil && got == dir }, name)
	if err != nil {
		return err
	}
	if err := e.pending.remove(cids); err != nil {
		// The commit stands; its blocks are only spared for longer.
		e.conf.Log.Warn("cannot record that blocks are committed", "error", err)
	}
	return nil
}

// decodeDir reads the directory of a commit and makes sure that MFS would not write it
// in another way, for it would then link another CID.
func decodeDir(dir fs.CID, data []byte) (*merkledag.ProtoNode, error) {
	nd, err := merkledag.DecodeProtobuf(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dir, fs.ErrInvalid, err)
	}
	if f, err := unixfs.FSNodeFromBytes(nd.Data()); err != nil || !f.IsDir() {
		return nil, fmt.Errorf("%s is no directory: %w", dir, fs.ErrInvalid)
	}
	k, err := kuboCID(dir)
	if err != nil {
		return nil, err
	}
	nd = nd.Copy().(*merkledag.ProtoNode) // encodes anew
	if err := nd.SetCidBuilder(k.Prefix()); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dir, fs.ErrInvalid, err)
	}
	if !nd.Cid().Equals(k) {
		return nil, fmt.Errorf("%s is not in canonical dag-pb: %w", dir, fs.ErrInvalid)
	}
	return nd, nil
}

// present checks that a block lies in the node, with the size it was put with.
func (e *Embedded) present(ctx context.Context, c fs.CID) error {
	k, err := kuboCID(c)
	if err != nil {
		return err
	}
	size, err := e.size(ctx, k)
	if errors.Is(err, datastore.ErrNotFound) {
		return fmt.Errorf("block %s: %w", c, fs.ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("block %s: %w", c, err)
	}
	if want, ok := e.pending.known(c); ok && size != want || size == 0 && !c.Verify(nil) {
		return fmt.Errorf("block %s has %d bytes: %w", c, size, fs.ErrIntegrity)
	}
	return nil
}

// lockMFS takes the link slot and keeps the node's collection from running until release.
func (e *Embedded) lockMFS(ctx context.Context) (release func(), err error) {
	select {
	case e.linkSlot <- none{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	locked := make(chan bstore.Unlocker, 1)
	go func() { locked <- e.node.Blockstore.PinLock(ctx) }() // does not heed its context
	select {
	case u := <-locked:
		return func() {
			u.Unlock(ctx)
			<-e.linkSlot
		}, nil
	case <-ctx.Done():
		go func() {
			(<-locked).Unlock(ctx)
			<-e.linkSlot
		}()
		return nil, fmt.Errorf("a garbage collection of the node is running: %w", ctx.Err())
	}
}

// childOf returns what a name in an MFS directory is linked to.
func childOf(root *mfs.Root, parent, name string) (fs.CID, error) {
	at, err := mfs.Lookup(root, parent)
	if err != nil {
		return fs.CID{}, notInMFS(err)
	}
	dir, ok := at.(*mfs.Directory)
	if !ok {
		return fs.CID{}, fmt.Errorf("%s: %w", parent, fs.ErrNotDir)
	}
	child, err := dir.Child(name)
	if err != nil {
		return fs.CID{}, notInMFS(err)
	}
	nd, err := child.GetNode()
	if err != nil {
		return fs.CID{}, err
	}
	return ourCID(nd.Cid())
}

func notInMFS(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	return err
}

// publish flushes an MFS directory until the root on disk shows the wanted state of a
// name. done gets what the name leads to there.
func (e *Embedded) publish(ctx context.Context, dir string, done func(fs.CID, error) bool, name fs.CommitName) error {
	for range publishTries {
		if _, err := mfs.FlushPath(ctx, e.node.FilesRoot, dir); err != nil {
			return fmt.Errorf("flush %s: %w", dir, notInMFS(err))
		}
		if err := ctx.Err(); err != nil { // FlushPath passes over it
			return fmt.Errorf("publish the root of MFS: %w", err)
		}
		got, err := e.resolve(ctx, name)
		if done(got, err) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotFound) {
			return err
		}
	}
	return fmt.Errorf("the root of MFS on disk does not show the change: %w", fs.ErrUnavailable)
}

// Unlink implements fs.Store.
func (e *Embedded) Unlink(ctx context.Context, name fs.CommitName) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := doErr(ctx, &e.gate, e.conf.LinkTimeout, func(ctx context.Context) error {
		return e.unlink(ctx, name)
	})
	if err != nil {
		return fmt.Errorf("unlink %s: %w", name.Path(), e.full(err))
	}
	return nil
}

func (e *Embedded) unlink(ctx context.Context, name fs.CommitName) error {
	release, err := e.lockMFS(ctx)
	if err != nil {
		return err
	}
	defer release()
	parent, last := path.Split(name.Path())
	at, err := mfs.Lookup(e.node.FilesRoot, parent)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir, ok := at.(*mfs.Directory)
	if !ok {
		return fmt.Errorf("%s: %w", parent, fs.ErrNotDir)
	}
	if err := dir.Unlink(last); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	gone := func(_ fs.CID, err error) bool { return errors.Is(err, fs.ErrNotFound) }
	return e.publish(ctx, strings.TrimSuffix(parent, "/"), gone, name)
}

// full turns a time that ran out into fs.ErrNoSpace when the disk is full: MFS tries a
// failed publication of its root again and again, and does not tell why.
func (e *Embedded) full(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	_, free, usageErr := e.Usage(context.Background())
	if usageErr == nil && free < maxBlock {
		return fmt.Errorf("%w: %w", fs.ErrNoSpace, err)
	}
	return err
}

// Commits implements fs.Store.
func (e *Embedded) Commits(ctx context.Context, vault string) ([]fs.CommitName, error) {
	return do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) ([]fs.CommitName, error) {
		root, ok, err := e.root(ctx)
		if err != nil || !ok {
			return nil, err
		}
		return e.catalog.commits(ctx, root, vault)
	})
}

// Resolve implements fs.Store.
func (e *Embedded) Resolve(ctx context.Context, name fs.CommitName) (fs.CID, error) {
	if err := checkName(name); err != nil {
		return fs.CID{}, err
	}
	return do(ctx, &e.gate, e.conf.GetTimeout, func(ctx context.Context) (fs.CID, error) {
		return e.resolve(ctx, name)
	})
}

func (e *Embedded) resolve(ctx context.Context, name fs.CommitName) (fs.CID, error) {
	root, ok, err := e.root(ctx)
	if err != nil {
		return fs.CID{}, err
	}
	if !ok {
		return fs.CID{}, fmt.Errorf("commit %s: %w", name.Path(), fs.ErrNotFound)
	}
	return e.catalog.commit(ctx, root, name)
}

// Commit is a commit's name and its directory.
type Commit struct {
	Name fs.CommitName
	Dir  fs.CID
}

// Recovered reports that directories of MFS could not be read at a start, now or earlier,
// and that names of commits were lost with them. Until Relink the node's garbage
// collection deletes nothing.
func (e *Embedded) Recovered() bool {
	return e.mended.Load()
}

// Relink links the commits that the caller knows of, after Recovered. Those whose
// directory is gone are passed over; if none could be linked though some were given, that
// is fs.ErrNotFound. Then it lets the node collect garbage again.
func (e *Embedded) Relink(ctx context.Context, commits []Commit) error {
	linked := 0
	for _, c := range commits {
		err := e.Link(ctx, c.Name, c.Dir, nil)
		if errors.Is(err, fs.ErrNotFound) || errors.Is(err, fs.ErrIntegrity) {
			e.conf.Log.Error("a commit is lost", "name", c.Name.Path(), "cid", c.Dir, "error", err)
			continue
		} else if err != nil {
			return err
		}
		linked++
	}
	if linked == 0 && len(commits) > 0 {
		return fmt.Errorf("none of %d commits is left: %w", len(commits), fs.ErrNotFound)
	}
	if err := os.Remove(mendedPath(e.conf.RepoDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return meaning(err)
	}
	e.mended.Store(false)
	e.pending.guard(false)
	return nil
}
