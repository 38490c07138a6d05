package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon/horizon"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// meterBounds are the upper bounds, in seconds, of how long an operation took.
func meterBounds() []float64 {
	return []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.5, 10, 30}
}

// meterKind is a kind of operation that is counted by itself.
type meterKind int

const (
	meterRead meterKind = iota
	meterWrite
	meterFsync
	meterLookup
	meterReaddir
	meterAttr   // stat, chmod, truncate, …
	meterChange // create, link, rename, remove, …
	meterKinds
)

// meter is a tree that counts what it is asked and how long that takes. All of it counts
// without a lock.
type meter struct {
	fuse.Tree
	bounds               [14]time.Duration
	ops                  [meterKinds]opMeter
	bytesRead, bytesWrit atomic.Uint64
	refused              atomic.Int64 // bytes of the write that was refused for want of space, 1 for another change; 0: none
}

type opMeter struct {
	count, errors atomic.Uint64
	nanos         atomic.Int64
	buckets       [14]atomic.Uint64
}

func newMeter(t fuse.Tree) *meter {
	m := &meter{Tree: t}
	for i, s := range meterBounds() {
		m.bounds[i] = time.Duration(s * float64(time.Second))
	}
	return m
}

func (m *meter) count(k meterKind, begin time.Time, err error) {
	o, d := &m.ops[k], time.Since(begin)
	o.count.Add(1)
	o.nanos.Add(int64(d))
	if err != nil {
		o.errors.Add(1)
		if errors.Is(err, fs.ErrNoSpace) {
			m.refused.CompareAndSwap(0, 1) // not over the size of a write
		}
	}
	for i, b := range m.bounds {
		if d <= b {
			o.buckets[i].Add(1)
			return
		}
	}
}

// counters are what was counted since the start.
func (m *meter) counters() horizon.Counters {
	c := horizon.Counters{BytesRead: m.bytesRead.Load(), BytesWritten: m.bytesWrit.Load(), Bounds: meterBounds()}
	for k, name := range [meterKinds]string{"read", "write", "fsync", "lookup", "readdir", "attr", "change"} {
		o := &m.ops[k]
		op := horizon.Op{Kind: name, Count: o.count.Load(), Errors: o.errors.Load(),
			Seconds: time.Duration(o.nanos.Load()).Seconds(), Buckets: make([]uint64, len(o.buckets))}
		for i := range o.buckets {
			op.Buckets[i] = o.buckets[i].Load()
		}
		c.Ops = append(c.Ops, op)
	}
	return c
}

// made notes that something was made: what needs as little is refused no more.
func (m *meter) made(err error) {
	if err == nil {
		m.refused.CompareAndSwap(1, 0)
	}
}

// full tells whether a write, or another change, was refused for want of space, and none as
// large got through since.
func (m *meter) full() bool { return m.refused.Load() > 0 }

func (m *meter) Read(ctx context.Context, ino fs.Ino, off uint64, p []byte) (int, error) {
	begin := time.Now()
	n, err := m.Tree.Read(ctx, ino, off, p)
	m.bytesRead.Add(uint64(n))
	m.count(meterRead, begin, err)
	return n, err
}

func (m *meter) Write(ctx context.Context, ino fs.Ino, off uint64, p []byte) (int, error) {
	begin := time.Now()
	n, err := m.Tree.Write(ctx, ino, off, p)
	if errors.Is(err, fs.ErrNoSpace) {
		m.refused.Store(int64(max(1, len(p))))
	} else if least := m.refused.Load(); least > 0 && int64(n) >= least {
		m.refused.CompareAndSwap(least, 0)
	}
	m.bytesWrit.Add(uint64(n))
	m.count(meterWrite, begin, err)
	return n, err
}

func (m *meter) Fsync(ctx context.Context, ino fs.Ino, dataOnly bool) error {
	begin := time.Now()
	err := m.Tree.Fsync(ctx, ino, dataOnly)
	m.count(meterFsync, begin, err)
	return err
}

// A name that is not there is an answer, and no failure.
func (m *meter) Lookup(ctx context.Context, parent fs.Ino, name string) (fs.Attr, error) {
	begin := time.Now()
	a, err := m.Tree.Lookup(ctx, parent, name)
	m.count(meterLookup, begin, failure(err))
	return a, err
}

func (m *meter) OpenDir(ctx context.Context, ino fs.Ino) (*fs.Dir, error) {
	begin := time.Now()
	d, err := m.Tree.OpenDir(ctx, ino)
	m.count(meterReaddir, begin, failure(err))
	return d, err
}

func (m *meter) GetAttr(ctx context.Context, ino fs.Ino) (fs.Attr, error) {
	begin := time.Now()
	a, err := m.Tree.GetAttr(ctx, ino)
	m.count(meterAttr, begin, failure(err))
	return a, err
}

func (m *meter) SetAttr(ctx context.Context, ino fs.Ino, s fs.SetAttr) (fs.Attr, error) {
	begin := time.Now()
	a, err := m.Tree.SetAttr(ctx, ino, s)
	m.count(meterAttr, begin, failure(err))
	return a, err
}

func (m *meter) Mknod(ctx context.Context, parent fs.Ino, name string, mode, rdev uint32, owner fs.Owner) (fs.Attr, error) {
	begin := time.Now()
	a, err := m.Tree.Mknod(ctx, parent, name, mode, rdev, owner)
	m.count(meterChange, begin, failure(err))
	m.made(err)
	return a, err
}

func (m *meter) Mkdir(ctx context.Context, parent fs.Ino, name string, mode uint32, owner fs.Owner) (fs.Attr, error) {
	begin := time.Now()
	a, err := m.Tree.Mkdir(ctx, parent, name, mode, owner)
	m.count(meterChange, begin, failure(err))
	m.made(err)
	return a, err
}

func (m *meter) Unlink(ctx context.Context, parent fs.Ino, name string) error {
	begin := time.Now()
	err := m.Tree.Unlink(ctx, parent, name)
	m.count(meterChange, begin, failure(err))
	return err
}

func (m *meter) Rename(ctx context.Context, from fs.Ino, name string, to fs.Ino, newName string, flags uint32) error {
	begin := time.Now()
	err := m.Tree.Rename(ctx, from, name, to, newName, flags)
	m.count(meterChange, begin, failure(err))
	return err
}

// failure is an error that is the drive's, and not the answer to what was asked.
func failure(err error) error {
	for _, bad := range []error{fs.ErrUnavailable, fs.ErrIntegrity, fs.ErrNoSpace, context.DeadlineExceeded} {
		if errors.Is(err, bad) {
			return err
		}
	}
	return nil
}
