package fuse

import (
	"context"
	"errors"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	// maxWriteBacks bounds the seeks that wait for the kernel to write back: each takes
	// a thread, and the writes need others.
	maxWriteBacks = maxThreads / 8
	// seekTries bounds how often a seek looks again because data came meanwhile.
	seekTries = 4
)

// Lseek finds data and holes. The kernel asks without having written back what was
// changed through mappings: so before the tree calls anything a hole, the kernel has to
// give up what it has of that range. A copy that skips holes would lose data otherwise.
func (r *raw) Lseek(c <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	ctx, cancel := r.bounded(c)
	defer cancel()
	ino := fs.Ino(in.NodeId)
	at, err := r.tree.Seek(ctx, ino, in.Offset, in.Whence)
	for range seekTries {
		from, to, err2 := r.hole(ctx, ino, in, at, err)
		if err2 != nil || from >= to {
			out.Offset = at
			return r.fail(errors.Join(err, err2))
		}
		if err := r.clean(ctx, in.NodeId, from, to); err != nil {
			return r.fail(err)
		}
		was, wasErr := at, err
		at, err = r.tree.Seek(ctx, ino, in.Offset, in.Whence)
		if at == was && errors.Is(err, fs.ErrNoSeek) == errors.Is(wasErr, fs.ErrNoSeek) {
			out.Offset = at
			return r.fail(err)
		}
	}
	// Somebody fills the hole all the time: call it data.
	out.Offset = in.Offset
	if in.Whence == fs.SeekHole {
		a, err := r.tree.GetAttr(ctx, ino)
		if err != nil {
			return r.fail(err)
		}
		out.Offset = a.Size
	}
	return gofuse.OK
}

// hole returns the range that an answer calls a hole, empty if there is none.
func (r *raw) hole(ctx context.Context, ino fs.Ino, in *gofuse.LseekIn, at uint64, err error) (from, to uint64, _ error) {
	a, err2 := r.tree.GetAttr(ctx, ino)
	switch {
	case err2 != nil:
		return 0, 0, err2
	case in.Offset >= a.Size:
		return 0, 0, nil
	case in.Whence == fs.SeekData && errors.Is(err, fs.ErrNoSeek):
		return in.Offset, a.Size, nil
	case err != nil:
		return 0, 0, nil
	case in.Whence == fs.SeekData:
		return in.Offset, at, nil
	}
	to, err = r.tree.Seek(ctx, ino, at, fs.SeekData)
	if errors.Is(err, fs.ErrNoSeek) {
		return at, a.Size, nil
	}
	return at, to, err
}

// clean waits until the kernel has written back a range of a file, or has forgotten a
// listing, or for the end of ctx.
func (r *raw) clean(ctx context.Context, ino, from, to uint64) error {
	select {
	case r.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() { // the kernel may take as long as the mount lives
		defer func() { <-r.writing }()
		done <- r.writeBack(ino, int64(from), int64(to-from))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
