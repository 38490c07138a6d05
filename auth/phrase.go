package auth

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"

	"github.com/tyler-smith/go-bip39/wordlists"
)

const (
	phraseWords   = 24
	phraseEntropy = 32 // bytes
	wordBits      = 11
)

// Labels of the keys that follow from a phrase, each HKDF-SHA256 of its entropy.
const (
	labelSigning    = "ipfscloud/v1/phrase/signing"    // Ed25519 seed of the device, and of a did:key
	labelAgreement  = "ipfscloud/v1/phrase/agreement"  // HPKE key of the device
	labelRecovery   = "ipfscloud/v1/phrase/recovery"   // HPKE key of the recovery recipient
	labelPublishing = "ipfscloud/v1/phrase/publishing" // Ed25519 seed of the IPNS name of the DID's log
	labelUpdate     = "ipfscloud/v1/phrase/update"     // seed of the device's update keys
	labelRecover    = "ipfscloud/v1/phrase/recover"    // Ed25519 seed that signs a recovery in the log
)

// Phrase is a recovery phrase: 24 words of BIP-39 English, which stand for 256 bits. It
// lies in locked memory. Printing it in any way shows a placeholder; Words shows it.
type Phrase struct{ entropy *secret }

// NewPhrase draws a fresh phrase. Wipe it after use.
func NewPhrase() (*Phrase, error) {
	s, err := newSecret(phraseEntropy)
	if err != nil {
		return nil, err
	}
	rand.Read(s.bytes())
	return &Phrase{entropy: s}, nil
}

// ParsePhrase reads 24 words, in any case, with any white space between them. An error is
// ErrPhrase and names the position of the first wrong word, never the word. Wipe the
// phrase after use.
func ParsePhrase(text []byte) (*Phrase, error) {
	lower := bytes.ToLower(text)
	defer clear(lower)
	words := bytes.Fields(lower)
	if len(words) != phraseWords {
		return nil, fmt.Errorf("%d words in place of %d: %w", len(words), phraseWords, ErrPhrase)
	}
	// 24 times 11 bits are 32 bytes of entropy and one byte of checksum.
	all, err := newSecret(phraseEntropy + 1)
	if err != nil {
		return nil, err
	}
	defer all.wipe()
	for i, w := range words {
		index, ok := slices.BinarySearchFunc(wordlists.English, w, func(e string, w []byte) int {
			return bytes.Compare([]byte(e), w)
		})
		if !ok {
			return nil, fmt.Errorf("word %d is not in the list of words: %w", i+1, ErrPhrase)
		}
		for b := range wordBits {
			if index>>(wordBits-1-b)&1 == 1 {
				at := i*wordBits + b
				all.bytes()[at/8] |= 0x80 >> (at % 8)
			}
		}
	}
	entropy, check := all.bytes()[:phraseEntropy], all.bytes()[phraseEntropy]
	if sum := sha256.Sum256(entropy); sum[0] != check {
		return nil, fmt.Errorf("each word is in the list, but one is wrong or two are exchanged (checksum): %w", ErrPhrase)
	}
	s, err := copySecret(entropy)
	if err != nil {
		return nil, err
	}
	return &Phrase{entropy: s}, nil
}

// Words are the 24 words, to be shown to the owner and nobody else.
func (p *Phrase) Words() []string {
	e := p.entropy.bytes()
	sum := sha256.Sum256(e)
	words := make([]string, phraseWords)
	for i := range words {
		index := 0
		for at := i * wordBits; at < (i+1)*wordBits; at++ {
			b := sum[0]
			if at/8 < phraseEntropy {
				b = e[at/8]
			}
			index = index<<1 | int(b>>(7-at%8)&1)
		}
		words[i] = wordlists.English[index]
	}
	return words
}

// Equal compares two phrases in constant time.
func (p *Phrase) Equal(q *Phrase) bool {
	return subtle.ConstantTimeCompare(p.entropy.bytes(), q.entropy.bytes()) == 1
}

// Wipe overwrites the phrase; no other method may be called after it.
func (p *Phrase) Wipe() {
	if p != nil {
		p.entropy.wipe()
	}
}

// Format prints a placeholder for every verb.
func (*Phrase) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[recovery phrase]") }

// MarshalJSON writes a placeholder.
func (*Phrase) MarshalJSON() ([]byte, error) { return []byte(`"[recovery phrase]"`), nil }

// derive makes the 32-byte key of a label.
func (p *Phrase) derive(label string) (*secret, error) {
	b, err := hkdf.Key(sha256.New, p.entropy.bytes(), nil, label, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving %s: %w", label, err)
	}
	return moveSecret(b)
}
