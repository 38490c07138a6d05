package crypt

import (
	"crypto/rand"
	"fmt"
)

const notesLabel = "ipfscloud/v1/notes"

// SealNotes seals what the identity keeps in a keyring beside the wrapped keys. No notes
// stay none.
func (r *Keyring) SealNotes(key *VaultKey, notes []byte) {
	if len(notes) == 0 {
		r.Notes = nil
		return
	}
	salt := make([]byte, headSalt)
	rand.Read(salt)
	k := key.Derive(salt, notesLabel)
	r.Notes = k.AEAD().Seal(salt[:len(salt):len(salt)], zeroNonce[:], notes, keyringInfo(r.Vault, r.Epoch))
}

// OpenNotes opens them. ErrIntegrity.
func (r *Keyring) OpenNotes(key *VaultKey) ([]byte, error) {
	if len(r.Notes) == 0 {
		return nil, nil
	}
	if len(r.Notes) < headSalt {
		return nil, fmt.Errorf("notes of the keyring: %w", ErrIntegrity)
	}
	k := key.Derive(r.Notes[:headSalt], notesLabel)
	b, err := k.AEAD().Open(nil, zeroNonce[:], r.Notes[headSalt:], keyringInfo(r.Vault, r.Epoch))
	if err != nil {
		return nil, fmt.Errorf("notes of the keyring: %w", ErrIntegrity)
	}
	return b, nil
}
