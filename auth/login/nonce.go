package login

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

const (
	nonceSize  = 32 // bytes: an encrypted block, and the half of an HMAC-SHA-256 of it
	chunkSize  = 4096
	chunkBytes = chunkSize / 8
)

// nonce is what a sealed nonce says.
type nonce struct {
	number  uint64 // counts those that were made
	expires time.Time
}

// nonces makes the nonces of one Challenger, and knows which were used.
//
// A nonce is AES-128 of {number, expiry in nanoseconds} and half of an HMAC over that, by
// keys that end with the process. Only we can make one; the encryption hides how many
// there were. What was used is a bit for each number, in chunks that exist only where
// something was used and go when their last nonce has expired: a stranger who fills them
// has to ask for eight nonces for each byte, and no bound is needed by which one stranger
// could shut others out.
type nonces struct {
	block cipher.Block
	key   [32]byte

	mu     sync.Mutex // guards the rest
	made   uint64
	chunks map[uint64]*chunk // by number / chunkSize
}

type chunk struct {
	used [chunkBytes]byte
	last time.Time // expiry of the newest nonce that was used here
}

func newNonces() *nonces {
	n := &nonces{chunks: make(map[uint64]*chunk)}
	var k [16]byte
	rand.Read(k[:])
	rand.Read(n.key[:])
	n.block, _ = aes.NewCipher(k[:]) // fails for wrong sizes of a key only
	return n
}

func (n *nonces) tag(b []byte) []byte {
	m := hmac.New(sha256.New, n.key[:])
	m.Write(b)
	return m.Sum(nil)[:nonceSize-aes.BlockSize]
}

// make returns a nonce that nobody was given before.
func (n *nonces) make(expires time.Time) string {
	n.mu.Lock()
	number := n.made
	n.made++
	n.mu.Unlock()
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], number)
	binary.BigEndian.PutUint64(b[8:], uint64(expires.UnixNano()))
	n.block.Encrypt(b[:], b[:])
	return base64.RawURLEncoding.EncodeToString(append(b[:], n.tag(b[:])...))
}

// open reads a nonce. It is false for what was not made here.
func (n *nonces) open(text string) (nonce, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != nonceSize || !hmac.Equal(b[aes.BlockSize:], n.tag(b[:aes.BlockSize])) {
		return nonce{}, false
	}
	n.block.Decrypt(b[:aes.BlockSize], b[:aes.BlockSize])
	return nonce{number: binary.BigEndian.Uint64(b[:8]), expires: time.Unix(0, int64(binary.BigEndian.Uint64(b[8:16])))}, true
}

func (x nonce) at() (chunk uint64, at int, bit byte) {
	return x.number / chunkSize, int(x.number % chunkSize / 8), 1 << (x.number % 8)
}

func (n *nonces) used(x nonce) bool {
	number, at, bit := x.at()
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.chunks[number]
	return c != nil && c.used[at]&bit != 0
}

// use marks a nonce, and tells whether it was free. The caller has seen that it has not
// expired.
func (n *nonces) use(x nonce, now time.Time) bool {
	number, at, bit := x.at()
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.chunks[number]
	if c == nil {
		for k, old := range n.chunks {
			// All that was used there has expired; the slack is for a clock that is set back.
			if now.After(old.last.Add(challengeLife)) {
				delete(n.chunks, k)
			}
		}
		c = new(chunk)
		n.chunks[number] = c
	}
	if c.used[at]&bit != 0 {
		return false
	}
	c.used[at] |= bit
	if x.expires.After(c.last) {
		c.last = x.expires
	}
	return true
}
