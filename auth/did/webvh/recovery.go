package webvh

import "slices"

// The recovery rule is ours and not of the specification. A log commits to a recovery key
// by two values in nextKeyHashes: the hash of the key, and a mark made of that hash. The
// mark looks like one more unused hash to others, who ignore it; here it says that the
// key's hash may leave the list only in an entry that the key itself has signed. So a
// thief with an update key can add entries, and cannot lock the owner out.

const markLabel = "did:webvh recovery key\x00"

// MarkRecovery is the mark that makes a hash in nextKeyHashes that of a recovery key.
func MarkRecovery(hash string) string { return hashText([]byte(markLabel + hash)) }

// RecoveryHashes are the hashes of recovery keys in a list of nextKeyHashes.
func RecoveryHashes(nextKeyHashes []string) []string {
	var found []string
	for _, h := range nextKeyHashes {
		if slices.Contains(nextKeyHashes, MarkRecovery(h)) {
			found = append(found, h)
		}
	}
	slices.Sort(found)
	return found
}

// Rules are those of this program: the specification's, and that nobody but the holder of a
// marked recovery key drops it or gives the DID up. Logs without a mark are held to the
// specification alone.
func Rules() Verifier { return Verifier{Recovery: true, RecoveryDeactivates: true} }

// checkRecovery wants the recovery keys of an entry to be those of the entry before, or
// one of these to have signed it. Adding one is refused like dropping one: a thief's
// recovery key could not be dropped any more.
func (v Verifier) checkRecovery(before, after Params, signers []string) error {
	held := RecoveryHashes(before.NextKeyHashes)
	if len(held) == 0 {
		return nil
	}
	for _, k := range signers {
		if slices.Contains(held, HashKey(k)) {
			return nil
		}
	}
	if !slices.Equal(held, RecoveryHashes(after.NextKeyHashes)) {
		return invalid(KindRecovery, "the recovery key was dropped or changed without its signature")
	}
	if v.RecoveryDeactivates && after.Deactivated {
		return invalid(KindRecovery, "deactivated without the signature of the recovery key")
	}
	return nil
}
