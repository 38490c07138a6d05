package webvh

import "time"

// Limits of what is read. A log beyond them is invalid here, whatever it says.
const (
	MaxLog     = 8 << 20 // bytes
	MaxWitness = 4 << 20 // bytes
	MaxEntry   = 1 << 20 // bytes
	MaxEntries = 10_000
	MaxKeys    = 256 // in any list of an entry: keys, hashes, witnesses, watchers
	MaxProofs  = 16  // of one entry
	MaxSkew    = 5 * time.Minute
)
