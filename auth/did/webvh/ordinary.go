package webvh

import (
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

// checkOrdinary lists what an entry may do that no recovery key has signed; everything that
// is not listed is refused. What may be listed: it must neither bind the entries that come
// after a recovery, nor make one impossible, nor become invalid later, with the entries that
// stand on it. A move to another place may be listed because a recovery moves back.
func checkOrdinary(from vouched, e verified, doc *did.Document) error {
	for name := range e.Entry.params {
		switch name {
		case "updateKeys", "nextKeyHashes", "method": // there is one method
		default:
			return unsigned("it sets %.80q", name)
		}
	}
	for _, h := range e.params.NextKeyHashes {
		// A list is committed to again by the next device: it must fit in.
		if checkHash(h) != nil {
			return unsigned("%.80q in nextKeyHashes is no hash", h)
		}
	}
	for _, p := range e.proofs {
		for name := range p {
			switch name {
			case "type", "cryptosuite", "verificationMethod", "created", "proofPurpose", "proofValue":
			default: // such as "expires": with the proof, all that stands on it would end
				return unsigned("its proof has %.80q", name)
			}
		}
	}
	if e.size > MaxOrdinaryEntry {
		return unsigned("it has %d bytes, at most %d", e.size, MaxOrdinaryEntry)
	}
	if share := (MaxLog - from.end) / ordinaryShare; e.end-from.end > share {
		return unsigned("such entries have %d bytes since entry %d, at most %d; a recovery makes room for more", e.end-from.end, from.number, share)
	}
	if share := (MaxEntries - from.number) / ordinaryShare; e.Number-from.number > share {
		return unsigned("there are %d such entries since entry %d, at most %d; a recovery makes room for more", e.Number-from.number, from.number, share)
	}
	return checkOrdinaryDocument(e, doc)
}

func unsigned(format string, args ...any) error {
	return invalid(KindRecovery, "without the signature of the recovery key: "+format, args...)
}

// checkOrdinaryDocument wants a document of known members, which is not too large when a
// device writes it anew. doc is what was read of it.
func checkOrdinaryDocument(e verified, doc *did.Document) error {
	state, _ := e.body["state"].(map[string]any)
	for name := range state {
		switch name {
		case "@context", "id", "controller", "alsoKnownAs", "verificationMethod", "service",
			string(did.Authentication), string(did.AssertionMethod), string(did.KeyAgreement),
			string(did.CapabilityInvocation), string(did.CapabilityDelegation):
		default: // such as "deactivated", which a program that looks at the document alone believes
			return unsigned("its document has %.80q", name)
		}
	}
	if len(doc.Keys) > MaxKeys {
		return unsigned("its document has %d keys, at most %d", len(doc.Keys), MaxKeys)
	}
	size, err := rewritten(doc)
	if err != nil {
		return err
	}
	if size > maxRewritten {
		return unsigned("its document has %d bytes when it is written in full, at most %d", size, maxRewritten)
	}
	return nil
}

// rewritten is a bound of the size of a document that lists the same as another one, the
// way a device writes it (Document, with the keys as package auth lists devices): short
// forms, such as "#key", become long ones. It is no larger for what was written that way
// than for what that was made of, so that one device after the other can write.
func rewritten(doc *did.Document) (int, error) {
	const (
		frame  = 1 << 10 // context, id, controller and the names of the members
		method = 300     // a verification method and its uses, without the DID in them
		link   = 64      // a service without what is counted
	)
	id := len(doc.ID)
	size := frame + 4*id
	devices := make(map[string]bool)
	for _, k := range doc.KeysFor(did.Authentication) {
		if k.Type == did.Ed25519 {
			devices[string(k.Public)] = true
		}
	}
	ends := make(map[string]bool) // devices listed a second time, with a date
	for _, k := range doc.KeysFor(did.AssertionMethod) {
		if !k.Expires.IsZero() && devices[string(k.Public)] {
			ends[string(k.Public)] = true
		}
	}
	size += (len(devices) + len(ends)) * (method + 4*id)
	for _, s := range doc.Services {
		for _, text := range []string{fragmentOf(s.ID), s.Type} {
			b, err := jcs.Marshal(text)
			if err != nil {
				return 0, invalid(KindDocument, "service: %v", err)
			}
			size += len(b)
		}
		if len(s.Endpoint) > 0 {
			b, err := jcs.Canonical(s.Endpoint)
			if err != nil {
				return 0, invalid(KindDocument, "service: %v", err)
			}
			size += len(b)
		}
		size += link + id
	}
	for _, n := range doc.AlsoKnownAs {
		if sameLog(doc.ID, n) { // not kept by the next writer, who adds those that it knows
			continue
		}
		b, err := jcs.Marshal(n)
		if err != nil {
			return 0, invalid(KindDocument, "alsoKnownAs: %v", err)
		}
		size += len(b) + 1
	}
	return size, nil
}

// sameLog tells whether a name is that of the same log at another place.
func sameLog(id, name string) bool {
	scid, _, _ := strings.Cut(strings.TrimPrefix(id, prefix), ":")
	return strings.HasPrefix(name, prefix+scid+":")
}

// fragmentOf is what makes a service's id one of its document.
func fragmentOf(id string) string {
	if _, fragment, ok := strings.Cut(id, "#"); ok {
		return fragment
	}
	return id
}

// document is what an entry declares, as this program reads it. Only the parameters say
// that a DID was given up, never the document.
func (e *verified) document() (*did.Document, error) {
	doc, err := did.Parse(e.ID.text, e.state)
	if err != nil {
		return nil, err
	}
	doc.Version, doc.Deactivated = e.version(), e.params.Deactivated
	return doc, nil
}
