package proof

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/multiformats/go-multibase"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

// Sign returns a proof of a document by a signer, with the options of this package and
// the time of its making. The document is not changed and must hold no proof.
func Sign(ctx context.Context, document map[string]any, s did.Signer, created time.Time) (map[string]any, error) {
	key, err := did.Multikey(did.Ed25519, s.Public())
	if err != nil {
		return nil, fmt.Errorf("signing a proof: %w", err)
	}
	p := map[string]any{
		"type":               Type,
		"cryptosuite":        Cryptosuite,
		"verificationMethod": Method(key),
		"created":            created.UTC().Format(time.RFC3339),
		"proofPurpose":       Purpose,
	}
	if c, ok := document["@context"]; ok {
		p["@context"] = c
	}
	msg, err := message(document, p)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(ctx, msg)
	if err != nil {
		return nil, fmt.Errorf("signing a proof: %w", err)
	}
	if !ed25519.Verify(s.Public(), msg, sig) {
		return nil, fmt.Errorf("the signer's signature is not of its own key: %w", ErrInvalid)
	}
	if p["proofValue"], err = multibase.Encode(multibase.Base58BTC, sig); err != nil {
		return nil, fmt.Errorf("signing a proof: %w", err)
	}
	return p, nil
}

// Method is the verification method of an Ed25519 multikey, as a DID URL.
func Method(key string) string { return "did:key:" + key + "#" + key }

// Verify checks a proof over a document without its proofs, at a time, and returns the
// multikey that made it.
func Verify(document, p map[string]any, now time.Time) (key string, err error) {
	key, public, err := check(p, now)
	if err != nil {
		return "", err
	}
	// The proof may bring a context, which the document must begin with.
	if c, ok := p["@context"]; ok {
		if !begins(document["@context"], c) {
			return "", fmt.Errorf("the document lacks the context of the proof: %w", ErrInvalid)
		}
		same := make(map[string]any, len(document))
		for name, v := range document {
			same[name] = v
		}
		same["@context"] = c
		document = same
	}
	text, _ := p["proofValue"].(string)
	sig, err := signature(text)
	if err != nil {
		return "", err
	}
	msg, err := message(document, p)
	if err != nil {
		return "", err
	}
	if !ed25519.Verify(public, msg, sig) {
		return "", fmt.Errorf("the signature of %s does not hold: %w", key, ErrInvalid)
	}
	return key, nil
}

// Key returns the multikey that a proof claims to be made by, without checking it.
func Key(p map[string]any) (string, error) {
	method, _ := p["verificationMethod"].(string)
	id, fragment, _ := strings.Cut(method, "#")
	key, ok := strings.CutPrefix(id, "did:key:")
	if !ok || key != fragment {
		return "", fmt.Errorf("verification method %.200q is not did:key:K#K: %w", method, ErrInvalid)
	}
	return key, nil
}

func check(p map[string]any, now time.Time) (key string, public ed25519.PublicKey, err error) {
	for name, want := range map[string]string{"type": Type, "cryptosuite": Cryptosuite, "proofPurpose": Purpose} {
		if p[name] != want {
			return "", nil, fmt.Errorf("%s of a proof is %.80v, want %s: %w", name, p[name], want, ErrInvalid)
		}
	}
	if _, ok := p["previousProof"]; ok {
		return "", nil, fmt.Errorf("chains of proofs are not supported: %w", ErrInvalid)
	}
	for _, name := range []string{"created", "expires"} {
		v, ok := p[name]
		if !ok {
			continue
		}
		text, _ := v.(string)
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return "", nil, fmt.Errorf("%s of a proof is %.80v: %w", name, v, ErrInvalid)
		}
		if name == "expires" && !now.Before(at) {
			return "", nil, fmt.Errorf("the proof expired at %s: %w", text, ErrInvalid)
		}
	}
	if key, err = Key(p); err != nil {
		return "", nil, err
	}
	t, raw, err := did.ParseMultikey(key)
	if err != nil || t != did.Ed25519 {
		return "", nil, fmt.Errorf("%.200q is no Ed25519 key: %w", key, ErrInvalid)
	}
	return key, raw, nil
}

// signature reads base58btc of 64 bytes in its one spelling.
func signature(text string) ([]byte, error) {
	if len(text) < 2 || len(text) > 200 || text[0] != multibase.Base58BTC {
		return nil, fmt.Errorf("proof value %.80q: %w", text, ErrInvalid)
	}
	_, sig, err := multibase.Decode(text)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("proof value of %d bytes: %w", len(sig), ErrInvalid)
	}
	if again, err := multibase.Encode(multibase.Base58BTC, sig); err != nil || again != text {
		return nil, fmt.Errorf("proof value is not canonical: %w", ErrInvalid)
	}
	return sig, nil
}

// message is what the cryptosuite signs: the hash of the proof's options, then that of
// the document.
func message(document, p map[string]any) ([]byte, error) {
	options := make(map[string]any, len(p))
	for name, v := range p {
		if name != "proofValue" {
			options[name] = v
		}
	}
	var msg []byte
	for _, o := range []map[string]any{options, document} {
		text, err := jcs.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", err, ErrInvalid)
		}
		sum := sha256.Sum256(text)
		msg = append(msg, sum[:]...)
	}
	return msg, nil
}

// begins tells whether context starts with the same values as with.
func begins(context, with any) bool {
	all, start := list(context), list(with)
	return len(start) <= len(all) && reflect.DeepEqual(all[:len(start)], start)
}

func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}
