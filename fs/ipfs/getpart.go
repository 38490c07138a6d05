package ipfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
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

// cachedPart returns a part of a block if the kernel has it cached, and nil if not. It never
// waits for a disk (not even to note the time of access), and so needs no goroutine that can be given up, which costs more than
// the read.
func (e *Embedded) cachedPart(k cid.Cid, off int64, n int) []byte {
	return e.readCached(k, func(int64) (int64, int) { return off, n })
}

// cached is cachedPart of a whole block.
func (e *Embedded) cached(k cid.Cid) []byte {
	return e.readCached(k, func(size int64) (int64, int) { return 0, int(min(size, maxBlock+1)) })
}

func (e *Embedded) readCached(k cid.Cid, part func(size int64) (off int64, n int)) []byte {
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
	off, want := part(st.Size)
	if want <= 0 || off+int64(want) > st.Size {
		return nil
	}
	b := make([]byte, want)
	if n, err := unix.Preadv2(fd, [][]byte{b}, off, unix.RWF_NOWAIT); err != nil || n != want {
		return nil
	}
	return b
}

func (e *Embedded) blockPath(k cid.Cid) string {
	return blockPath(filepath.Join(e.conf.RepoDir, blocksDir), dshelp.MultihashToDsKey(k.Hash()))
}
