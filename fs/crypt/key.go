package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// Key is a 256-bit key. It prints as nothing, so that it cannot slip into a log.
type Key [32]byte

// NewKey draws a fresh key.
func NewKey() Key {
	var k Key
	rand.Read(k[:]) // never fails: crypto/rand ends the process instead
	return k
}

// String hides the key.
func (Key) String() string { return "key" }

// GoString hides the key.
func (Key) GoString() string { return "key" }

// Derive makes the key for one purpose out of k: HKDF-SHA256 with the salt and the label.
func (k Key) Derive(salt []byte, label string) Key {
	b, err := hkdf.Key(sha256.New, k[:], salt, label, len(k))
	if err != nil {
		panic(err) // only for lengths beyond what HKDF can give
	}
	return Key(b)
}

// AEAD is AES-256-GCM under k.
func (k Key) AEAD() cipher.AEAD {
	b, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return a
}

// zeroNonce is used where a key seals one message in its life.
var zeroNonce [12]byte

// LabelSize is the length in bytes of a label; in a link it is 16 letters of base32.
const LabelSize = 10

// Label is the name of a link in the shadow tree: random, of one length, for life.
type Label [LabelSize]byte

// NewLabel draws a label.
func NewLabel() Label {
	var l Label
	rand.Read(l[:])
	return l
}

// String is the label as it stands in a link.
func (l Label) String() string { return base32Lower.EncodeToString(l[:]) }

// VaultID names a vault.
type VaultID [16]byte

// NewVaultID draws a vault's name.
func NewVaultID() VaultID {
	var v VaultID
	rand.Read(v[:])
	return v
}

// String is the id in 32 hex digits.
func (v VaultID) String() string { return hex.EncodeToString(v[:]) }

// ParseVaultID reads what String wrote.
func ParseVaultID(s string) (VaultID, error) {
	var v VaultID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(v) || hex.EncodeToString(b) != s {
		return v, ErrFormat
	}
	copy(v[:], b)
	return v, nil
}
