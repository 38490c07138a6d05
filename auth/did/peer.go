package did

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	ariesdid "github.com/hyperledger/aries-framework-go/pkg/doc/did"
	ariesvdr "github.com/hyperledger/aries-framework-go/pkg/framework/aries/api/vdr"
	ariespeer "github.com/hyperledger/aries-framework-go/pkg/vdr/peer"
	"github.com/hyperledger/aries-framework-go/spi/storage"
	"github.com/multiformats/go-multihash"
)

// PeerMethod is did:peer. It makes those of numeric basis 1: the DID is the hash of its
// first document, which peers hand to each other. Of these it knows the documents it made
// or was taught, for as long as it lives; those of basis 0, 2 and 4 hold theirs.
type PeerMethod struct {
	Fixed
	vdr   *ariespeer.VDR
	store *peerStore
}

var _ Method = (*PeerMethod)(nil)

// NewPeer returns did:peer without any document.
func NewPeer() (*PeerMethod, error) {
	store := &peerStore{values: make(map[string][]byte)}
	vdr, err := ariespeer.New(peerProvider{store: store})
	if err != nil {
		return nil, fmt.Errorf("did:peer: %w", err)
	}
	return &PeerMethod{vdr: vdr, store: store}, nil
}

// Name is "peer".
func (*PeerMethod) Name() string { return "peer" }

// Create makes and remembers a DID. Its Ed25519 keys authenticate and assert, its X25519
// keys agree; other relationships are ErrNotSupported.
func (m *PeerMethod) Create(ctx context.Context, genesis Change, _ Signer) (*Document, error) {
	if len(genesis.Services) != 0 || len(genesis.NextKeys) != 0 || len(genesis.Recovery) != 0 {
		return nil, fmt.Errorf("did:peer with services or recovery: %w", ErrNotSupported)
	}
	var sign []ariesdid.VerificationMethod
	opts := []ariesdid.DocOption{}
	var authentication, assertion, agreement []ariesdid.Verification
	for i, k := range genesis.Keys {
		if len(k.Public) != rawKeySize {
			return nil, fmt.Errorf("%s key of %d bytes: %w", k.Type, len(k.Public), ErrInvalid)
		}
		fragment := k.Fragment
		if fragment == "" {
			fragment = fmt.Sprintf("key-%d", i+1)
		}
		kind := "Ed25519VerificationKey2018"
		if k.Type == X25519 {
			kind = "X25519KeyAgreementKey2019"
		}
		vm := ariesdid.NewVerificationMethodFromBytes("#"+fragment, kind, "", k.Public)
		sign = append(sign, *vm)
		for _, r := range k.Relationships {
			switch {
			case k.Type == Ed25519 && r == Authentication:
				authentication = append(authentication, *ariesdid.NewReferencedVerification(vm, ariesdid.Authentication))
			case k.Type == Ed25519 && r == AssertionMethod:
				assertion = append(assertion, *ariesdid.NewReferencedVerification(vm, ariesdid.AssertionMethod))
			case k.Type == X25519 && r == KeyAgreement:
				agreement = append(agreement, *ariesdid.NewReferencedVerification(vm, ariesdid.KeyAgreement))
			default:
				return nil, fmt.Errorf("did:peer key %s for %s: %w", k.Type, r, ErrNotSupported)
			}
		}
	}
	opts = append(opts, ariesdid.WithAuthentication(authentication), ariesdid.WithAssertion(assertion), ariesdid.WithKeyAgreement(agreement))
	doc, err := ariespeer.NewDoc(sign, opts...)
	if err != nil {
		return nil, fmt.Errorf("creating a did:peer: %v: %w", err, ErrInvalid)
	}
	raw, err := doc.JSONBytes()
	if err != nil {
		return nil, fmt.Errorf("creating a did:peer: %v: %w", err, ErrInvalid)
	}
	return m.Learn(ctx, doc.ID, raw)
}

// Learn remembers the document of a peer, byte for byte as the peer gave it. It must
// hash to its DID.
func (m *PeerMethod) Learn(ctx context.Context, id string, raw []byte) (*Document, error) {
	if err := certifies(id, raw); err != nil {
		return nil, err
	}
	if _, err := parsePeer(id, raw); err != nil {
		return nil, err
	}
	// The form in which aries keeps a peer's document.
	deltas, err := json.Marshal([]map[string]string{{"change": base64.URLEncoding.EncodeToString(raw)}})
	if err != nil {
		return nil, fmt.Errorf("remembering a did:peer: %w", err)
	}
	if err := m.store.Put(id, deltas); err != nil {
		return nil, fmt.Errorf("remembering a did:peer: %w", err)
	}
	m.store.keepRaw(id, raw)
	return m.Resolve(ctx, id)
}

// Resolve returns a document that was made or learnt here, or that the DID holds, else
// ErrNotFound.
func (m *PeerMethod) Resolve(ctx context.Context, id string) (*Document, error) {
	if name, err := methodOf(id); err != nil || name != m.Name() {
		return nil, fmt.Errorf("%.200q is not a did:peer: %w", id, ErrInvalid)
	}
	specific := strings.TrimPrefix(id, "did:peer:")
	var raw []byte
	var err error
	switch basis, rest := specific[0], specific[1:]; basis {
	case '0':
		raw, err = peer0(ctx, id, rest)
	case '1':
		return m.met(id)
	case '2':
		raw, err = peer2(id, rest)
	case '4':
		raw, err = peer4(id, rest)
	default:
		return nil, fmt.Errorf("did:peer of numeric basis %q: %w", basis, ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return parsePeer(id, raw)
}

// met returns a document of numeric basis 1.
func (m *PeerMethod) met(id string) (*Document, error) {
	if _, err := m.vdr.Read(id); errors.Is(err, ariesvdr.ErrNotFound) {
		return nil, fmt.Errorf("%s was not met yet: %w", id, ErrNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	return parsePeer(id, m.store.raw(id))
}

func parsePeer(id string, raw []byte) (*Document, error) {
	doc, err := Parse(id, raw)
	if err != nil {
		return nil, err
	}
	doc.Version = Version{Number: 1, ID: "1"}
	// Before its id is known, a genesis document can name no controller.
	for i := range doc.Keys {
		if c := doc.Keys[i].Controller; c == "" || c == "#id" {
			doc.Keys[i].Controller = id
		}
	}
	return doc, nil
}

// certifies checks that a DID is the hash of its document without the id member, as it
// was before the DID was known.
func certifies(id string, raw []byte) error {
	specific, ok := strings.CutPrefix(id, "did:peer:1z")
	if !ok {
		return fmt.Errorf("%.200q is not a did:peer with numeric basis 1: %w", id, ErrInvalid)
	}
	member := `"id":"` + id + `",`
	if strings.Count(string(raw), member) != 1 {
		return fmt.Errorf("the document of %s does not name itself once: %w", id, ErrInvalid)
	}
	hash, err := multihash.Sum([]byte(strings.Replace(string(raw), member, "", 1)), multihash.SHA2_256, -1)
	if err != nil {
		return fmt.Errorf("hash of a did:peer: %w", err)
	}
	if hash.B58String() != specific {
		return fmt.Errorf("the document does not hash to %s: %w", id, ErrInvalid)
	}
	return nil
}

// peerStore is the little of an aries store that did:peer uses, in memory. mu guards both
// maps.
type peerStore struct {
	storage.Store
	mu     sync.Mutex
	values map[string][]byte
	raws   map[string][]byte
}

func (s *peerStore) Put(key string, value []byte, _ ...storage.Tag) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	return nil
}

func (s *peerStore) Get(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	if !ok {
		return nil, storage.ErrDataNotFound
	}
	return v, nil
}

func (s *peerStore) keepRaw(id string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raws == nil {
		s.raws = make(map[string][]byte)
	}
	s.raws[id] = append([]byte(nil), raw...)
}

func (s *peerStore) raw(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raws[id]
}

type peerProvider struct {
	storage.Provider
	store *peerStore
}

func (p peerProvider) OpenStore(string) (storage.Store, error) { return p.store, nil }
