// Package did resolves decentralised identifiers and finds keys in their documents.
//
// Its one job is to answer "which key is named so, and may it be used for this?" for
// every DID method the program knows. Each method is a Method; the methods that aries
// offers (key, web, peer) are reached through it, and aries appears nowhere else. The
// package may import the standard library, aries and small codecs, and nothing else of
// this module. It holds no private key, looks keys up by their exact id only, and never
// registers a method by itself: NewResolver is given all of them.
package did

import (
	"errors"
	"fmt"
	"strings"
)

// The meanings an operation can fail with; they are wrapped with %w.
var (
	// ErrInvalid: not a DID, not a DID document, or the document of another DID.
	ErrInvalid = errors.New("invalid DID or document")
	// ErrUnsupportedMethod: no such DID method was given to the resolver.
	ErrUnsupportedMethod = errors.New("unsupported DID method")
	// ErrNotSupported: the DID method has no such operation.
	ErrNotSupported = errors.New("the DID method does not support this")
	// ErrNotFound: the DID does not exist, as far as its method can tell.
	ErrNotFound = errors.New("DID not found")
	// ErrUnavailable: what serves the DID did not answer in time; trying again may help.
	ErrUnavailable = errors.New("DID cannot be resolved now")
	// ErrDeactivated: the DID exists and was given up; its keys are good for nothing.
	ErrDeactivated = errors.New("DID is deactivated")
	// ErrKeyNotFound: the document has no key of exactly this id.
	ErrKeyNotFound = errors.New("no such key in the DID document")
	// ErrRelationship: the document has the key, but not for this purpose.
	ErrRelationship = errors.New("the DID document does not allow this use of the key")
	// ErrKeyType: the key is of another kind than the one wanted.
	ErrKeyType = errors.New("key of another type")
)

const maxDID = 2048 // bytes

// methodOf returns the name of the method of a DID: "key" for "did:key:z6Mk…". It accepts
// a plain DID only, without path, query or fragment.
func methodOf(id string) (string, error) {
	rest, ok := strings.CutPrefix(id, "did:")
	name, specific, cut := strings.Cut(rest, ":")
	if !ok || !cut || name == "" || specific == "" || len(id) > maxDID {
		return "", fmt.Errorf("%.80q is not a DID: %w", id, ErrInvalid)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", fmt.Errorf("DID method %.20q: %w", name, ErrInvalid)
		}
	}
	for i := 0; i < len(specific); i++ {
		if c := specific[i]; c == '%' {
			if i+2 >= len(specific) || !isHex(specific[i+1]) || !isHex(specific[i+2]) {
				return "", fmt.Errorf("escape in %.80q: %w", id, ErrInvalid)
			}
			i += 2
		} else if name == "webvh" && c != '/' && c != '?' && c != '#' {
			continue // its identifiers may be in any script; the method looks closely
		} else if !isIDChar(c) {
			return "", fmt.Errorf("character %q in %.80q: %w", c, id, ErrInvalid)
		}
	}
	if strings.HasSuffix(specific, ":") {
		return "", fmt.Errorf("%.80q ends in a colon: %w", id, ErrInvalid)
	}
	return name, nil
}

func isIDChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '-' || c == '_' || c == ':'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// Version is a state of a DID document. Methods without history use 1 for both.
type Version struct {
	Number uint64 // counts up from 1; 0 when the method cannot tell
	ID     string // as the method writes it, such as "3-QmXy…"
}

// String is the version as the method writes it.
func (v Version) String() string { return v.ID }

// Follows tells whether a document of version v may be accepted by somebody who has
// accepted last before: it is newer, or the very same.
func (v Version) Follows(last Version) bool {
	return v.Number > last.Number || v == last
}
