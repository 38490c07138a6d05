package journal

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// testKey is a journal's key.
func testKey(first byte) Deriver {
	key := make([]byte, 32)
	key[0] = first
	return func(salt []byte, label string) ([]byte, error) {
		return hkdf.Key(sha256.New, key, salt, label, 32)
	}
}
