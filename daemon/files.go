package daemon

import "github.com/cluster-labs/ipfscloud/fs/safefile"

// ErrUnsafe: a path that somebody else could change, or a secret that others can read.
var ErrUnsafe = safefile.ErrUnsafe

// What files that the configuration or a flag names may have, in bytes.
const (
	configMax = 1 << 20
	tokenMax  = 1 << 16 // a password or a token
	namedMax  = 1 << 20 // certificates
)
