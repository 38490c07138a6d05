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
func (e *Embedded) GetPart(ctx context.Context, c fs.CID, off int64, n int) ([]byte, error) {
	k, err := kuboCID(c)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, meaning(err)
	}
	if b := e.cachedPart(k, off, n); b != nil {
		return b, nil
	}
	return do(ctx, &e.gate, e.conf.GetTimeout, func(context.Context) ([]byte, error) {
		f, err := os.Open(e.blockPath(k))
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("block %s: %w", c, fs.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", c, meaning(err))
		}
		defer f.Close()
		b := make([]byte, n)
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, fmt.Errorf("bytes %d to %d of block %s: %w", off, off+int64(n), c, meaning(err))
		}
		return b, nil
	})
}

// resolveCached is RESOLVE_CACHED of openat2(2): EAGAIN instead of asking a disk for a name.
const resolveCached = 0x20

// toEnd asks cachedPart for all that follows.
const toEnd = -1

// cachedPart returns a part of a block if the kernel has it cached, and nil if not. It never
// waits for a disk, not even to note the time of access, and so needs no goroutine that can
// be given up, which costs more than the read.
func (e *Embedded) cachedPart(k cid.Cid, off int64, n int) []byte {
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
	if err := unix.Fstat(fd, &st); err != nil {
		return nil
	}
	there := st.Size - off
	if n == toEnd && there <= maxBlock {
		n = int(there)
	}
	if n <= 0 || int64(n) > there {
		return nil
	}
	b := make([]byte, n)
	if got, err := unix.Preadv2(fd, [][]byte{b}, off, unix.RWF_NOWAIT); err != nil || got != n {
		return nil
	}
	return b
}

// blockPath is where flatfs keeps a block.
func (e *Embedded) blockPath(k cid.Cid) string {
	name := dshelp.MultihashToDsKey(k.Hash()).String()[1:]
	return filepath.Join(e.conf.RepoDir, blocksDir, flatfs.NextToLast(2).Func()(name), name+".data")
}
