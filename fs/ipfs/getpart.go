package ipfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// GetPart implements what fs asks of a store that can read a part of a block: flatfs keeps
// each block as a file.
func (e *Embedded) GetPart(ctx context.Context, c fs.CID, off int64, p []byte) error {
	k, err := kuboCID(c)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return meaning(err)
	}
	if b := e.cached(k, off, func(there int64) []byte { return p[:min(int64(len(p)), there)] }); len(b) == len(p) {
		return nil
	}
	return doErr(ctx, &e.gate, e.conf.GetTimeout, func(context.Context) error {
		f, err := os.Open(e.blockPath(k))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("block %s: %w", c, fs.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("block %s: %w", c, meaning(err))
		}
		defer f.Close()
		if _, err := f.ReadAt(p, off); err != nil {
			return fmt.Errorf("%d bytes at %d of block %s: %w", len(p), off, c, meaning(err))
		}
		return nil
	})
}

// resolveCached is RESOLVE_CACHED of openat2(2): EAGAIN instead of asking a disk for a name.
const resolveCached = 0x20

// cached returns a block from off on if the kernel has it cached, in the buffer that is made
// for so many bytes, and nil if not. It never waits for a disk, not even to note the time of
// access, and so needs no goroutine that can be given up, which costs more than the read.
func (e *Embedded) cached(k cid.Cid, off int64, buffer func(n int64) []byte) []byte {
	leave, err := e.gate.enter()
	if err != nil {
		return nil
	}
	defer leave()
	fd, err := unix.Openat2(unix.AT_FDCWD, e.blockPath(k), &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOATIME, Resolve: resolveCached})
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size <= off || st.Size > maxBlock {
		return nil
	}
	b := buffer(st.Size - off)
	if got, err := unix.Preadv2(fd, [][]byte{b}, off, unix.RWF_NOWAIT); err != nil || got != len(b) {
		return nil
	}
	return b
}

// allOf makes the buffer for what is wanted to its end.
func allOf(n int64) []byte { return make([]byte, n) }

// blockPath is where flatfs keeps a block.
func (e *Embedded) blockPath(k cid.Cid) string {
	name := dshelp.MultihashToDsKey(k.Hash()).String()[1:]
	return filepath.Join(e.conf.RepoDir, blocksDir, flatfs.NextToLast(2).Func()(name), name+".data")
}
