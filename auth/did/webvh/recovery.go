package webvh

import (
	"slices"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// The recovery rule is ours and not of the specification. A log commits to a recovery key
// by two values in nextKeyHashes: the hash of the key, and a mark made of that hash. The
// mark looks like one more unused hash to others, who ignore it; here it says that this key
// must always be able to take the DID back. An entry that the key has not signed is called
// ordinary, and may do only what checkOrdinary lists. So a thief with an update key can add
// entries, and cannot lock the owner out.

const markLabel = "did:webvh recovery key\x00"

// MarkRecovery is the mark that makes a hash in nextKeyHashes that of a recovery key.
func MarkRecovery(hash string) string { return hashText([]byte(markLabel + hash)) }

// RecoveryHashes are the hashes of recovery keys in a list of nextKeyHashes.
func RecoveryHashes(nextKeyHashes []string) []string {
	in := make(map[string]bool, len(nextKeyHashes))
	for _, h := range nextKeyHashes {
		in[h] = true
	}
	var found []string
	for _, h := range nextKeyHashes {
		if in[MarkRecovery(h)] {
			found = append(found, h)
		}
	}
	slices.Sort(found)
	return found
}

// Rules are those of this program: the specification's, and that the holder of a marked
// recovery key can always take the DID back, and nobody else can give it up. Logs without a
// mark are held to the specification alone.
func Rules() Verifier { return Verifier{Recovery: true} }

// vouched is the last entry that nobody but the owner can have written, and where it ends:
// the last one that a recovery key has signed, or else the one that brought the recovery
// key in. Without a recovery key it is the newest entry.
type vouched struct {
	number int // of the entry
	end    int // bytes of the log up to and with it
	id     ID
}

// checkRecovery holds an entry to the recovery rule, in a log that has a recovery key before
// or after it. It returns the entry that is vouched for from then on.
func (v Verifier) checkRecovery(before verified, next verified) (vouched, error) {
	own := vouched{number: next.Number, end: next.end, id: next.ID}
	held := RecoveryHashes(before.params.NextKeyHashes)
	now := RecoveryHashes(next.params.NextKeyHashes)
	var doc *did.Document
	if len(held)+len(now) > 0 && v.Recovery {
		// Everything that lists devices or names, or writes the next document, reads this one.
		var err error
		if doc, err = next.document(); err != nil {
			return own, invalid(KindRecovery, "the document cannot be read: %v", err)
		}
		if n := len(next.signers); len(slices.Compact(slices.Sorted(slices.Values(next.signers)))) < n {
			// No key is needed to repeat a proof, and so to make a log larger.
			return own, invalid(KindRecovery, "a key has signed twice")
		}
	}
	if len(held) == 0 || slices.ContainsFunc(next.signers, func(k string) bool { return slices.Contains(held, HashKey(k)) }) {
		return own, nil
	}
	if v.Recovery {
		if !slices.Equal(held, now) {
			// Adding one is refused like dropping one: a thief's recovery key could not be
			// dropped any more.
			return own, invalid(KindRecovery, "the recovery key was dropped or changed without its signature")
		}
		if err := checkOrdinary(before.vouched, next, doc); err != nil {
			return own, err
		}
	}
	return before.vouched, nil
}

// Vouched is the number of the last entry that nobody but the owner can have written: the
// last one that a recovery key has signed, or else the one that brought the recovery key.
// Whatever follows it may be a thief's.
func (l *Log) Vouched() int { return l.last().vouched.number }

// VouchedID is the DID as that entry has it.
func (l *Log) VouchedID() ID { return l.last().vouched.id }

// Room is how many bytes the log can still grow by, with entries that the recovery key
// signs. Ordinary ones may take a part of it.
func (l *Log) Room() int { return MaxLog - l.last().end }
