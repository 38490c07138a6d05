package cluster

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// rawCID is the CID of a raw block.
func rawCID(data string) string {
	h := sha256.Sum256([]byte(data))
	b := append([]byte{1, 0x55, 0x12, 0x20}, h[:]...)
	return "b" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}
