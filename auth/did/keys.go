package did

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/multiformats/go-multibase"
)

// KeyType is the kind of a public key.
type KeyType string

// The kinds this package reads. Others stay in the document and are of no use.
const (
	TypeUnknown KeyType = ""
	Ed25519     KeyType = "Ed25519"
	X25519      KeyType = "X25519"
)

const (
	codecX25519  = 0xec
	codecEd25519 = 0xed
	rawKeySize   = 32
)

// Ed25519 returns the key for verifying signatures, or ErrKeyType.
func (v VerificationMethod) Ed25519() (ed25519.PublicKey, error) {
	if v.Type != Ed25519 {
		return nil, fmt.Errorf("key %.200q is %s %q: %w", v.ID, v.Type, v.Kind, ErrKeyType)
	}
	return ed25519.PublicKey(v.Public), nil
}

// Multikey writes a public key as multibase text with its multicodec, as did:key does.
func Multikey(t KeyType, public []byte) (string, error) {
	var code uint64
	switch t {
	case Ed25519:
		code = codecEd25519
	case X25519:
		code = codecX25519
	default:
		return "", fmt.Errorf("multikey of %q: %w", t, ErrKeyType)
	}
	if len(public) != rawKeySize {
		return "", fmt.Errorf("%s key of %d bytes: %w", t, len(public), ErrInvalid)
	}
	text, err := multibase.Encode(multibase.Base58BTC, append(binary.AppendUvarint(nil, code), public...))
	if err != nil {
		return "", fmt.Errorf("multikey: %w", err)
	}
	return text, nil
}

// ParseMultikey reads what Multikey writes, and accepts no second spelling of it. A key
// of another kind is ErrKeyType.
func ParseMultikey(text string) (KeyType, []byte, error) {
	if len(text) == 0 || len(text) > 4096 || text[0] != multibase.Base58BTC {
		return TypeUnknown, nil, fmt.Errorf("multikey %.80q: %w", text, ErrInvalid)
	}
	_, b, err := multibase.Decode(text)
	if err != nil {
		return TypeUnknown, nil, fmt.Errorf("multikey %.80q: %v: %w", text, err, ErrInvalid)
	}
	code, n := binary.Uvarint(b)
	if n <= 0 {
		return TypeUnknown, nil, fmt.Errorf("multicodec of %.80q: %w", text, ErrInvalid)
	}
	var t KeyType
	switch code {
	case codecEd25519:
		t = Ed25519
	case codecX25519:
		t = X25519
	default:
		return TypeUnknown, nil, fmt.Errorf("multicodec %#x: %w", code, ErrKeyType)
	}
	again, err := Multikey(t, b[n:])
	if err != nil {
		return TypeUnknown, nil, err
	}
	if again != text {
		return TypeUnknown, nil, fmt.Errorf("multikey %.80q is not canonical: %w", text, ErrInvalid)
	}
	return t, b[n:], nil
}

// publicKey reads the key of a verification method. A kind it does not know is no error:
// the key is of no use then, the rest of the document is.
func publicKey(kind string, o members) (KeyType, []byte, error) {
	var multi, base58 string
	if err := o.get("publicKeyMultibase", &multi); err != nil {
		return TypeUnknown, nil, err
	}
	if err := o.get("publicKeyBase58", &base58); err != nil {
		return TypeUnknown, nil, err
	}
	jwk, hasJWK := o["publicKeyJwk"]
	given := 0
	for _, has := range []bool{multi != "", base58 != "", hasJWK} {
		if has {
			given++
		}
	}
	if given > 1 {
		return TypeUnknown, nil, fmt.Errorf("a key written twice: %w", ErrInvalid)
	}
	switch want := typeOfKind(kind); {
	case multi != "" && (want != TypeUnknown || kind == "Multikey"):
		t, b, err := ParseMultikey(multi)
		if kind == "Multikey" && errors.Is(err, ErrKeyType) {
			return TypeUnknown, nil, nil // a kind of key that this package has no use for
		}
		if err == nil && want != TypeUnknown && t != want {
			err = fmt.Errorf("%s in a %s: %w", t, kind, ErrInvalid)
		}
		return t, b, err
	case base58 != "" && want != TypeUnknown:
		_, b, err := multibase.Decode(string(rune(multibase.Base58BTC)) + base58)
		if err != nil || len(b) != rawKeySize {
			return TypeUnknown, nil, fmt.Errorf("publicKeyBase58 of a %s: %w", kind, ErrInvalid)
		}
		return want, b, nil
	case hasJWK && (kind == "JsonWebKey2020" || kind == "JsonWebKey"):
		return jwkKey(jwk)
	}
	return TypeUnknown, nil, nil
}

func typeOfKind(kind string) KeyType {
	switch kind {
	case "Ed25519VerificationKey2018", "Ed25519VerificationKey2020":
		return Ed25519
	case "X25519KeyAgreementKey2019", "X25519KeyAgreementKey2020":
		return X25519
	}
	return TypeUnknown
}

func jwkKey(raw []byte) (KeyType, []byte, error) {
	o, err := object(raw)
	if err != nil {
		return TypeUnknown, nil, fmt.Errorf("publicKeyJwk: %w", err)
	}
	var kty, crv, x string
	for name, to := range map[string]*string{"kty": &kty, "crv": &crv, "x": &x} {
		if err := o.get(name, to); err != nil {
			return TypeUnknown, nil, fmt.Errorf("publicKeyJwk: %w", err)
		}
	}
	if _, private := o["d"]; private {
		return TypeUnknown, nil, fmt.Errorf("publicKeyJwk holds a private key: %w", ErrInvalid)
	}
	if kty != "OKP" || crv != string(Ed25519) && crv != string(X25519) {
		return TypeUnknown, nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(x)
	if err != nil || len(b) != rawKeySize {
		return TypeUnknown, nil, fmt.Errorf("publicKeyJwk x: %w", ErrInvalid)
	}
	return KeyType(crv), b, nil
}
