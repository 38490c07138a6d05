package login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// memory keeps the logs of those who have logged in, and of nobody else: a stranger's log
// is kept only when the stranger has proved to have a key of it.
type memory struct {
	store webvh.Store
	rules webvh.Verifier
	mu    sync.Mutex // over the look and the save
}

var _ webvh.Store = (*memory)(nil)

// Log implements webvh.Store.
func (m *memory) Log(ctx context.Context, id webvh.ID) ([]byte, error) { return m.store.Log(ctx, id) }

// Witness implements webvh.Store.
func (m *memory) Witness(ctx context.Context, id webvh.ID) ([]byte, error) {
	return m.store.Witness(ctx, id)
}

// Save keeps the newer log of a DID that is known, whoever brought it, and sets others
// aside until keep.
func (m *memory) Save(ctx context.Context, id webvh.ID, log, witness []byte) error {
	_, err := m.store.Log(ctx, id)
	if err == nil {
		return m.advance(ctx, finding{id, log, witness})
	}
	if x := exchangeOf(ctx); x != nil && errors.Is(err, did.ErrNotFound) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.found = append(x.found, finding{id, log, witness})
		return nil
	}
	return err
}

// keep keeps what was set aside, for its owner has logged in.
func (m *memory) keep(ctx context.Context, x *exchange) error {
	x.mu.Lock()
	found := x.found
	x.found = nil
	x.mu.Unlock()
	for _, f := range found {
		if err := m.advance(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// advance never goes back: of two logins at the same time the newer log stays.
func (m *memory) advance(ctx context.Context, f finding) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, err := m.store.Log(ctx, f.id)
	if errors.Is(err, did.ErrNotFound) {
		return m.store.Save(ctx, f.id, f.log, f.witness)
	}
	if err != nil {
		return err
	}
	witness, err := m.store.Witness(ctx, f.id)
	if err != nil && !errors.Is(err, did.ErrNotFound) {
		return err
	}
	have, err := m.rules.Verify(ctx, old, witness)
	if err != nil {
		return fmt.Errorf("the log kept of %s: %w", f.id, err)
	}
	next, err := m.rules.Verify(ctx, f.log, f.witness)
	if err != nil {
		return err
	}
	if have.Extends(next) {
		return nil
	}
	if !next.Extends(have) {
		return fmt.Errorf("two histories of %s: %w", f.id, ErrRollback)
	}
	return m.store.Save(ctx, f.id, f.log, f.witness)
}

// Dir remembers logs in files of a directory. One process at a time may use it.
type Dir struct{ path string }

var _ webvh.Store = Dir{}

// NewDir remembers in a directory, which it makes where missing.
func NewDir(path string) (Dir, error) {
	if err := safefile.MakeDir(path); err != nil {
		return Dir{}, fmt.Errorf("remembering logins: %w", err)
	}
	return Dir{path}, nil
}

func (d Dir) file(id webvh.ID, kind string) string { return filepath.Join(d.path, id.SCID+kind) }

func (d Dir) read(id webvh.ID, kind string) ([]byte, error) {
	b, err := safefile.ReadFile(d.file(id, kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has not logged in before: %w", id, did.ErrNotFound)
	}
	return b, err
}

// Log implements webvh.Store.
func (d Dir) Log(_ context.Context, id webvh.ID) ([]byte, error) { return d.read(id, ".jsonl") }

// Witness implements webvh.Store.
func (d Dir) Witness(_ context.Context, id webvh.ID) ([]byte, error) {
	return d.read(id, ".witness.json")
}

// Save implements webvh.Store. The log comes last: it is never there without its proofs.
func (d Dir) Save(_ context.Context, id webvh.ID, log, witness []byte) error {
	if len(witness) > 0 {
		if err := d.write(id, ".witness.json", witness); err != nil {
			return err
		}
	}
	return d.write(id, ".jsonl", log)
}

func (d Dir) write(id webvh.ID, kind string, b []byte) error {
	if err := safefile.Replace(d.file(id, kind), b); err != nil {
		return fmt.Errorf("remembering %s: %w", id, err)
	}
	return nil
}
