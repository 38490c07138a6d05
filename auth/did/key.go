package did

import (
	"context"
	"fmt"

	ariesdid "github.com/hyperledger/aries-framework-go/pkg/doc/did"
	arieskey "github.com/hyperledger/aries-framework-go/pkg/vdr/key"
)

// KeyMethod is did:key for Ed25519: the DID is the public key, and the document follows
// from it. There is one key, no second device, no recovery but by the key's own seed,
// and no way to revoke it.
type KeyMethod struct {
	Fixed
	vdr *arieskey.VDR
}

var _ Method = (*KeyMethod)(nil)

// NewKey returns did:key.
func NewKey() *KeyMethod { return &KeyMethod{vdr: arieskey.New()} }

// Name is "key".
func (*KeyMethod) Name() string { return "key" }

// Create makes the DID of the one Ed25519 key in genesis. Its X25519 key is the
// conversion of the same key, as did:key prescribes.
func (m *KeyMethod) Create(ctx context.Context, genesis Change, _ Signer) (*Document, error) {
	if len(genesis.Keys) != 1 || genesis.Keys[0].Type != Ed25519 || len(genesis.Services) != 0 ||
		len(genesis.NextKeys) != 0 || len(genesis.Recovery) != 0 {
		return nil, fmt.Errorf("did:key is one Ed25519 key and nothing else: %w", ErrNotSupported)
	}
	public := genesis.Keys[0].Public
	if len(public) != rawKeySize {
		return nil, fmt.Errorf("Ed25519 key of %d bytes: %w", len(public), ErrInvalid)
	}
	created, err := m.vdr.Create(&ariesdid.Doc{VerificationMethod: []ariesdid.VerificationMethod{
		*ariesdid.NewVerificationMethodFromBytes("", "Ed25519VerificationKey2018", "", public),
	}})
	if err != nil {
		return nil, fmt.Errorf("creating a did:key: %v: %w", err, ErrInvalid)
	}
	// What login will read is what counts.
	return m.Resolve(ctx, created.DIDDocument.ID)
}

// Resolve expands the DID. The same DID gives the same bytes at any time.
func (m *KeyMethod) Resolve(_ context.Context, id string) (*Document, error) {
	name, err := methodOf(id)
	if err != nil {
		return nil, err
	}
	if name != m.Name() {
		return nil, fmt.Errorf("%s is not a did:key: %w", id, ErrInvalid)
	}
	// Aries accepts several spellings of one key and can be made to panic by some kinds
	// of keys, so only what reads back as itself gets there.
	t, _, err := ParseMultikey(id[len("did:key:"):])
	if err != nil {
		return nil, err
	}
	if t != Ed25519 {
		return nil, fmt.Errorf("did:key of a %s key: %w", t, ErrKeyType)
	}
	res, err := m.vdr.Read(id)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	// Aries writes the time of reading into the document.
	res.DIDDocument.Created, res.DIDDocument.Updated = nil, nil
	raw, err := res.DIDDocument.JSONBytes()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	doc, err := Parse(id, raw)
	if err != nil {
		return nil, err
	}
	doc.Version = Version{Number: 1, ID: "1"}
	return doc, nil
}
