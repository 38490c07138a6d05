package fs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// CID names a block; see crypt.CID.
type CID = crypt.CID

// Block is a CID and the bytes it names. Who gets a Block must not change Data.
type Block struct {
	CID  CID
	Data []byte
}

// CommitName is where a commit is linked: /ipfscloud/<vault>/<device>/<sequence, 16 hex digits>.
type CommitName struct {
	Vault    string // lower-case letters and digits
	Device   string // lower-case letters and digits
	Sequence uint64
}

// CommitRoot is the directory of a store under which all vaults are linked.
const CommitRoot = "/ipfscloud"

// Path is the MFS path of the commit.
func (n CommitName) Path() string {
	return fmt.Sprintf("%s/%s/%s/%016x", CommitRoot, n.Vault, n.Device, n.Sequence)
}

// ParseSequence reads the last part of a commit's path.
func ParseSequence(s string) (uint64, error) {
	if len(s) != 16 || strings.ToLower(s) != s {
		return 0, fmt.Errorf("%q is not a sequence of 16 hex digits: %w", s, ErrInvalid)
	}
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a sequence of 16 hex digits: %w", s, ErrInvalid)
	}
	return n, nil
}

// StoreInfo tells people and programs what keeps the blocks.
type StoreInfo struct {
	Kind    string `json:"kind"`    // "memory", "embedded" or "rpc"
	Version string `json:"version"` // of the node, e.g. "0.43.0"
}

// Store keeps sealed blocks and links commits. All methods may be called at once from
// many goroutines, end when their context ends, and never take longer than their own
// deadline. Errors wrap ErrNotFound, ErrUnavailable, ErrNoSpace or ErrIntegrity.
type Store interface {
	// Put keeps blocks. When it returns they can be read through Get and survive the
	// death of this process; after the next Sync they survive a power cut too.
	// They are safe from the garbage collection of the store (or of the node behind
	// it) until a Link names them or Free drops them. Putting a block twice is no error.
	Put(ctx context.Context, blocks []Block) error
	// Sync makes all that was put before the call survive a power cut.
	Sync(ctx context.Context) error
	// Get returns the bytes that cid names, verified against it.
	Get(ctx context.Context, cid CID) ([]byte, error)
	// Has reports whether Get would find the block without a network.
	Has(ctx context.Context, cid CID) (bool, error)
	// Link gives a new name to the commit directory dir. When it returns nil, dir and
	// every block in blocks (those put since the last commit, dir among them) are
	// verified to lie in the node, synced there, and reachable from the name, which
	// survives a power cut. Linking a name again to the same dir is no error; to
	// another dir is ErrExist.
	Link(ctx context.Context, name CommitName, dir CID, blocks []CID) error
	// Unlink removes the name of a commit; the blocks stay until Free or a collection.
	// Unlinking a name that is not there is no error.
	Unlink(ctx context.Context, name CommitName) error
	// Commits lists the linked commits of a vault, or of all vaults if vault is "",
	// in ascending order of sequence.
	Commits(ctx context.Context, vault string) ([]CommitName, error)
	// Resolve returns the commit directory that a name is linked to.
	Resolve(ctx context.Context, name CommitName) (CID, error)
	// Free drops blocks that no retained commit needs. A store that cannot delete
	// single blocks leaves them to its node's garbage collection.
	Free(ctx context.Context, blocks []CID) error
	// Usage returns the bytes that the store takes and those it may still take; both
	// are 0 when unknown.
	Usage(ctx context.Context) (used, free uint64, err error)
	// Info tells which store this is.
	Info() StoreInfo
	// Close ends the use of the store; what was put stays.
	Close() error
}
