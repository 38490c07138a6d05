package daemon

import (
	"context"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// fullTree refuses what it is told to, for want of space.
type fullTree struct {
	fuse.Tree
	full bool
}

func (f *fullTree) err() error {
	if f.full {
		return fs.ErrNoSpace
	}
	return nil
}

func (f *fullTree) Write(_ context.Context, _ fs.Ino, _ uint64, p []byte) (int, error) {
	if f.full {
		return 0, fs.ErrNoSpace
	}
	return len(p), nil
}

func (f *fullTree) Mknod(context.Context, fs.Ino, string, uint32, uint32, fs.Owner) (fs.Attr, error) {
	return fs.Attr{}, f.err()
}

func (f *fullTree) Fsync(context.Context, fs.Ino, bool) error { return f.err() }

// The drive is full from what was refused until as much gets through.
func TestMeterFull(t *testing.T) {
	ctx := context.Background()
	tree := &fullTree{}
	m := newMeter(tree)
	write := func(n int) { _, _ = m.Write(ctx, 2, 0, make([]byte, n)) }
	create := func() { _, _ = m.Mknod(ctx, 1, "f", 0o100600, 0, fs.Owner{}) }
	for _, s := range []struct {
		what string
		full bool // the disk
		do   func()
		want bool
	}{
		{"a write that fits", false, func() { write(100) }, false},
		{"a write that does not", true, func() { write(100) }, true},
		{"then a file that does not", true, create, true},
		{"a smaller write that fits", false, func() { write(99) }, true},
		{"a file that fits", false, create, true},
		{"as large a write", false, func() { write(100) }, false},
		{"a file that does not fit", true, create, true},
		{"a file that does again", false, create, false},
		{"a sync that finds no space", true, func() { _ = m.Fsync(ctx, 2, false) }, true},
		{"any write that fits", false, func() { write(1) }, false},
	} {
		tree.full = s.full
		if s.do(); m.full() != s.want {
			t.Errorf("after %s: full is %v", s.what, m.full())
		}
	}
}
