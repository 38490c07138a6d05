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

// Limits of entries that the recovery key of a log has not signed. A device, or whoever has
// stolen one, writes such entries; if they could use up the limits above, there would be no
// room left for the entry that takes the DID back.
const (
	// MaxOrdinaryEntry is the size of one, in bytes.
	MaxOrdinaryEntry = MaxEntry / 2
	// maxRewritten is the size of its document once a device has written it anew, in full.
	// The rest of MaxOrdinaryEntry is for the parameters, the proof and the former names.
	maxRewritten = MaxOrdinaryEntry - 64<<10
	// ordinaryShare: ordinary entries may fill one part in so many of the bytes and of the
	// entries that the last entry vouched for by the recovery key has left. The share of the
	// rest that follows the next recovery is smaller, and there always is a rest: a thief who
	// fills his share after each of them can do so eight times before a recovery, which takes
	// some kilobytes, finds no room.
	ordinaryShare = 2
	// maxFormer is how many former DIDs a new entry names.
	maxFormer = 16
)
