package did

import (
	"context"
	"time"
)

// Method is one DID method. Implementations may be used from several goroutines. What a
// method cannot do returns ErrNotSupported.
type Method interface {
	// Name is the method's name in DIDs, such as "key".
	Name() string
	// Can is what the method can do; the rest returns ErrNotSupported.
	Can() Operations
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
	// to by hash: the next update key of each device, and the recovery key. What was
	// committed to before and not used up stays so, but for the hashes in Forget and for a
	// recovery key that Recovery replaces.
	NextKeys [][]byte
	Recovery []byte
	Forget   []string
	// NextHashes are committed to as they are: the hashes of keys that others hold, and
	// marks.
	NextHashes []string
	// Location is the place of a DID that lives on the web, as it stands in the DID:
	// "example.com:alice". In an update another one moves the DID; empty keeps it.
	Location string
	// AlsoKnownAs are other identifiers of the subject.
	AlsoKnownAs []string
}

// Key is a public key that a document shall list.
type Key struct {
	Fragment      string // of its id; empty lets the method choose
	Type          KeyType
	Public        []byte
	Relationships []Relationship
	Expires       time.Time // from when on the key is of no use; zero for never
}

// Fixed is embedded by methods whose documents never change.
type Fixed struct{}

// Can is create and resolve.
func (Fixed) Can() Operations { return CanCreate | CanResolve }

// Update returns ErrNotSupported.
func (Fixed) Update(context.Context, string, Change, Signer) (*Document, error) {
	return nil, lacks("update")
}

// Recover returns ErrNotSupported.
func (Fixed) Recover(context.Context, string, Change, Signer) (*Document, error) {
	return nil, lacks("recover")
}

// Deactivate returns ErrNotSupported.
func (Fixed) Deactivate(context.Context, string, Signer) error {
	return lacks("deactivate")
}
