package auth

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// The formats of a keystore.
const (
	formatFixed = 1 // of an identity whose document never changes: did:key
	formatLog   = 2 // of one with a log: did:webvh; and of one that waits for its log
)

const labelGuard = "ipfscloud/v1/keystore/next" // of the key that seals the guarded part

// extension is what the contents of format 2 have besides: the keys of the log.
type extension struct {
	publishing *secret // Ed25519 seeds of the present and former IPNS names; nil where none is known
	notes      []byte  // what the devices of the identity say of themselves; see notes
	// guarded is the seed of this device's update keys, sealed under a key of its own; two of
	// them while the keys are drawn anew. A login does not open it: the next keys are had with the passphrase only, never from
	// the agent.
	guard   [nonceSize]byte
	guarded []byte
}

func (x *extension) wipe() {
	if x != nil {
		x.publishing.wipe()
	}
}

func (x *extension) size() int {
	if x == nil {
		return 0
	}
	n := 1 + 4 + len(x.notes) + nonceSize + 2 + len(x.guarded)
	if x.publishing != nil {
		n += len(x.publishing.bytes())
	}
	return n
}

// append writes the extension behind b, which has the room.
func (x *extension) append(b []byte) []byte {
	if x == nil {
		return b
	}
	if x.publishing == nil {
		b = append(b, 0)
	} else {
		b = append(b, byte(len(x.publishing.bytes())))
		b = append(b, x.publishing.bytes()...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(x.notes)))
	b = append(b, x.notes...)
	b = append(b, x.guard[:]...)
	return appendText16(b, string(x.guarded))
}

// parse reads what append wrote; the publishing seeds stay the reader's.
func (x *extension) parse(r *reader) (publishing []byte) {
	publishing = r.block(1)
	if n := len(publishing); (n%seedSize != 0 || n > namesMax*seedSize) && r.err == nil {
		r.err = fmt.Errorf("publishing keys of %d bytes", n)
	}
	x.notes = bytes.Clone(r.block(4))
	r.fill(x.guard[:])
	x.guarded = bytes.Clone(r.block(2))
	return publishing
}

// guardAEAD is the cipher of the guarded part.
func guardAEAD(master *secret) (*secret, error) {
	b, err := hkdf.Key(sha256.New, master.bytes(), nil, labelGuard, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("key of the guarded part: %w", err)
	}
	return moveSecret(b)
}

// setGuarded seals the seeds of the update keys.
func (x *extension) setGuarded(master *secret, seeds ...*secret) error {
	key, err := guardAEAD(master)
	if err != nil {
		return err
	}
	defer key.wipe()
	aead, err := chacha20poly1305.NewX(key.bytes())
	if err != nil {
		return fmt.Errorf("sealing the guarded part: %w", err)
	}
	all, err := newSecret(len(seeds) * seedSize)
	if err != nil {
		return err
	}
	defer all.wipe()
	for i, s := range seeds {
		copy(all.bytes()[i*seedSize:], s.bytes())
	}
	rand.Read(x.guard[:])
	x.guarded = aead.Seal(nil, x.guard[:], all.bytes(), []byte(labelGuard))
	return nil
}

// seeds opens the guarded part: the seeds of this device's update keys, the newest first.
func (x *extension) seeds(master *secret) (_ []*secret, err error) {
	if x == nil || len(x.guarded) != seedSize+tagSize && len(x.guarded) != 2*seedSize+tagSize {
		return nil, fmt.Errorf("the keystore holds no update key: %w", ErrKeystore)
	}
	key, err := guardAEAD(master)
	if err != nil {
		return nil, err
	}
	defer key.wipe()
	aead, err := chacha20poly1305.NewX(key.bytes())
	if err != nil {
		return nil, fmt.Errorf("opening the guarded part: %w", err)
	}
	all, err := newSecret(len(x.guarded) - tagSize)
	if err != nil {
		return nil, err
	}
	defer all.wipe()
	if _, err := aead.Open(all.bytes()[:0], x.guard[:], x.guarded, []byte(labelGuard)); err != nil {
		return nil, fmt.Errorf("the update keys were altered: %w", ErrKeystore)
	}
	var seeds []*secret
	for b := all.bytes(); len(b) > 0; b = b[seedSize:] {
		s, err := copySecret(b[:seedSize])
		if err != nil {
			wipeAll(seeds)
			return nil, err
		}
		seeds = append(seeds, s)
	}
	return seeds, nil
}

// updateKey is the seed of the update key with this number. They count up from 0, each is
// good for one entry of the log, and each entry commits to the next one.
func updateKey(seed *secret, number uint64) (*secret, error) {
	info := string(binary.BigEndian.AppendUint64([]byte("ipfscloud/v1/update\x00"), number))
	b, err := hkdf.Key(sha256.New, seed.bytes(), nil, info, seedSize)
	if err != nil {
		return nil, fmt.Errorf("update key %d: %w", number, err)
	}
	return moveSecret(b)
}
