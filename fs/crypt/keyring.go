package crypt

import (
	"bytes"
	"context"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"runtime"
)

// ErrNotRecipient is returned when no entry of a keyring opens with the keys at hand.
var ErrNotRecipient = errors.New("the vault's key is not wrapped for this identity")

// Keyring is an epoch's vault key, wrapped for each device and for the recovery key.
// Its entries carry no key ids and stand in random order.
type Keyring struct {
	Vault   VaultID
	Epoch   uint64
	Entries [][]byte // HPKE: encapsulated key and ciphertext, joined
	Notes   []byte   // sealed with SealNotes; none in format 1
}

const (
	keyringMagic      = "ICKR\x01"
	keyringMagicNotes = "ICKR\x02" // with notes
	keyringMax        = 1024       // entries
)

func keyringInfo(v VaultID, epoch uint64) []byte {
	e := Encoder{Buf: []byte("ipfscloud/v1/keyring\x00")}
	e.Raw(v[:])
	e.U64(epoch)
	return e.Buf
}

// WrapKey wraps the vault key for public keys of HPKE's hybrid KEM, X25519 with
// ML-KEM-768 (HKDF-SHA256, AES-256-GCM).
func WrapKey(v VaultID, epoch uint64, key *VaultKey, recipients [][]byte) (*Keyring, error) {
	r := &Keyring{Vault: v, Epoch: epoch}
	info := keyringInfo(v, epoch)
	for _, b := range recipients {
		pub, err := hpke.MLKEM768X25519().NewPublicKey(b)
		if err != nil {
			return nil, fmt.Errorf("recipient of the vault key: %w", err)
		}
		sealed, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info, key.mem[:keySize])
		if err != nil {
			return nil, fmt.Errorf("wrapping the vault key: %w", err)
		}
		r.Entries = append(r.Entries, sealed)
	}
	runtime.KeepAlive(key)
	for i := len(r.Entries) - 1; i > 0; i-- { // the order must not tell which device is which
		n, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
		if err != nil {
			return nil, fmt.Errorf("shuffling the keyring: %w", err)
		}
		j := int(n.Int64())
		r.Entries[i], r.Entries[j] = r.Entries[j], r.Entries[i]
	}
	return r, nil
}

// Opener opens an HPKE message with a key that it does not show. The result is the caller's,
// who overwrites it.
type Opener func(ctx context.Context, info, sealed []byte) ([]byte, error)

// Unwrap returns the vault key, or ErrNotRecipient.
func (r *Keyring) Unwrap(ctx context.Context, open Opener) (*VaultKey, error) {
	info := keyringInfo(r.Vault, r.Epoch)
	var last error
	for _, e := range r.Entries {
		b, err := open(ctx, info, e)
		if err == nil && len(b) == keySize {
			return moveVaultKey(b)
		}
		last = err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%d entries, last error %v: %w", len(r.Entries), last, ErrNotRecipient)
}

// Encode is the keyring as it is stored.
func (r *Keyring) Encode() []byte {
	e := Encoder{Buf: []byte(keyringMagic)}
	if len(r.Notes) > 0 {
		e.Buf = []byte(keyringMagicNotes)
	}
	e.Raw(r.Vault[:])
	e.U64(r.Epoch)
	e.Uvarint(uint64(len(r.Entries)))
	for _, x := range r.Entries {
		e.Bytes(x)
	}
	if len(r.Notes) > 0 {
		e.Bytes(r.Notes)
	}
	return e.Buf
}

// DecodeKeyring reads a stored keyring.
func DecodeKeyring(b []byte) (*Keyring, error) {
	d := NewDecoder(b)
	noted := bytes.HasPrefix(b, []byte(keyringMagicNotes))
	if noted {
		d.Expect(keyringMagicNotes)
	} else {
		d.Expect(keyringMagic)
	}
	r := &Keyring{}
	copy(r.Vault[:], d.Take(len(r.Vault)))
	r.Epoch = d.U64()
	n := d.Count(1)
	if n > keyringMax {
		d.Fail("too many entries")
	}
	for range n {
		if d.Err() != nil {
			break
		}
		r.Entries = append(r.Entries, d.Bytes())
	}
	if noted {
		if r.Notes = d.Bytes(); len(r.Notes) == 0 {
			d.Fail("no notes")
		}
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return r, nil
}
