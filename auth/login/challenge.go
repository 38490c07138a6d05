package login

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

const (
	challengeLife = 2 * time.Minute
	clockSkew     = 30 * time.Second
	tokenMax      = 16 << 10 // bytes
)

// Challenge is a question that only the holder of a DID's key can answer, once and soon.
type Challenge struct {
	Audience string    `json:"aud"`
	Nonce    string    `json:"nonce"`
	Expires  time.Time `json:"expires"`
}

// Challenger gives out challenges and judges the answers: self-issued ID tokens (SIOPv2),
// JWTs with iss == sub == the DID. Each challenge is good for one login within two minutes.
// It may be used from several goroutines.
//
// A challenge that was given out costs no memory, so strangers may ask for as many as they
// like: its nonce is sealed, and brings its own number and expiry back.
type Challenger struct {
	audience string
	now      func() time.Time
	nonces   *nonces
}

// NewChallenger asks in the name of audience. now tells the time; nil is time.Now.
func NewChallenger(audience string, now func() time.Time) *Challenger {
	if now == nil {
		now = time.Now
	}
	return &Challenger{audience: audience, now: now, nonces: newNonces()}
}

// New returns a fresh challenge.
func (c *Challenger) New() Challenge {
	expires := c.now().Add(challengeLife)
	return Challenge{Audience: c.audience, Nonce: c.nonces.make(expires), Expires: expires}
}

// answer is a token that is in good form and answers a challenge of ours that is still
// open. Its signature is not checked yet.
type answer struct {
	header      tokenHeader
	claims      tokenClaims
	signed, sig []byte
	nonce       nonce
}

// check looks at everything about a token that needs neither a document nor the network.
func (c *Challenger) check(token string) (*answer, error) {
	h, t, signed, sig, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	refuse := func(why string) (*answer, error) { return nil, fmt.Errorf("%s: %w", why, ErrRefused) }
	now := c.now()
	issued, expires := time.Unix(t.IssuedAt, 0), time.Unix(t.Expires, 0)
	fragment, own := strings.CutPrefix(h.KeyID, t.Issuer+"#")
	switch {
	case h.Algorithm != "EdDSA":
		return refuse("the token's algorithm is not EdDSA")
	case len(sig) != ed25519.SignatureSize:
		return refuse("the token's signature is none of Ed25519")
	case t.Audience != c.audience:
		return refuse("the token is meant for somebody else")
	case !strings.HasPrefix(t.Issuer, "did:") || t.Issuer != t.Subject:
		return refuse("the token is not self-issued by a DID")
	case !own || fragment == "":
		return refuse("the token's key is not one of its issuer")
	case issued.After(now.Add(clockSkew)):
		return refuse("the token comes from the future")
	case !now.Before(expires):
		return refuse("the token has expired")
	case expires.Sub(issued) > challengeLife:
		return refuse("the token lives too long")
	}
	n, ok := c.nonces.open(t.Nonce)
	switch {
	case !ok:
		return refuse("the challenge is none of ours")
	case !now.Before(n.expires):
		return nil, fmt.Errorf("the challenge is older than %v: %w", challengeLife, ErrRefused)
	case c.nonces.used(n):
		return refuse("the challenge was used")
	}
	return &answer{header: h, claims: t, signed: signed, sig: sig, nonce: n}, nil
}

// signedBy sees that a document admits the key of an answer, and the signature is that
// key's.
func (a *answer) signedBy(doc *did.Document) error {
	key, err := doc.Key(did.Authentication, a.header.KeyID)
	if err != nil {
		return Refusal(err)
	}
	public, err := key.Ed25519()
	if err != nil {
		return Refusal(err)
	}
	if !ed25519.Verify(public, a.signed, a.sig) {
		return fmt.Errorf("the token's signature does not verify: %w", ErrRefused)
	}
	return nil
}

// consume uses an answer's challenge up, whatever becomes of the answer, so that each
// challenge leads to one resolution at most. Of two answers at the same time one wins.
func (c *Challenger) consume(a *answer) error {
	if !c.nonces.use(a.nonce, c.now()) {
		return fmt.Errorf("the challenge was used: %w", ErrRefused)
	}
	return nil
}

// Verify judges an answer and returns the DID that logged in and its document. last is
// the newest version of the document accepted before, zero for none.
//
// ErrRefused, ErrRollback, ErrUnavailable.
func (c *Challenger) Verify(ctx context.Context, token string, r *did.Resolver, last did.Version) (*did.Document, error) {
	a, err := c.check(token)
	if err != nil {
		return nil, err
	}
	if err := c.consume(a); err != nil {
		return nil, err
	}
	doc, err := r.Resolve(ctx, a.claims.Issuer)
	if err != nil {
		return nil, Refusal(err)
	}
	if last != (did.Version{}) && !doc.Version.Follows(last) {
		return nil, fmt.Errorf("version %s of %s, seen before was %s: %w", doc.Version, doc.ID, last, ErrRollback)
	}
	if err := a.signedBy(doc); err != nil {
		return nil, err
	}
	return doc, nil
}
