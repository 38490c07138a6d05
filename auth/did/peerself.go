package did

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// The did:peer DIDs that hold their document: numeric basis 0 is a did:key under another
// name, 2 a list of keys and services, and 4 a whole document with its hash. Aries knows
// none of them.

const codecJSON = 0x0200

// peer0 expands a did:peer of one key.
func peer0(ctx context.Context, id, key string) ([]byte, error) {
	doc, err := NewKey().Resolve(ctx, "did:key:"+key)
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(doc.Raw(), []byte(doc.ID), []byte(id)), nil
}

// peer2 expands a did:peer of elements, each a purpose and a key, or a service.
func peer2(id, elements string) ([]byte, error) {
	doc := map[string]any{"@context": []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"}, "id": id}
	var keys []map[string]string
	var services []map[string]any
	uses := make(map[Relationship][]string)
	list := strings.Split(elements, ".")
	if len(list) < 2 || list[0] != "" {
		return nil, fmt.Errorf("%.200q has no elements: %w", id, ErrInvalid)
	}
	unnamed := 0
	for _, e := range list[1:] {
		if e == "" {
			return nil, fmt.Errorf("%.200q has an empty element: %w", id, ErrInvalid)
		}
		if e[0] == 'S' {
			s, err := peerService(e[1:])
			if err != nil {
				return nil, err
			}
			if s["id"] == nil {
				s["id"] = "#service"
				if unnamed > 0 {
					s["id"] = fmt.Sprintf("#service-%d", unnamed)
				}
				unnamed++
			}
			services = append(services, s)
			continue
		}
		purpose, ok := peerPurpose(e[0])
		if !ok || len(e) < 3 || e[1] != multibase.Base58BTC {
			return nil, fmt.Errorf("element %.80q of %.80q: %w", e, id, ErrInvalid)
		}
		if _, _, err := multibase.Decode(e[1:]); err != nil {
			return nil, fmt.Errorf("key %.80q of %.80q: %w", e[1:], id, ErrInvalid)
		}
		kid := fmt.Sprintf("#key-%d", len(keys)+1)
		keys = append(keys, map[string]string{"id": kid, "type": "Multikey", "controller": id, "publicKeyMultibase": e[1:]})
		uses[purpose] = append(uses[purpose], kid)
	}
	if keys != nil {
		doc["verificationMethod"] = keys
	}
	for purpose, kids := range uses {
		doc[string(purpose)] = kids
	}
	if services != nil {
		doc["service"] = services
	}
	return json.Marshal(doc)
}

func peerPurpose(code byte) (Relationship, bool) {
	switch code {
	case 'A':
		return AssertionMethod, true
	case 'E':
		return KeyAgreement, true
	case 'V':
		return Authentication, true
	case 'I':
		return CapabilityInvocation, true
	case 'D':
		return CapabilityDelegation, true
	}
	return "", false
}

func peerService(text string) (map[string]any, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("service %.80q: %w", text, ErrInvalid)
	}
	if _, err := object(raw); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	var s map[string]any
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("service: %v: %w", err, ErrInvalid)
	}
	long, _ := spellOut(s).(map[string]any)
	return long, nil
}

// spellOut replaces the abbreviations of a service: in names, and in the value of a type.
func spellOut(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = spellOut(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			switch name {
			case "t":
				name = "type"
			case "s":
				name = "serviceEndpoint"
			case "r":
				name = "routingKeys"
			case "a":
				name = "accept"
			}
			if name == "type" && value == "dm" {
				value = "DIDCommMessaging"
			}
			out[name] = spellOut(value)
		}
		return out
	}
	return v
}

// peer4 takes the document out of the long form of a did:peer and checks its hash. The
// short form has the hash alone.
func peer4(id, specific string) ([]byte, error) {
	hash, encoded, long := strings.Cut(specific, ":")
	if !long {
		return nil, fmt.Errorf("%s is the short form, and its long one was not met: %w", id, ErrNotFound)
	}
	sum, err := multihash.Sum([]byte(encoded), multihash.SHA2_256, -1)
	if err != nil {
		return nil, fmt.Errorf("hash of a did:peer: %w", err)
	}
	if hash != string(rune(multibase.Base58BTC))+sum.B58String() {
		return nil, fmt.Errorf("the document in %.200q does not hash to it: %w", id, ErrInvalid)
	}
	_, raw, err := multibase.Decode(encoded)
	if err != nil || encoded[0] != multibase.Base58BTC {
		return nil, fmt.Errorf("document in %.200q: %w", id, ErrInvalid)
	}
	code, n := binary.Uvarint(raw)
	if n <= 0 || code != codecJSON {
		return nil, fmt.Errorf("document in %.200q is not JSON: %w", id, ErrInvalid)
	}
	doc, err := object(raw[n:])
	if err != nil {
		return nil, err
	}
	if _, has := doc["id"]; has {
		return nil, fmt.Errorf("document in %.200q names a DID: %w", id, ErrInvalid)
	}
	var names []string
	if err := doc.get("alsoKnownAs", &names); err != nil {
		return nil, err
	}
	short, _, _ := strings.Cut(strings.TrimPrefix(id, "did:peer:"), ":")
	for name, v := range map[string]any{"id": id, "alsoKnownAs": append(names, "did:peer:"+short)} {
		if doc[name], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return json.Marshal(map[string]json.RawMessage(doc))
}
