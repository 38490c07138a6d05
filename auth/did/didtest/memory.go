package didtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Memory is did:mem: a counter for a name, documents in a map, and the keys that may
// change them. It shows what a new method takes: this file, and its name in the call of
// did.NewResolver.
type Memory struct {
	mu   sync.Mutex
	subs map[string]*subject
}

type subject struct {
	raw      []byte
	version  uint64
	next     [][]byte // keys that may sign the next change
	recovery []byte
	gone     bool
}

var _ did.Method = (*Memory)(nil)

// NewMemory returns did:mem without any DID.
func NewMemory() *Memory { return &Memory{subs: make(map[string]*subject)} }

// Name is "mem".
func (*Memory) Name() string { return "mem" }

// Can is everything.
func (*Memory) Can() did.Operations {
	return did.CanCreate | did.CanResolve | did.CanUpdate | did.CanRecover | did.CanDeactivate
}

// Create makes a DID.
func (m *Memory) Create(ctx context.Context, genesis did.Change, sign did.Signer) (*did.Document, error) {
	m.mu.Lock()
	id := fmt.Sprintf("did:mem:%d", len(m.subs)+1)
	m.subs[id] = &subject{next: [][]byte{sign.Public()}}
	m.mu.Unlock()
	return m.change(ctx, id, genesis, sign, false)
}

// Resolve returns the newest document.
func (m *Memory) Resolve(_ context.Context, id string) (*did.Document, error) {
	if !strings.HasPrefix(id, "did:mem:") {
		return nil, fmt.Errorf("%.200q is not a did:mem: %w", id, did.ErrInvalid)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.subs[id]
	if !ok {
		return nil, fmt.Errorf("%s: %w", id, did.ErrNotFound)
	}
	return s.document(id)
}

// Update replaces keys and services.
func (m *Memory) Update(ctx context.Context, id string, next did.Change, sign did.Signer) (*did.Document, error) {
	return m.change(ctx, id, next, sign, false)
}

// Recover is Update by the recovery key.
func (m *Memory) Recover(ctx context.Context, id string, next did.Change, recovery did.Signer) (*did.Document, error) {
	return m.change(ctx, id, next, recovery, true)
}

// Deactivate gives the DID up.
func (m *Memory) Deactivate(ctx context.Context, id string, sign did.Signer) error {
	if _, err := m.change(ctx, id, did.Change{}, sign, false); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs[id].gone = true
	return nil
}

func (m *Memory) change(ctx context.Context, id string, c did.Change, sign did.Signer, recover bool) (*did.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.subs[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: %w", id, did.ErrNotFound)
	case s.gone:
		return nil, fmt.Errorf("%s: %w", id, did.ErrDeactivated)
	case recover && !bytes.Equal(s.recovery, sign.Public()),
		!recover && !slices.ContainsFunc(s.next, func(k []byte) bool { return bytes.Equal(k, sign.Public()) }):
		return nil, fmt.Errorf("%x may not change %s: %w", sign.Public(), id, did.ErrInvalid)
	}
	raw, err := document(id, c)
	if err != nil {
		return nil, err
	}
	sig, err := sign.Sign(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(sign.Public(), raw, sig) {
		return nil, fmt.Errorf("signature of %s: %w", id, did.ErrInvalid)
	}
	s.raw = raw
	s.version++
	if len(c.NextKeys) > 0 {
		s.next = c.NextKeys
	}
	if len(c.Recovery) > 0 {
		s.recovery = c.Recovery
	}
	return s.document(id)
}

func (s *subject) document(id string) (*did.Document, error) {
	doc, err := did.Parse(id, s.raw)
	if err != nil {
		return nil, err
	}
	doc.Version = did.Version{Number: s.version, ID: fmt.Sprint(s.version)}
	doc.Deactivated = s.gone
	return doc, nil
}

func document(id string, c did.Change) ([]byte, error) {
	doc := map[string]any{"id": id, "@context": "https://www.w3.org/ns/did/v1"}
	var keys, services []any
	uses := make(map[string][]string)
	for _, k := range c.Keys {
		multi, err := did.Multikey(k.Type, k.Public)
		if err != nil {
			return nil, err
		}
		kid := id + "#" + k.Fragment
		if k.Fragment == "" {
			kid = id + "#" + hex.EncodeToString(k.Public[:4])
		}
		keys = append(keys, map[string]string{"id": kid, "type": "Multikey", "controller": id, "publicKeyMultibase": multi})
		for _, r := range k.Relationships {
			uses[string(r)] = append(uses[string(r)], kid)
		}
	}
	for _, s := range c.Services {
		services = append(services, map[string]any{"id": s.ID, "type": s.Type, "serviceEndpoint": s.Endpoint})
	}
	if keys != nil {
		doc["verificationMethod"] = keys
	}
	if services != nil {
		doc["service"] = services
	}
	for r, kids := range uses {
		doc[r] = kids
	}
	return json.Marshal(doc)
}
