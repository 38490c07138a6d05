package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// The kinds of slots.
const (
	kindPassphrase = 1
	kindKey        = 2
)

const (
	slotMax    = 8
	slotIDSize = 4 // bytes of the salt that name a slot

	// keyPrefix begins the text of a slot key, so that it is never taken for a passphrase.
	keyPrefix  = "ipfscloud-key-1-"
	keySumSize = 4
	labelKey   = "ipfscloud/v1/keystore/key"
)

// slot is one way to the master key.
type slot struct {
	kind   byte
	kdf    KDF // of a passphrase
	salt   [saltSize]byte
	nonce  [nonceSize]byte
	sealed [masterSize + tagSize]byte
}

// head is what the slot says of itself; its seal authenticates it.
func (s *slot) head() []byte {
	b := []byte{s.kind}
	if s.kind == kindPassphrase {
		b = binary.BigEndian.AppendUint32(b, s.kdf.Time)
		b = binary.BigEndian.AppendUint32(b, s.kdf.Memory)
		b = append(b, s.kdf.Threads)
	}
	return append(b, s.salt[:]...)
}

// parse reads a slot; its error says what is wrong, unless the bytes ran out.
func (s *slot) parse(r *reader) error {
	switch s.kind = r.byte(); {
	case r.err != nil:
		return nil
	case s.kind == kindPassphrase:
		s.kdf = KDF{Time: r.uint32(), Memory: r.uint32(), Threads: r.byte()}
		if err := s.kdf.check(); err != nil && r.err == nil {
			return err
		}
	case s.kind != kindKey:
		return fmt.Errorf("unknown kind %d", s.kind)
	}
	r.fill(s.salt[:])
	r.fill(s.nonce[:])
	r.fill(s.sealed[:])
	return nil
}

func (k *keystore) slotAAD(s *slot) []byte {
	b := append([]byte("ipfscloud/v1/keystore/slot\x00"), k.identity()...)
	return append(b, s.head()...)
}

// newSlot makes a slot that a passphrase opens.
func (k *keystore) newSlot(master *secret, passphrase []byte, kdf KDF) (slot, error) {
	s := slot{kind: kindPassphrase, kdf: kdf.orDefault()}
	if len(passphrase) == 0 {
		return s, fmt.Errorf("the passphrase is empty: %w", ErrInvalid)
	}
	if isKey(passphrase) {
		return s, fmt.Errorf("this is the key of a slot, not a passphrase: %w", ErrInvalid)
	}
	if err := s.kdf.check(); err != nil {
		return s, fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	return s, k.sealSlot(&s, master, passphrase)
}

// newKeySlot makes a slot that a key opens. It returns the key's text, which the caller
// clears.
func (k *keystore) newKeySlot(master *secret) (s slot, text []byte, err error) {
	s.kind = kindKey
	b := make([]byte, masterSize, masterSize+keySumSize)
	defer func() { clear(b) }()
	rand.Read(b)
	sum := sha256.Sum256(b)
	b = append(b, sum[:keySumSize]...)
	text = base64.RawURLEncoding.AppendEncode([]byte(keyPrefix), b)
	if err := k.sealSlot(&s, master, text); err != nil {
		clear(text)
		return s, nil, err
	}
	return s, text, nil
}

func (k *keystore) sealSlot(s *slot, master *secret, from []byte) error {
	rand.Read(s.salt[:])
	rand.Read(s.nonce[:])
	key, err := s.derive(from)
	if err != nil {
		return err
	}
	defer key.wipe()
	aead, err := chacha20poly1305.NewX(key.bytes())
	if err != nil {
		return fmt.Errorf("sealing a slot: %w", err)
	}
	aead.Seal(s.sealed[:0], s.nonce[:], master.bytes(), k.slotAAD(s))
	return nil
}

// isKey tells whether a text is meant as the key of a slot.
func isKey(text []byte) bool {
	return len(text) >= len(keyPrefix) && string(text[:len(keyPrefix)]) == keyPrefix
}

// parseKey takes the key out of its text. ErrInvalid.
func parseKey(text []byte) (*secret, error) {
	b64 := base64.RawURLEncoding.Strict() // one spelling only
	body := text[len(keyPrefix):]
	b := make([]byte, b64.DecodedLen(len(body)))
	defer clear(b)
	n, err := b64.Decode(b, body)
	if err == nil && n != masterSize+keySumSize {
		err = fmt.Errorf("%d bytes", n)
	}
	if err == nil {
		if sum := sha256.Sum256(b[:masterSize]); string(sum[:keySumSize]) != string(b[masterSize:n]) {
			err = errors.New("checksum")
		}
	}
	if err != nil { // what it says may be of the key
		return nil, fmt.Errorf("the key is not whole: %w", ErrInvalid)
	}
	return copySecret(b[:masterSize])
}

// derive makes the key that the slot is sealed with.
func (s *slot) derive(from []byte) (*secret, error) {
	if s.kind == kindPassphrase {
		return s.kdf.derive(from, s.salt[:])
	}
	key, err := parseKey(from)
	if err != nil {
		return nil, err
	}
	defer key.wipe()
	b, err := hkdf.Key(sha256.New, key.bytes(), s.salt[:], labelKey, masterSize)
	if err != nil {
		return nil, fmt.Errorf("deriving a slot's key: %w", err)
	}
	return moveSecret(b)
}

// unlock tries each slot of the kind that the passphrase, or key, is for. It returns the
// master key and the number of the slot.
func (k *keystore) unlock(ctx context.Context, passphrase []byte) (*secret, int, error) {
	kind := byte(kindPassphrase)
	if isKey(passphrase) {
		kind = kindKey
	}
	for i := range k.slots {
		if k.slots[i].kind != kind {
			continue
		}
		if err := ctx.Err(); err != nil { // each try takes about a second
			return nil, 0, err
		}
		master, err := k.slots[i].open(passphrase, k.slotAAD(&k.slots[i]))
		if err == nil {
			return master, i, nil
		}
		if !errors.Is(err, ErrPassphrase) {
			return nil, 0, err
		}
	}
	return nil, 0, ErrPassphrase
}

func (s *slot) open(from, aad []byte) (*secret, error) {
	key, err := s.derive(from)
	if err != nil {
		return nil, err
	}
	defer key.wipe()
	aead, err := chacha20poly1305.NewX(key.bytes())
	if err != nil {
		return nil, fmt.Errorf("opening a slot: %w", err)
	}
	master, err := newSecret(masterSize)
	if err != nil {
		return nil, err
	}
	if _, err := aead.Open(master.bytes()[:0], s.nonce[:], s.sealed[:], aad); err != nil {
		master.wipe()
		return nil, ErrPassphrase
	}
	return master, nil
}

// The kinds of slots, as Slot names them.
const (
	SlotPassphrase = "passphrase"
	SlotKey        = "key"
)

// Slot is one way to open a keystore. Nothing of it is secret.
type Slot struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`          // SlotPassphrase or SlotKey
	KDF  *KDF   `json:"kdf,omitempty"` // of a passphrase
}

func (s *slot) describe() Slot {
	d := Slot{ID: hex.EncodeToString(s.salt[:slotIDSize]), Kind: SlotKey}
	if s.kind == kindPassphrase {
		kdf := s.kdf
		d.Kind, d.KDF = SlotPassphrase, &kdf
	}
	return d
}

// Slots lists the slots of the keystore in dir. ErrNoIdentity, ErrKeystore.
func Slots(dir string) ([]Slot, error) {
	k, err := readKeystore(dir)
	if err != nil {
		return nil, err
	}
	list := make([]Slot, len(k.slots))
	for i := range k.slots {
		list[i] = k.slots[i].describe()
	}
	return list, nil
}

// AddPassphrase adds a slot that next opens. current opens one that is there already.
func AddPassphrase(ctx context.Context, dir string, current, next []byte, kdf KDF) (Slot, error) {
	return addSlot(ctx, dir, current, func(k *keystore, master *secret) (slot, error) {
		return k.newSlot(master, next, kdf)
	})
}

// AddKey adds a slot that a new key opens: a text of 256 random bits, which stands
// wherever a passphrase does and costs no work to try. keep puts it where it will be found
// again, before the slot exists; if it fails, nothing is changed. The text is cleared
// when keep has returned.
func AddKey(ctx context.Context, dir string, current []byte, keep func(text []byte) error) (Slot, error) {
	return addSlot(ctx, dir, current, func(k *keystore, master *secret) (slot, error) {
		s, text, err := k.newKeySlot(master)
		if err != nil {
			return s, err
		}
		defer clear(text)
		return s, keep(text)
	})
}

func addSlot(ctx context.Context, dir string, current []byte, make func(*keystore, *secret) (slot, error)) (Slot, error) {
	var added Slot
	err := change(ctx, dir, current, func(k *keystore, _ *contents, master *secret, _ int) (bool, error) {
		if len(k.slots) >= slotMax {
			return false, fmt.Errorf("there are %d slots already: %w", len(k.slots), ErrSlot)
		}
		s, err := make(k, master)
		if err != nil {
			return false, err
		}
		k.slots = append(k.slots, s)
		added = s.describe()
		return true, nil
	})
	return added, err
}

// RemoveSlot removes the slot with this id; current opens any of them. The last slot
// stays, and the last passphrase too unless keysAlone: a key that only one machine can
// read is lost with that machine. ErrSlot.
//
// Copies of the old file still open as they did.
func RemoveSlot(ctx context.Context, dir string, current []byte, id string, keysAlone bool) error {
	return change(ctx, dir, current, func(k *keystore, _ *contents, _ *secret, _ int) (bool, error) {
		at, passphrases := -1, 0
		for i := range k.slots {
			if k.slots[i].describe().ID == id {
				at = i
			} else if k.slots[i].kind == kindPassphrase {
				passphrases++
			}
		}
		switch {
		case at < 0:
			return false, fmt.Errorf("there is no slot %.40q: %w", id, ErrSlot)
		case len(k.slots) == 1:
			return false, fmt.Errorf("%s is the last slot, nothing would open the keystore: %w", id, ErrSlot)
		case passphrases == 0 && k.slots[at].kind == kindPassphrase && !keysAlone:
			return false, fmt.Errorf("%s is the last passphrase: %w", id, ErrSlot)
		}
		k.slots = append(k.slots[:at], k.slots[at+1:]...)
		return true, nil
	})
}

// ChangePassphrase replaces the slot that current opens by one for next. A zero kdf stands
// for the defaults, or for what the old slot had if that was more work. Copies of the old
// file still open with the old passphrase.
func ChangePassphrase(ctx context.Context, dir string, current, next []byte, kdf KDF) error {
	return change(ctx, dir, current, func(k *keystore, _ *contents, master *secret, n int) (bool, error) {
		if k.slots[n].kind != kindPassphrase {
			return false, fmt.Errorf("a key has opened the keystore, not the passphrase to change: %w", ErrInvalid)
		}
		if old := k.slots[n].kdf; kdf == (KDF{}) && old.work() > kdf.orDefault().work() {
			kdf = old
		}
		s, err := k.newSlot(master, next, kdf)
		if err != nil {
			return false, err
		}
		k.slots[n] = s
		return true, nil
	})
}
