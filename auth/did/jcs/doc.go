// Package jcs reads JSON strictly and writes it in the one canonical form of RFC 8785.
//
// Its one job is that two programs which hold the same JSON value hash the same bytes. It
// refuses what I-JSON refuses: members named twice, text that is no Unicode, numbers that
// no double can hold. It imports the standard library only, and never guesses: what it
// cannot read exactly is an error.
package jcs

import "errors"

// ErrInvalid: not JSON, or JSON without a canonical form.
var ErrInvalid = errors.New("invalid JSON")

// MaxDepth bounds how deep arrays and objects may be nested.
const MaxDepth = 100
