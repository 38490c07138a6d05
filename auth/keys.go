package auth

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

const seedSize = 32 // of Ed25519 and of the hybrid KEM

// Device is one device of an identity: a signing key that the DID document lists, and
// the key that vault keys are wrapped for. An identity of did:key has exactly one.
type Device struct {
	ID        string // short name in commit paths: lower-case letters and digits
	Name      string // for people
	KeyID     string // exact id of the signing key in the DID document
	Signing   []byte // Ed25519 public key
	Agreement []byte // HPKE public key (MLKEM768-X25519)
	Grant
}

// deviceID is the short name of the device with this signing key: 16 letters and digits,
// 80 bits, so that no two devices of one identity share one and none can choose another's.
func deviceID(signing ed25519.PublicKey) string {
	h := sha256.New()
	h.Write([]byte("ipfscloud/v1/device\x00"))
	h.Write(signing)
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)[:10]))
}

func signingPublic(seed *secret) ed25519.PublicKey {
	key := ed25519.NewKeyFromSeed(seed.bytes())
	defer clear(key)
	return key.Public().(ed25519.PublicKey)
}

func sign(seed *secret, msg []byte) []byte {
	key := ed25519.NewKeyFromSeed(seed.bytes())
	defer clear(key)
	return ed25519.Sign(key, msg)
}

// checkPurpose wants "ipfscloud/v1/", a label of lower-case letters, digits, '-' and '/',
// and a NUL: so a signature for one purpose is never good for another, and nobody can
// have a login or a DID document signed through Sign.
func checkPurpose(msg []byte) error {
	rest, ok := strings.CutPrefix(string(msg[:min(len(msg), 64)]), "ipfscloud/v1/")
	label, _, nul := strings.Cut(rest, "\x00")
	if !ok || !nul || label == "" {
		return fmt.Errorf("it wants ipfscloud/v1/, a label and a NUL in the first 64 bytes: %w", ErrPurpose)
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '/' {
			return fmt.Errorf("label of the message to sign: %w", ErrPurpose)
		}
	}
	return nil
}

// agreementPublic is the HPKE public key of a seed.
func agreementPublic(seed *secret) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed.bytes())
	if err != nil {
		return nil, fmt.Errorf("HPKE key: %w", err)
	}
	defer wipeHPKE(key)
	return key.PublicKey().Bytes(), nil
}

// openHPKE opens a message of HPKE's base mode: the encapsulated key and the ciphertext,
// joined.
func openHPKE(seed *secret, info, sealed []byte) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed.bytes())
	if err != nil {
		return nil, fmt.Errorf("HPKE key: %w", err)
	}
	defer wipeHPKE(key)
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrNotRecipient)
	}
	return plain, nil
}

// wipeHPKE overwrites the copy of the seed that the key keeps; Bytes returns that copy.
func wipeHPKE(key hpke.PrivateKey) {
	if b, err := key.Bytes(); err == nil {
		clear(b)
	}
}

// sealHPKE seals a message for a public key; openHPKE opens it.
func sealHPKE(public, info, plain []byte) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("HPKE key: %w", err)
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing for a device: %w", err)
	}
	return sealed, nil
}
