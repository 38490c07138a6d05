package webvh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Config configures the method.
type Config struct {
	// Verifier has the rules; Recovery is for logs with a marked recovery key.
	Verifier Verifier
	// Store keeps the logs that were written or accepted here; nil forgets them.
	Store Store
	// Sources are asked when a DID is resolved, all at once.
	Sources []Source
	// Location of DIDs made here, unless the change names one, as it stands in the DID.
	Location string
	// Portable lets DIDs made here move.
	Portable bool
}

// Method is did:webvh. What it writes is in its Store; publishing it is the caller's.
type Method struct {
	cfg Config
	mu  sync.Mutex // one change at a time; held over Store, never over Sources

	// The log of the Store that was verified last, because a change reads it several times.
	last atomic.Pointer[accepted]
}

// accepted is a log that was verified, and its text. It never changes.
type accepted struct {
	text []byte
	log  *Log
}

var _ did.Method = (*Method)(nil)

// New returns did:webvh.
func New(cfg Config) *Method {
	if cfg.Store == nil {
		cfg.Store = NewMemory()
	}
	return &Method{cfg: cfg}
}

// Name is "webvh".
func (*Method) Name() string { return "webvh" }

// Can is everything.
func (*Method) Can() did.Operations {
	return did.CanCreate | did.CanResolve | did.CanUpdate | did.CanRecover | did.CanDeactivate
}

// Create makes a DID whose update key is the signer's. With next keys or a recovery key,
// pre-rotation is on from the start.
func (m *Method) Create(ctx context.Context, genesis did.Change, sign did.Signer) (*did.Document, error) {
	key, err := did.Multikey(did.Ed25519, sign.Public())
	if err != nil {
		return nil, err
	}
	location := genesis.Location
	if location == "" {
		location = m.cfg.Location
	}
	d := Draft{UpdateKeys: []string{key}}
	if d.State, err = Document(prefix+placeholder+":"+location, genesis); err != nil {
		return nil, err
	}
	if d.NextKeyHashes, err = commit(nil, genesis); err != nil {
		return nil, err
	}
	if m.cfg.Portable {
		d.Portable = &m.cfg.Portable
	}
	l, err := m.cfg.Verifier.Create(ctx, d, sign)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.save(ctx, l)
}

// Update writes the next entry. The signer's key is one that the log committed to, or an
// update key where pre-rotation is off. Hashes that the log committed to stay, but for
// the signer's own, those to forget, and a recovery key that another one replaces.
func (m *Method) Update(ctx context.Context, id string, next did.Change, sign did.Signer) (*did.Document, error) {
	return m.change(ctx, id, sign, func(l *Log, key string) (Draft, error) {
		stay := l.Params().NextKeyHashes
		own := HashKey(key)
		recovery := RecoveryHashes(stay)
		if len(next.Recovery) == 0 && slices.Contains(recovery, own) {
			return Draft{}, invalid(KindRecovery, "a recovery key signs once, and another one must take its place")
		}
		drop := append([]string{own}, next.Forget...)
		if len(next.Recovery) > 0 {
			drop = append(drop, marked(stay)...)
		}
		return m.draft(l, key, next, formerly(l), slices.DeleteFunc(slices.Clone(stay), func(h string) bool { return slices.Contains(drop, h) }))
	})
}

// Recover writes an entry by the recovery key that drops everything committed to before.
// Nothing of the newest document is kept: it may be a thief's. The DID goes back to the
// place where the recovery key knew it, unless the change names another one.
func (m *Method) Recover(ctx context.Context, id string, next did.Change, recovery did.Signer) (*did.Document, error) {
	return m.change(ctx, id, recovery, func(l *Log, key string) (Draft, error) {
		if !slices.Contains(RecoveryHashes(l.Params().NextKeyHashes), HashKey(key)) {
			return Draft{}, invalid(KindRecovery, "%s is not the recovery key", key)
		}
		if len(next.Recovery) == 0 || len(next.NextKeys) == 0 || string(next.Recovery) == string(recovery.Public()) {
			return Draft{}, invalid(KindRecovery, "after recovery there is a fresh recovery key and a next key")
		}
		if next.Location == "" {
			next.Location = l.VouchedID().location()
		}
		return m.draft(l, key, next, nil, nil)
	})
}

// Deactivate writes the last entry of a DID.
func (m *Method) Deactivate(ctx context.Context, id string, sign did.Signer) error {
	_, err := m.change(ctx, id, sign, func(l *Log, key string) (Draft, error) {
		state, err := minimal(l.Last().ID.text, former(l))
		d := Draft{State: state, Deactivated: true, UpdateKeys: []string{}}
		if hashes := l.Params().NextKeyHashes; len(hashes) > 0 {
			d.UpdateKeys, d.NextKeyHashes = []string{key}, []string{}
			if kept := RecoveryHashes(hashes); !slices.Contains(kept, HashKey(key)) {
				d.NextKeyHashes = append(d.NextKeyHashes, marked(hashes)...)
			}
		}
		return d, err
	})
	return err
}

// draft is the next entry with the keys and services of a change, revealing the signer's
// key if pre-rotation is on or comes on. names are DIDs to list under alsoKnownAs, besides
// the present one if the DID moves.
func (m *Method) draft(l *Log, key string, next did.Change, names, stay []string) (Draft, error) {
	to, err := moved(l.Last().ID, next.Location)
	if err != nil {
		return Draft{}, err
	}
	if to.text != l.Last().ID.text {
		names = append(names, l.Last().ID.text)
	}
	for _, n := range next.AlsoKnownAs {
		if !slices.Contains(names, n) && n != to.text {
			names = append(names, n)
		}
	}
	next.AlsoKnownAs = slices.DeleteFunc(names, func(n string) bool { return n == to.text })
	d := Draft{}
	if d.State, err = Document(to.text, next); err != nil {
		return Draft{}, err
	}
	hashes, err := commit(stay, next)
	if err != nil {
		return Draft{}, err
	}
	if len(l.Params().NextKeyHashes) > 0 {
		d.UpdateKeys, d.NextKeyHashes = []string{key}, append([]string{}, hashes...)
		if len(hashes) == 0 {
			return Draft{}, invalid(KindParameters, "no next key is left to commit to")
		}
	} else if len(hashes) > 0 {
		d.NextKeyHashes = hashes
	}
	return d, nil
}

// formerly are the newest of the former DIDs: as many as a document has room for.
func formerly(l *Log) []string {
	names := former(l)
	return slices.Clone(names[max(0, len(names)-maxFormer):])
}

// former are the DIDs that a log was of and is not any more, each once, in the order in
// which they were left.
func former(l *Log) []string {
	ids := l.IDs()
	seen := map[string]bool{ids[len(ids)-1]: true}
	var names []string
	for _, id := range slices.Backward(ids) {
		if !seen[id] {
			seen[id] = true
			names = append(names, id)
		}
	}
	slices.Reverse(names)
	return names
}

func (m *Method) change(ctx context.Context, text string, sign did.Signer, next func(l *Log, key string) (Draft, error)) (*did.Document, error) {
	id, err := ParseID(text)
	if err != nil {
		return nil, err
	}
	key, err := did.Multikey(did.Ed25519, sign.Public())
	if err != nil {
		return nil, err
	}
	// The newest there is, so that no entry is written beside it.
	if _, err := m.Newest(ctx, text); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := m.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	if l.Params().Deactivated {
		return nil, fmt.Errorf("%s: %w", id, did.ErrDeactivated)
	}
	d, err := next(l, key)
	if err != nil {
		return nil, err
	}
	if l, err = m.cfg.Verifier.Append(ctx, l, d, sign); err != nil {
		return nil, err
	}
	return m.save(ctx, l)
}

// save keeps a log and returns its newest document. mu is held.
func (m *Method) save(ctx context.Context, l *Log) (*did.Document, error) {
	doc, err := l.Document()
	if err != nil {
		return nil, err
	}
	witness, err := m.cfg.Store.Witness(ctx, l.Last().ID)
	if err != nil && !errors.Is(err, did.ErrNotFound) {
		return nil, err
	}
	if err := m.cfg.Store.Save(ctx, l.Last().ID, l.Bytes(), witness); err != nil {
		return nil, fmt.Errorf("keeping the log of %s: %w", l.Last().ID, err)
	}
	return doc, nil
}

// Document is the newest document, as the log declares it; without the implicit services.
func (l *Log) Document() (*did.Document, error) { return l.DocumentAt(l.Len()) }

// DocumentAt is the document of entry n, which counts from 1. Whether the DID was given up
// then, and its former names, are of that entry too.
func (l *Log) DocumentAt(n int) (*did.Document, error) {
	e := &l.entries[n-1]
	doc, err := e.document()
	if err != nil {
		return nil, inEntry(n, err)
	}
	doc.Former = former(&Log{entries: l.entries[:n]})
	return doc, nil
}
