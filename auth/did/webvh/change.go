package webvh

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

// Document builds the document of a DID from what it shall list.
func Document(id string, c did.Change) ([]byte, error) {
	doc := map[string]any{
		"@context":   []any{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"},
		"id":         id,
		"controller": id,
	}
	var keys []any
	uses := make(map[string][]any)
	for _, k := range c.Keys {
		multi, err := did.Multikey(k.Type, k.Public)
		if err != nil {
			return nil, err
		}
		fragment := k.Fragment
		if fragment == "" {
			fragment = multi
		}
		kid := id + "#" + fragment
		method := map[string]any{"id": kid, "type": "Multikey", "controller": id, "publicKeyMultibase": multi}
		if !k.Expires.IsZero() {
			method["expires"] = k.Expires.UTC().Format(time.RFC3339)
		}
		keys = append(keys, method)
		for _, r := range k.Relationships {
			uses[string(r)] = append(uses[string(r)], kid)
		}
	}
	if keys != nil {
		doc["verificationMethod"] = keys
	}
	for r, kids := range uses {
		doc[r] = kids
	}
	var services []any
	for _, s := range c.Services {
		endpoint, err := jcs.Parse(s.Endpoint)
		if err != nil {
			return nil, invalid(KindDocument, "endpoint of service %.80q: %v", s.ID, err)
		}
		services = append(services, map[string]any{"id": id + "#" + fragmentOf(s.ID), "type": s.Type, "serviceEndpoint": endpoint})
	}
	if services != nil {
		doc["service"] = services
	}
	if len(c.AlsoKnownAs) > 0 {
		doc["alsoKnownAs"] = anyList(c.AlsoKnownAs)
	}
	return jcs.Marshal(doc)
}

// minimal is the document of a deactivated DID: no key is left that a resolver which does
// not look at the metadata could accept.
func minimal(id string, names []string) ([]byte, error) {
	doc := map[string]any{"@context": []any{"https://www.w3.org/ns/did/v1"}, "id": id}
	if len(names) > 0 {
		doc["alsoKnownAs"] = anyList(names)
	}
	return json.Marshal(doc)
}

// commit returns nextKeyHashes: those that stay, those of the next keys, and the recovery
// key with its mark. Sorted, so that the order does not tell which is which.
func commit(stay []string, c did.Change) ([]string, error) {
	hashes := append(slices.Clone(stay), c.NextHashes...)
	for _, k := range c.NextKeys {
		multi, err := did.Multikey(did.Ed25519, k)
		if err != nil {
			return nil, fmt.Errorf("next key: %w", err)
		}
		hashes = append(hashes, HashKey(multi))
	}
	if len(c.Recovery) > 0 {
		multi, err := did.Multikey(did.Ed25519, c.Recovery)
		if err != nil {
			return nil, fmt.Errorf("recovery key: %w", err)
		}
		h := HashKey(multi)
		hashes = append(hashes, h, MarkRecovery(h))
	}
	slices.Sort(hashes)
	return slices.Compact(hashes), nil
}

// marked are the hashes of the recovery keys in a list, with their marks.
func marked(hashes []string) []string {
	var out []string
	for _, h := range RecoveryHashes(hashes) {
		out = append(out, h, MarkRecovery(h))
	}
	return out
}

// moved is the DID at another place.
func moved(id ID, location string) (ID, error) {
	if location == "" {
		return id, nil
	}
	return ParseID(prefix + id.SCID + ":" + location)
}
