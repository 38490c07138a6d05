package ipfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/datastore/dshelp"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// GetPart implements what fs asks of a store that can read a part of a block: flatfs keeps
// each block as a file.
func (e *Embedded) GetPart(ctx context.Context, c fs.CID, off int64, n int) ([]byte, error) {
	k, err := kuboCID(c)
	if err != nil {
		return nil, err
	}
	path := blockPath(filepath.Join(e.conf.RepoDir, blocksDir), dshelp.MultihashToDsKey(k.Hash()))
	b := make([]byte, n)
	leave, err := e.gate.enter()
	if err != nil {
		return nil, err
	}
	cached := readCached(path, b, off)
	leave()
	if cached {
		return b, ctx.Err()
	}
	return do(ctx, &e.gate, e.conf.GetTimeout, func(context.Context) ([]byte, error) {
		b := make([]byte, n) // not that of a caller who may have gone
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("block %s: %w", c, fs.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", c, meaning(err))
		}
		defer f.Close()
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, fmt.Errorf("bytes %d to %d of block %s: %w", off, off+int64(n), c, meaning(err))
		}
		return b, nil
	})
}

// resolveCached is RESOLVE_CACHED of openat2(2): EAGAIN instead of asking a disk for a name.
const resolveCached = 0x20

// readCached reports whether it filled b from the kernel's cache. It never waits for a disk,
// and so needs no goroutine that can be given up, which costs more than the read.
func readCached(path string, b []byte, off int64) bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: resolveCached})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Preadv2(fd, [][]byte{b}, off, unix.RWF_NOWAIT)
	return err == nil && n == len(b)
}
