package fstest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// maxBlock is what a Kubo node takes as one block.
const maxBlock = 2 << 20

var errClosed = errors.New("the store is closed")

// Memory is a Store in memory. It keeps apart what is synced from what is only put, so a
// test can cut the power; and what is linked from what is not, so a test can collect
// garbage. Set Limit before use to let it run full.
type Memory struct {
	// Limit in bytes; 0 is none. Put fails with fs.ErrNoSpace beyond it.
	Limit uint64

	mu      sync.Mutex
	blocks  map[fs.CID]*memBlock
	commits map[fs.CommitName]fs.CID
	used    uint64
	closed  bool
}

type memBlock struct {
	data    []byte
	synced  bool
	pending bool // put, and neither linked nor freed since
}

var _ fs.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{blocks: make(map[fs.CID]*memBlock), commits: make(map[fs.CommitName]fs.CID)}
}

// enter locks m, unless the context has ended or the store is closed.
func (m *Memory) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errClosed, fs.ErrUnavailable)
	}
	return m.mu.Unlock, nil
}

// Put implements fs.Store.
func (m *Memory) Put(ctx context.Context, blocks []fs.Block) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, b := range blocks {
		if len(b.Data) > maxBlock {
			return fmt.Errorf("block %s of %d bytes: %w", b.CID, len(b.Data), fs.ErrTooLarge)
		}
		old := m.blocks[b.CID]
		synced := old != nil && old.synced
		m.drop(b.CID) // a block put again mends one that was damaged
		if m.Limit > 0 && m.used+uint64(len(b.Data)) > m.Limit {
			return fmt.Errorf("put %s: %w", b.CID, fs.ErrNoSpace)
		}
		m.blocks[b.CID] = &memBlock{data: bytes.Clone(b.Data), synced: synced, pending: true}
		m.used += uint64(len(b.Data))
	}
	return nil
}

// Sync implements fs.Store.
func (m *Memory) Sync(ctx context.Context) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, b := range m.blocks {
		b.synced = true
	}
	return nil
}

// Get implements fs.Store.
func (m *Memory) Get(ctx context.Context, cid fs.CID) ([]byte, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	b := m.blocks[cid]
	if b == nil {
		return nil, fmt.Errorf("block %s: %w", cid, fs.ErrNotFound)
	}
	if !cid.Verify(b.data) {
		return nil, fmt.Errorf("block %s: %w", cid, fs.ErrIntegrity)
	}
	return bytes.Clone(b.data), nil
}

// Has implements fs.Store.
func (m *Memory) Has(ctx context.Context, cid fs.CID) (bool, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	return m.blocks[cid] != nil, nil
}

// Link implements fs.Store.
func (m *Memory) Link(ctx context.Context, name fs.CommitName, dir fs.CID, blocks []fs.CID) error {
	if err := checkName(name); err != nil {
		return err
	}
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if old, ok := m.commits[name]; ok && old != dir {
		return fmt.Errorf("%s is linked to %s: %w", name.Path(), old, fs.ErrExist)
	}
	if dir.Codec != crypt.DagPB {
		return fmt.Errorf("%s is no directory: %w", dir, fs.ErrInvalid)
	}
	named := append(slices.Clone(blocks), dir)
	for _, c := range named {
		if m.blocks[c] == nil {
			return fmt.Errorf("link %s: block %s: %w", name.Path(), c, fs.ErrNotFound)
		}
	}
	for _, c := range named {
		m.blocks[c].pending = false
	}
	for _, b := range m.blocks {
		b.synced = true
	}
	m.commits[name] = dir
	return nil
}

// Unlink implements fs.Store.
func (m *Memory) Unlink(ctx context.Context, name fs.CommitName) error {
	if err := checkName(name); err != nil {
		return err
	}
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	delete(m.commits, name)
	return nil
}

// Commits implements fs.Store.
func (m *Memory) Commits(ctx context.Context, vault string) ([]fs.CommitName, error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []fs.CommitName
	for n := range m.commits {
		if vault == "" || n.Vault == vault {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, compareNames)
	return out, nil
}

// Resolve implements fs.Store.
func (m *Memory) Resolve(ctx context.Context, name fs.CommitName) (fs.CID, error) {
	if err := checkName(name); err != nil {
		return fs.CID{}, err
	}
	leave, err := m.enter(ctx)
	if err != nil {
		return fs.CID{}, err
	}
	defer leave()
	dir, ok := m.commits[name]
	if !ok {
		return fs.CID{}, fmt.Errorf("commit %s: %w", name.Path(), fs.ErrNotFound)
	}
	return dir, nil
}

// Free implements fs.Store.
func (m *Memory) Free(ctx context.Context, blocks []fs.CID) error {
	leave, err := m.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, c := range blocks {
		m.drop(c)
	}
	return nil
}

func (m *Memory) drop(c fs.CID) {
	if b := m.blocks[c]; b != nil {
		m.used -= uint64(len(b.data))
		delete(m.blocks, c)
	}
}

// Usage implements fs.Store.
func (m *Memory) Usage(ctx context.Context) (used, free uint64, err error) {
	leave, err := m.enter(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer leave()
	if m.Limit > m.used {
		free = m.Limit - m.used
	}
	return m.used, free, nil
}

// Info implements fs.Store.
func (m *Memory) Info() fs.StoreInfo { return fs.StoreInfo{Kind: "memory", Version: "1"} }

// Close implements fs.Store. Reopen gives the content back.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen returns a store with the content of m, as a new process would find it. m is
// closed.
func (m *Memory) Reopen() *Memory { return m.reopen(false) }

// PowerCut returns a store with what of m was synced or linked. m is closed.
func (m *Memory) PowerCut() *Memory { return m.reopen(true) }

func (m *Memory) reopen(syncedOnly bool) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	n := NewMemory()
	n.Limit = m.Limit
	for c, b := range m.blocks {
		if b.synced || !syncedOnly {
			n.blocks[c] = &memBlock{data: b.data, synced: b.synced, pending: b.pending}
			n.used += uint64(len(b.data))
		}
	}
	for name, dir := range m.commits {
		n.commits[name] = dir
	}
	return n
}

// Collect drops every block that no commit reaches and that is not waiting for one, as
// the garbage collection of a node does, and returns how many it dropped.
func (m *Memory) Collect() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := make(map[fs.CID]bool)
	var todo []fs.CID
	for _, dir := range m.commits {
		todo = append(todo, dir)
	}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		b := m.blocks[c]
		if live[c] || b == nil {
			continue
		}
		live[c] = true
		below, err := links(fs.Block{CID: c, Data: b.data})
		if err == nil { // a broken node has no children, as for a node's collector
			todo = append(todo, below...)
		}
	}
	dropped := 0
	for c, b := range m.blocks {
		if !live[c] && !b.pending {
			m.drop(c)
			dropped++
		}
	}
	return dropped
}

// Tamper changes the stored bytes of a block in place; Get then fails to verify them.
// It reports whether the block was there.
func (m *Memory) Tamper(cid fs.CID, change func(data []byte) []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.blocks[cid]
	if b == nil {
		return false
	}
	m.used -= uint64(len(b.data))
	b.data = change(bytes.Clone(b.data))
	m.used += uint64(len(b.data))
	return true
}

// CIDs lists the stored blocks in no particular order.
func (m *Memory) CIDs() []fs.CID {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]fs.CID, 0, len(m.blocks))
	for c := range m.blocks {
		out = append(out, c)
	}
	return out
}

func compareNames(a, b fs.CommitName) int {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Vault, b.Vault),
		cmp.Compare(a.Device, b.Device))
}

func checkName(n fs.CommitName) error {
	for _, s := range []string{n.Vault, n.Device} {
		if s == "" || len(s) > fs.NameMax {
			return fmt.Errorf("commit name part of %d bytes: %w", len(s), fs.ErrInvalid)
		}
		for i := range len(s) {
			if (s[i] < 'a' || s[i] > 'z') && (s[i] < '0' || s[i] > '9') {
				return fmt.Errorf("commit name part %q: %w", s, fs.ErrInvalid)
			}
		}
	}
	return nil
}
