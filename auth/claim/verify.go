package claim

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/aries-framework-go/pkg/doc/signature/verifier"
	"github.com/hyperledger/aries-framework-go/pkg/doc/verifiable"
	"github.com/hyperledger/aries-framework-go/pkg/kms"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Keys finds the key of an exact id under a purpose in the newest document of its DID.
// did.Resolver is one.
type Keys interface {
	ResolveKey(ctx context.Context, purpose did.Relationship, kid string) (did.VerificationMethod, *did.Document, error)
}

// Verifier verifies credentials.
type Verifier struct {
	Keys Keys
	Now  func() time.Time // nil: time.Now
}

// clockSkew is how far the clocks of an issuer and of a verifier may differ.
const clockSkew = time.Minute

// Credential is a credential that verifies.
type Credential struct {
	ID      string         `json:"id,omitempty"`
	Issuer  string         `json:"issuer"`
	Subject string         `json:"subject"`
	Types   []string       `json:"types"` // beside VerifiableCredential
	Claims  map[string]any `json:"claims"`
	Issued  time.Time      `json:"issued"`
	Expires *time.Time     `json:"expires,omitempty"`
	KeyID   string         `json:"key_id"`
	// Unchecked are members that say more about the validity and want a network, such as
	// credentialStatus: the issuer may have withdrawn the credential.
	Unchecked []string `json:"unchecked,omitempty"`
	JWT       string   `json:"jwt"`
}

// SelfSigned tells whether the subject says it of itself.
func (c *Credential) SelfSigned() bool { return c.Issuer == c.Subject }

// token is a JWT that is taken apart and not verified.
type token struct {
	header, payload map[string]json.RawMessage
	alg, kid        string
	input           []byte
	signature       []byte
}

func parse(jwt string) (*token, error) {
	if len(jwt) > Max {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrInvalid, len(jwt), Max)
	}
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: no JWT of three parts", ErrInvalid)
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return nil, fmt.Errorf("%w: part %d is not base64url", ErrInvalid, i+1)
		}
	}
	t := &token{input: []byte(parts[0] + "." + parts[1]), signature: raw[2]}
	var err error
	if t.header, err = exact(raw[0]); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if t.payload, err = exact(raw[1]); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	// What brings keys of its own, or changes what is signed, is not for us.
	for _, name := range []string{"crit", "b64", "jwk", "jku", "x5c", "x5u"} {
		if _, has := t.header[name]; has {
			return nil, fmt.Errorf("header with %q: %w", name, ErrInvalid)
		}
	}
	if json.Unmarshal(t.header["alg"], &t.alg) != nil || t.alg != algEdDSA {
		return nil, fmt.Errorf("alg %.40s: %w", t.header["alg"], ErrAlgorithm)
	}
	if json.Unmarshal(t.header["kid"], &t.kid) != nil || t.kid == "" {
		return nil, fmt.Errorf("%w: the header names no key (kid)", ErrInvalid)
	}
	return t, nil
}

func (t *token) text(name string) string {
	var s string
	if json.Unmarshal(t.payload[name], &s) != nil {
		return ""
	}
	return s
}

// Verify verifies a credential in JWT form, and that it is about subject unless that is
// empty. ErrInvalid, ErrAlgorithm, ErrKey, ErrSignature, ErrExpired, ErrNotYet, ErrSubject,
// and what Keys fails with.
func (v Verifier) Verify(ctx context.Context, jwt, subject string) (*Credential, error) {
	jwt = strings.TrimSpace(jwt)
	t, err := parse(jwt)
	if err != nil {
		return nil, err
	}
	return v.verify(ctx, jwt, t, subject)
}

func (v Verifier) verify(ctx context.Context, jwt string, t *token, subject string) (*Credential, error) {
	issuer, _, _ := strings.Cut(t.kid, "#")
	if by := t.text("iss"); by != issuer {
		return nil, fmt.Errorf("%w: issued by %.200q and signed with a key of %.200q", ErrInvalid, by, issuer)
	}
	key, err := v.key(ctx, t.kid)
	if err != nil {
		return nil, err
	}
	if len(t.signature) != ed25519.SignatureSize || !ed25519.Verify(key, t.input, t.signature) {
		return nil, fmt.Errorf("key %.200q: %w", t.kid, ErrSignature)
	}
	if _, err := exact(t.payload["vc"]); err != nil {
		return nil, fmt.Errorf("vc: %w", err)
	}
	vc, err := read(jwt, key)
	if err != nil {
		return nil, err
	}
	c, err := t.credential(vc)
	if err != nil {
		return nil, err
	}
	c.JWT = jwt
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	switch {
	case c.Issued.After(now().Add(clockSkew)):
		return nil, fmt.Errorf("valid from %s: %w", c.Issued.Format(time.RFC3339), ErrNotYet)
	case c.Expires != nil && !c.Expires.After(now()):
		return nil, fmt.Errorf("on %s: %w", c.Expires.Format(time.RFC3339), ErrExpired)
	case subject != "" && c.Subject != subject:
		return nil, fmt.Errorf("it is about %.200q, not %.200q: %w", c.Subject, subject, ErrSubject)
	}
	return c, nil
}

// read lets aries read a credential that is signed with a key. It was not made for what an
// enemy signs: where it panics, the credential is at fault.
func read(jwt string, key ed25519.PublicKey) (vc *verifiable.Credential, err error) {
	defer func() {
		if p := recover(); p != nil {
			vc, err = nil, fmt.Errorf("%w: %v", ErrInvalid, p)
		}
	}()
	vc, err = verifiable.ParseCredential([]byte(jwt), verifiable.WithPublicKeyFetcher(
		func(string, string) (*verifier.PublicKey, error) {
			return &verifier.PublicKey{Type: kms.ED25519, Value: key}, nil
		}))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return vc, nil
}

// key is the public key that may make claims under this id.
func (v Verifier) key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	key, _, err := v.Keys.ResolveKey(ctx, did.AssertionMethod, kid)
	switch {
	case errors.Is(err, did.ErrKeyNotFound), errors.Is(err, did.ErrRelationship), errors.Is(err, did.ErrDeactivated):
		return nil, fmt.Errorf("key %.200q: %w: %w", kid, ErrKey, err)
	case err != nil:
		return nil, fmt.Errorf("the credential's key %.200q: %w", kid, err)
	}
	public, err := key.Ed25519()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return public, nil
}

// credential holds what aries has read against what the token says.
func (t *token) credential(vc *verifiable.Credential) (*Credential, error) {
	issuer, subject := t.text("iss"), t.text("sub")
	c := &Credential{ID: vc.ID, Issuer: issuer, KeyID: t.kid}
	about, ok := vc.Subject.([]verifiable.Subject)
	if !ok || len(about) != 1 {
		return nil, fmt.Errorf("%w: want one subject", ErrInvalid)
	}
	c.Subject, c.Claims = about[0].ID, about[0].CustomFields
	if c.Subject == "" || subject != "" && subject != c.Subject {
		return nil, fmt.Errorf("%w: the token is about %.200q, the credential in it about %.200q", ErrInvalid, subject, c.Subject)
	}
	if vc.Issuer.ID != issuer {
		return nil, fmt.Errorf("%w: the token is by %.200q, the credential in it by %.200q", ErrInvalid, issuer, vc.Issuer.ID)
	}
	if !slices.Contains(vc.Types, credentialType) {
		return nil, fmt.Errorf("%w: no %s", ErrInvalid, credentialType)
	}
	for _, name := range vc.Types {
		if name != credentialType {
			c.Types = append(c.Types, name)
		}
	}
	if vc.Issued == nil {
		return nil, fmt.Errorf("%w: it does not say when it was issued", ErrInvalid)
	}
	c.Issued = vc.Issued.Time
	if vc.Expired != nil {
		c.Expires = &vc.Expired.Time
	}
	if err := t.within(c); err != nil {
		return nil, err
	}
	if vc.Status != nil {
		c.Unchecked = append(c.Unchecked, "credentialStatus")
	}
	if len(vc.Schemas) > 0 {
		c.Unchecked = append(c.Unchecked, "credentialSchema")
	}
	return c, nil
}

// within narrows the time of a credential to that of its token, if that is shorter.
func (t *token) within(c *Credential) error {
	for name, narrow := range map[string]func(time.Time){
		"nbf": func(at time.Time) {
			if at.After(c.Issued) {
				c.Issued = at
			}
		},
		"exp": func(at time.Time) {
			if c.Expires == nil || at.Before(*c.Expires) {
				c.Expires = &at
			}
		},
	} {
		raw, has := t.payload[name]
		if !has {
			continue
		}
		var seconds float64
		if err := json.Unmarshal(raw, &seconds); err != nil || seconds < 0 || seconds > 1<<40 {
			return fmt.Errorf("%w: %s is no time", ErrInvalid, name)
		}
		narrow(time.Unix(int64(seconds), 0).UTC())
	}
	return nil
}
