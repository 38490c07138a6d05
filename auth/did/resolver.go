package did

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ariesapi "github.com/hyperledger/aries-framework-go/pkg/framework/aries/api/vdr"
	ariesvdr "github.com/hyperledger/aries-framework-go/pkg/vdr"
)

// Resolver resolves DIDs with the methods it was made with.
//
// It asks them through the registry of aries, in which each of them is registered, those
// of aries and others alike.
type Resolver struct {
	methods  map[string]Method
	registry ariesapi.Registry
}

// NewResolver returns a resolver of the given methods; of two with one name the last
// counts.
func NewResolver(methods ...Method) *Resolver {
	r := &Resolver{methods: make(map[string]Method, len(methods))}
	for _, m := range methods {
		r.methods[m.Name()] = m
	}
	var all []ariesvdr.Option
	for _, name := range r.Methods() {
		all = append(all, ariesvdr.WithVDR(bridge{r.methods[name]}))
	}
	r.registry = ariesvdr.New(all...)
	return r
}

// Registry is the registry of aries with all methods, for what of aries wants one.
func (r *Resolver) Registry() ariesapi.Registry { return r.registry }

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
	if _, err := r.Method(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var got answer
	if _, err := r.registry.Resolve(id, withAnswer(ctx, &got)); err != nil && got.err == nil {
		got.err = err
	}
	if got.err != nil {
		return nil, fmt.Errorf("resolving %s: %w", id, got.err)
	}
	doc := got.doc
	// Whatever the method did, a document speaks for its own DID only, or for one that it
	// had before.
	if doc.ID != id && !slices.Contains(doc.Former, id) {
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
