package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-labs/ipfscloud/fs"
)

// dirStore is a store in a directory: it survives the death of a daemon, which a store in
// memory does not, and needs no Kubo.
type dirStore struct{ dir string }

func newDirStore(dir string) (*dirStore, error) {
	return &dirStore{dir}, errors.Join(os.MkdirAll(filepath.Join(dir, "blocks"), 0o700),
		os.MkdirAll(filepath.Join(dir, "commits"), 0o700))
}

func (d *dirStore) block(c fs.CID) string { return filepath.Join(d.dir, "blocks", c.String()) }

func (d *dirStore) commit(n fs.CommitName) string {
	return filepath.Join(d.dir, "commits", fmt.Sprintf("%s.%s.%016x", n.Vault, n.Device, n.Sequence))
}

// write makes a file that is there whole or not at all.
func (d *dirStore) write(path string, b []byte) error {
	tmp, err := os.CreateTemp(d.dir, "new")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	return errors.Join(err, tmp.Close(), os.Rename(tmp.Name(), path))
}

func (d *dirStore) Put(ctx context.Context, blocks []fs.Block) error {
	for _, b := range blocks {
		if err := d.write(d.block(b.CID), b.Data); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d *dirStore) Sync(ctx context.Context) error { return ctx.Err() }

func notFound(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	return err
}

func (d *dirStore) Get(ctx context.Context, c fs.CID) ([]byte, error) {
	b, err := os.ReadFile(d.block(c))
	if err == nil && !c.Verify(b) {
		return nil, fmt.Errorf("block %s: %w", c, fs.ErrIntegrity)
	}
	return b, notFound(err)
}

func (d *dirStore) Has(ctx context.Context, c fs.CID) (bool, error) {
	_, err := os.Stat(d.block(c))
	return err == nil, ctx.Err()
}

func (d *dirStore) Link(ctx context.Context, n fs.CommitName, dir fs.CID, blocks []fs.CID) error {
	for _, c := range append(blocks[:len(blocks):len(blocks)], dir) {
		if ok, _ := d.Has(ctx, c); !ok {
			return fmt.Errorf("link: block %s: %w", c, fs.ErrNotFound)
		}
	}
	if old, err := d.Resolve(ctx, n); err == nil && old != dir {
		return fmt.Errorf("%s: %w", n.Path(), fs.ErrExist)
	}
	return d.write(d.commit(n), dir.Bytes())
}

func (d *dirStore) Unlink(ctx context.Context, n fs.CommitName) error {
	if err := os.Remove(d.commit(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *dirStore) Commits(ctx context.Context, vault string) ([]fs.CommitName, error) {
	entries, err := os.ReadDir(filepath.Join(d.dir, "commits"))
	if err != nil {
		return nil, err
	}
	var out []fs.CommitName
	for _, e := range entries { // sorted by name, so by sequence: there is one device
		f := strings.Split(e.Name(), ".")
		seq, err := fs.ParseSequence(f[2])
		if err != nil {
			return nil, err
		}
		if vault == "" || f[0] == vault {
			out = append(out, fs.CommitName{Vault: f[0], Device: f[1], Sequence: seq})
		}
	}
	return out, nil
}

func (d *dirStore) Resolve(ctx context.Context, n fs.CommitName) (fs.CID, error) {
	b, err := os.ReadFile(d.commit(n))
	if err != nil {
		return fs.CID{}, notFound(err)
	}
	if len(b) != 36 {
		return fs.CID{}, fmt.Errorf("%s: %w", n.Path(), fs.ErrIntegrity)
	}
	c := fs.CID{Codec: fs.EncodeDir(nil).CID.Codec} // commits are directories
	copy(c.Digest[:], b[4:])
	return c, nil
}

func (d *dirStore) Free(ctx context.Context, blocks []fs.CID) error {
	for _, c := range blocks {
		if err := os.Remove(d.block(c)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (d *dirStore) Usage(ctx context.Context) (uint64, uint64, error) { return 0, 1 << 40, nil }
func (d *dirStore) Info() fs.StoreInfo                                { return fs.StoreInfo{Kind: "memory", Version: "test"} }
func (d *dirStore) Close() error                                      { return nil }
