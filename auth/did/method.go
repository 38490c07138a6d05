package did

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Method is one DID method. Implementations may be used from several goroutines. What a
// method cannot do returns ErrNotSupported.
type Method interface {
	// Name is the method's name in DIDs, such as "key".
	Name() string
	// Create makes a new DID from keys.
	Create(ctx context.Context, genesis Change, sign Signer) (*Document, error)
	// Resolve returns the newest document. A deactivated DID resolves to a document that
	// says so. ErrInvalid, ErrNotFound, ErrUnavailable.
	Resolve(ctx context.Context, id string) (*Document, error)
	// Update replaces keys and services.
	Update(ctx context.Context, id string, next Change, sign Signer) (*Document, error)
	// Recover is Update by the recovery key, after the loss of the others.
	Recover(ctx context.Context, id string, next Change, recovery Signer) (*Document, error)
	// Deactivate gives the DID up for good.
	Deactivate(ctx context.Context, id string, sign Signer) error
}

// Signer signs for a change of a document; the private key stays behind it.
type Signer interface {
	// Public is the Ed25519 public key, 32 bytes.
	Public() []byte
	Sign(ctx context.Context, msg []byte) ([]byte, error)
}

// Change is the full set of keys and services a document shall have.
type Change struct {
	Keys     []Key
	Services []Service
	// NextKeys and Recovery are public Ed25519 keys that methods with pre-rotation commit
	// to by hash: the next update key of each device, and the recovery key.
	NextKeys [][]byte
	Recovery []byte
}

// Key is a public key that a document shall list.
type Key struct {
	Fragment      string // of its id; empty lets the method choose
	Type          KeyType
	Public        []byte
	Relationships []Relationship
}

// Fixed is embedded by methods whose documents never change.
type Fixed struct{}

// Update returns ErrNotSupported.
func (Fixed) Update(context.Context, string, Change, Signer) (*Document, error) {
	return nil, fmt.Errorf("update: %w", ErrNotSupported)
}

// Recover returns ErrNotSupported.
func (Fixed) Recover(context.Context, string, Change, Signer) (*Document, error) {
	return nil, fmt.Errorf("recover: %w", ErrNotSupported)
}

// Deactivate returns ErrNotSupported.
func (Fixed) Deactivate(context.Context, string, Signer) error {
	return fmt.Errorf("deactivate: %w", ErrNotSupported)
}

// Resolver resolves DIDs with the methods it was made with.
type Resolver struct{ methods map[string]Method }

// NewResolver returns a resolver of the given methods; of two with one name the last
// counts.
func NewResolver(methods ...Method) *Resolver {
	r := &Resolver{methods: make(map[string]Method, len(methods))}
	for _, m := range methods {
		r.methods[m.Name()] = m
	}
	return r
}

// Methods are the names of the methods it knows, sorted.
func (r *Resolver) Methods() []string {
	var names []string
	for n := range r.methods {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Method returns the method of a name, or ErrUnsupportedMethod.
func (r *Resolver) Method(name string) (Method, error) {
	m, ok := r.methods[name]
	if !ok {
		return nil, fmt.Errorf("did:%s is not among %s: %w", name, strings.Join(r.Methods(), ", "), ErrUnsupportedMethod)
	}
	return m, nil
}

// Resolve returns the newest document of a DID. A deactivated DID resolves to a document
// that says so. ErrInvalid, ErrUnsupportedMethod, ErrNotFound, ErrUnavailable.
func (r *Resolver) Resolve(ctx context.Context, id string) (*Document, error) {
	name, err := methodOf(id)
	if err != nil {
		return nil, err
	}
	m, err := r.Method(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	doc, err := m.Resolve(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", id, err)
	}
	if doc.ID != id { // whatever the method did, a document speaks for its own DID only
		return nil, fmt.Errorf("resolving %s gave the document of %.200q: %w", id, doc.ID, ErrInvalid)
	}
	return doc, nil
}

// ResolveKey resolves the DID in a key's id and returns that very key, if the document
// allows the purpose. ErrDeactivated, ErrKeyNotFound, ErrRelationship and what Resolve
// fails with.
func (r *Resolver) ResolveKey(ctx context.Context, purpose Relationship, kid string) (VerificationMethod, *Document, error) {
	id, fragment, ok := strings.Cut(kid, "#")
	if !ok || fragment == "" {
		return VerificationMethod{}, nil, fmt.Errorf("key id %.200q has no fragment: %w", kid, ErrInvalid)
	}
	doc, err := r.Resolve(ctx, id)
	if err != nil {
		return VerificationMethod{}, nil, err
	}
	key, err := doc.Key(purpose, kid)
	return key, doc, err
}
