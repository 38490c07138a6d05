package ipfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// PutFile is Put of one block that lies in a file of the repo's file system: flatfs keeps
// each block as a file, and gets this one as a hard link. The caller keeps its own name and
// must not change the file any more. Like all blocks it survives a power cut after the
// next Sync. ErrNotSupported if the file is on another file system.
func (e *Embedded) PutFile(ctx context.Context, c fs.CID, file string) error {
	k, err := kuboCID(c)
	if err != nil {
		return err
	}
	return doErr(ctx, &e.gate, e.conf.PutTimeout, func(context.Context) error {
		st, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("put block %s: %w", c, err)
		}
		if st.Size() > maxBlock {
			return fmt.Errorf("block %s of %d bytes: %w", c, st.Size(), fs.ErrTooLarge)
		}
		if err := e.pending.addSized(c, int(st.Size())); err != nil {
			return fmt.Errorf("record block %s: %w", c, err)
		}
		err = linkBlock(e.blockPath(k), file)
		switch {
		case errors.Is(err, os.ErrExist):
			return nil
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EMLINK):
			return fmt.Errorf("put block %s as a file: %w: %w", c, fs.ErrNotSupported, err)
		case err != nil:
			return fmt.Errorf("put block %s as a file: %w", c, meaning(err))
		}
		return e.linked.add(st.Size())
	})
}

// linkBlock gives a file the path that flatfs gives a block. os.ErrExist if it
// has it. A file of that name that is another one may be what a power cut left of the
// block, and is replaced.
func linkBlock(path, file string) error {
	err := os.Link(file, path)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		err = os.Link(file, path)
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	ours, err2 := os.Stat(file)
	there, err3 := os.Stat(path)
	if err := errors.Join(err2, err3); err != nil {
		return err
	}
	if os.SameFile(ours, there) {
		return err
	}
	tmp := file + ".link"
	if err := os.Link(file, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// linkedBytes counts the bytes that came into flatfs as links, which its own count does
// not know; it does count them off when they are deleted. The file has 8 bytes.
type linkedBytes struct{ path string }

func linkedPath(repo string) string { return filepath.Join(repo, "ipfscloud-linked") }

func (l linkedBytes) get() int64 {
	b, err := safefile.ReadFile(l.path)
	if err != nil || len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// counter adds to the file of linkedBytes.
type counter struct {
	mu   sync.Mutex
	file *os.File
	n    int64
}

func openCounter(path string) (*counter, error) {
	f, err := safefile.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &counter{file: f, n: linkedBytes{path}.get()}, nil
}

func (c *counter) add(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	_, err := c.file.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(c.n)), 0)
	return err
}

func (c *counter) close() error { return c.file.Close() }
