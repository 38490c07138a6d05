package login

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

const (
	challengeLife = 2 * time.Minute
	challengeMax  = 1024 // open at once
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
// JWTs with iss == sub == the DID. Each challenge is good for one try within two minutes.
// It may be used from several goroutines.
type Challenger struct {
	audience string
	now      func() time.Time

	mu   sync.Mutex // guards open
	open map[string]time.Time
}

// NewChallenger asks in the name of audience. now tells the time; nil is time.Now.
func NewChallenger(audience string, now func() time.Time) *Challenger {
	if now == nil {
		now = time.Now
	}
	return &Challenger{audience: audience, now: now, open: make(map[string]time.Time)}
}

// New returns a fresh challenge. ErrBusy when too many are open.
func (c *Challenger) New() (Challenge, error) {
	var b [32]byte
	rand.Read(b[:])
	now := c.now()
	q := Challenge{Audience: c.audience, Nonce: base64.RawURLEncoding.EncodeToString(b[:]), Expires: now.Add(challengeLife)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= challengeMax {
		for n, expires := range c.open {
			if !now.Before(expires) {
				delete(c.open, n)
			}
		}
	}
	if len(c.open) >= challengeMax {
		return Challenge{}, fmt.Errorf("%d open challenges: %w", len(c.open), ErrBusy)
	}
	c.open[q.Nonce] = q.Expires
	return q, nil
}

// consume takes a challenge out, whatever becomes of the try: of two tries at the same
// time one finds it.
func (c *Challenger) consume(nonce string) error {
	c.mu.Lock()
	expires, ok := c.open[nonce]
	delete(c.open, nonce)
	c.mu.Unlock()
	if !ok {
		return fmt.Errorf("the challenge is not known or was used: %w", ErrRefused)
	}
	if !c.now().Before(expires) {
		return fmt.Errorf("the challenge is older than %v: %w", challengeLife, ErrRefused)
	}
	return nil
}

// Verify judges an answer and returns the DID that logged in and its document. last is
// the newest version of the document accepted before, zero for none.
//
// ErrRefused, ErrRollback, ErrUnavailable.
func (c *Challenger) Verify(ctx context.Context, token string, r *did.Resolver, last did.Version) (*did.Document, error) {
	h, t, signed, sig, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	if err := c.consume(t.Nonce); err != nil {
		return nil, err
	}
	refuse := func(why string) (*did.Document, error) { return nil, fmt.Errorf("%s: %w", why, ErrRefused) }
	now := c.now()
	issued, expires := time.Unix(t.IssuedAt, 0), time.Unix(t.Expires, 0)
	switch {
	case h.Algorithm != "EdDSA":
		return refuse("the token's algorithm is not EdDSA")
	case t.Audience != c.audience:
		return refuse("the token is meant for somebody else")
	case t.Issuer != t.Subject:
		return refuse("the token is not self-issued")
	case !strings.HasPrefix(h.KeyID, t.Issuer+"#"):
		return refuse("the token's key is not one of its issuer")
	case issued.After(now.Add(clockSkew)):
		return refuse("the token comes from the future")
	case !now.Before(expires):
		return refuse("the token has expired")
	case expires.Sub(issued) > challengeLife:
		return refuse("the token lives too long")
	}
	doc, err := r.Resolve(ctx, t.Issuer)
	if err != nil {
		return nil, Refusal(err)
	}
	if last != (did.Version{}) && !doc.Version.Follows(last) {
		return nil, fmt.Errorf("version %s of %s, seen before was %s: %w", doc.Version, doc.ID, last, ErrRollback)
	}
	key, err := doc.Key(did.Authentication, h.KeyID)
	if err != nil {
		return nil, Refusal(err)
	}
	public, err := key.Ed25519()
	if err != nil {
		return nil, Refusal(err)
	}
	if !ed25519.Verify(public, signed, sig) {
		return refuse("the token's signature does not verify")
	}
	return doc, nil
}
