package fstest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Op names a method of fs.Store for Faulty. Any stands for all of them.
type Op string

// The operations of a Store.
const (
	OpPut     Op = "Put"
	OpSync    Op = "Sync"
	OpGet     Op = "Get"
	OpHas     Op = "Has"
	OpLink    Op = "Link"
	OpUnlink  Op = "Unlink"
	OpCommits Op = "Commits"
	OpResolve Op = "Resolve"
	OpFree    Op = "Free"
	OpUsage   Op = "Usage"
	Any       Op = "*"
)

// Hook runs in an operation of a Faulty store; an error it returns is the operation's.
type Hook func(ctx context.Context) error

// Faulty is a Store that misbehaves as told. Faults may be set and cleared at any time,
// also while operations run. The zero value is not ready; use NewFaulty.
type Faulty struct {
	store fs.Store

	mu     sync.Mutex
	before map[Op]Hook
	after  map[Op]Hook
	blocks map[fs.CID]func([]byte) ([]byte, error)
	hidden map[fs.CommitName]bool
	calls  map[Op]int
}

var _ fs.Store = (*Faulty)(nil)

// NewFaulty wraps a store; without faults it behaves as that store does.
func NewFaulty(store fs.Store) *Faulty {
	return &Faulty{
		store:  store,
		before: make(map[Op]Hook),
		after:  make(map[Op]Hook),
		blocks: make(map[fs.CID]func([]byte) ([]byte, error)),
		hidden: make(map[fs.CommitName]bool),
		calls:  make(map[Op]int),
	}
}

// Before runs hook ahead of op; its error stands for the operation, which is not done.
// A nil hook removes it.
func (f *Faulty) Before(op Op, hook Hook) { f.set(f.before, op, hook) }

// After runs hook when op was done without error: an error it returns is a lost reply.
// A nil hook removes it.
func (f *Faulty) After(op Op, hook Hook) { f.set(f.after, op, hook) }

func (f *Faulty) set(hooks map[Op]Hook, op Op, hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if hook == nil {
		delete(hooks, op)
		return
	}
	hooks[op] = hook
}

// Delay lets op wait before it is done, or until its context ends.
func (f *Faulty) Delay(op Op, d time.Duration) {
	f.Before(op, func(ctx context.Context) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// Fail lets op fail with err.
func (f *Faulty) Fail(op Op, err error) {
	f.Before(op, func(context.Context) error { return err })
}

// FailTimes lets op fail with err n times and work from then on.
func (f *Faulty) FailTimes(op Op, n int, err error) {
	var mu sync.Mutex
	f.Before(op, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return nil
		}
		n--
		return err
	})
}

// Hang lets op wait for the end of its context; as a store with a deadline of its own
// does, it then says that the backend is away.
func (f *Faulty) Hang(op Op) {
	f.Before(op, func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", fs.ErrUnavailable, ctx.Err())
	})
}

// Lose lets Get and Has not find a block.
func (f *Faulty) Lose(cid fs.CID) {
	f.block(cid, func([]byte) ([]byte, error) {
		return nil, fmt.Errorf("block %s: %w", cid, fs.ErrNotFound)
	})
}

// Corrupt lets Get report that a block does not verify, as an honest store with a bad
// disk does.
func (f *Faulty) Corrupt(cid fs.CID) {
	f.block(cid, func([]byte) ([]byte, error) {
		return nil, fmt.Errorf("block %s: %w", cid, fs.ErrIntegrity)
	})
}

// Flip lets Get return a block with one bit changed, as a lying store does.
func (f *Faulty) Flip(cid fs.CID) {
	f.block(cid, func(b []byte) ([]byte, error) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return b, nil
	})
}

// Replace lets Get return other bytes for a block, as a lying store does.
func (f *Faulty) Replace(cid fs.CID, data []byte) {
	f.block(cid, func([]byte) ([]byte, error) { return bytes.Clone(data), nil })
}

func (f *Faulty) block(cid fs.CID, change func([]byte) ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocks[cid] = change
}

// RollBack hides commits: the store shows the state before them. With no names it hides
// the newest commit of the vault.
func (f *Faulty) RollBack(ctx context.Context, vault string, names ...fs.CommitName) error {
	if len(names) == 0 {
		all, err := f.Commits(ctx, vault)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("no commit of %q to hide: %w", vault, fs.ErrNotFound)
		}
		names = all[len(all)-1:]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range names {
		f.hidden[n] = true
	}
	return nil
}

// Heal removes every fault.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.before)
	clear(f.after)
	clear(f.blocks)
	clear(f.hidden)
}

// Calls tells how often op was called.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != Any {
		return f.calls[op]
	}
	n := 0
	for _, c := range f.calls {
		n += c
	}
	return n
}

func (f *Faulty) do(ctx context.Context, op Op, run func() error) error {
	f.mu.Lock()
	f.calls[op]++
	before := []Hook{f.before[Any], f.before[op]}
	f.mu.Unlock()
	for _, h := range before {
		if h == nil {
			continue
		}
		if err := h(ctx); err != nil {
			return err
		}
	}
	if err := run(); err != nil {
		return err
	}
	f.mu.Lock()
	after := []Hook{f.after[Any], f.after[op]}
	f.mu.Unlock()
	for _, h := range after {
		if h == nil {
			continue
		}
		if err := h(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *Faulty) change(cid fs.CID) func([]byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocks[cid]
}

func (f *Faulty) hides(name fs.CommitName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hidden[name]
}

// Put implements fs.Store.
func (f *Faulty) Put(ctx context.Context, blocks []fs.Block) error {
	return f.do(ctx, OpPut, func() error { return f.store.Put(ctx, blocks) })
}

// Sync implements fs.Store.
func (f *Faulty) Sync(ctx context.Context) error {
	return f.do(ctx, OpSync, func() error { return f.store.Sync(ctx) })
}

// Get implements fs.Store.
func (f *Faulty) Get(ctx context.Context, cid fs.CID) (data []byte, err error) {
	err = f.do(ctx, OpGet, func() error {
		data, err = f.store.Get(ctx, cid)
		if change := f.change(cid); change != nil && err == nil {
			data, err = change(data)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Has implements fs.Store.
func (f *Faulty) Has(ctx context.Context, cid fs.CID) (has bool, err error) {
	err = f.do(ctx, OpHas, func() error {
		has, err = f.store.Has(ctx, cid)
		if change := f.change(cid); change != nil && has {
			_, lost := change(nil)
			has = lost == nil
		}
		return err
	})
	return has && err == nil, err
}

// Link implements fs.Store.
func (f *Faulty) Link(ctx context.Context, name fs.CommitName, dir fs.CID, blocks []fs.CID) error {
	return f.do(ctx, OpLink, func() error { return f.store.Link(ctx, name, dir, blocks) })
}

// Unlink implements fs.Store.
func (f *Faulty) Unlink(ctx context.Context, name fs.CommitName) error {
	return f.do(ctx, OpUnlink, func() error { return f.store.Unlink(ctx, name) })
}

// Commits implements fs.Store.
func (f *Faulty) Commits(ctx context.Context, vault string) (names []fs.CommitName, err error) {
	err = f.do(ctx, OpCommits, func() error {
		names, err = f.store.Commits(ctx, vault)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, f.hides), nil
}

// Resolve implements fs.Store.
func (f *Faulty) Resolve(ctx context.Context, name fs.CommitName) (dir fs.CID, err error) {
	err = f.do(ctx, OpResolve, func() error {
		if f.hides(name) {
			return fmt.Errorf("commit %s: %w", name.Path(), fs.ErrNotFound)
		}
		dir, err = f.store.Resolve(ctx, name)
		return err
	})
	return dir, err
}

// Free implements fs.Store.
func (f *Faulty) Free(ctx context.Context, blocks []fs.CID) error {
	return f.do(ctx, OpFree, func() error { return f.store.Free(ctx, blocks) })
}

// Usage implements fs.Store.
func (f *Faulty) Usage(ctx context.Context) (used, free uint64, err error) {
	err = f.do(ctx, OpUsage, func() error {
		used, free, err = f.store.Usage(ctx)
		return err
	})
	return used, free, err
}

// Info implements fs.Store.
func (f *Faulty) Info() fs.StoreInfo { return f.store.Info() }

// Close implements fs.Store.
func (f *Faulty) Close() error { return f.store.Close() }
