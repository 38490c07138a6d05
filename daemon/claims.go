package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	claims "github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

var (
	// ErrClaim is a credential that does not verify; the reason is wrapped with it.
	ErrClaim = errors.New("the claim does not hold")
	// ErrClaimForm is something that cannot be claimed.
	ErrClaimForm = claims.ErrInvalid
	// ErrNoClaim is a claim that is not kept here.
	ErrNoClaim = errors.New("no such claim")
	// ErrClaimOrigin is a web origin that cannot be asked.
	ErrClaimOrigin = claims.ErrUnavailable
)

// Claim is a verifiable credential that verifies.
type Claim = claims.Credential

// ClaimSpec is what a new one is to say.
type ClaimSpec = claims.Spec

// Claims are those about the identity of a home. Agent is needed where something is
// signed or kept.
type Claims struct {
	Home  Home
	Agent *auth.Client
	// Log is the log of an issuer's did:webvh: it is verified and remembered, and nothing is
	// asked of a network for that DID.
	Log []byte
}

// KeptClaim is one that is kept: verified now, or with the reason why it does not hold.
type KeptClaim struct {
	Handle string // by which it is named here
	JWT    string
	Claim  *Claim // nil if it does not hold
	Err    error
}

// claimHandle names a claim, whatever it says of itself.
func claimHandle(jwt string) string {
	sum := sha256.Sum256([]byte(jwt))
	return hex.EncodeToString(sum[:6])
}

// claimKeys resolves the keys of issuers. The identity's own comes from its log here.
type claimKeys struct {
	home Home
	log  []byte
	all  *did.Resolver
}

// ResolveKey implements claims.Keys.
func (k claimKeys) ResolveKey(ctx context.Context, purpose did.Relationship, kid string) (did.VerificationMethod, *did.Document, error) {
	id, _, _ := strings.Cut(kid, "#")
	r := k.all
	switch {
	case auth.OwnLog(k.home.Keystore, id) != nil:
		r = auth.Resolver(k.home.Keystore)
	case k.log != nil && strings.HasPrefix(id, "did:webvh:"):
		r = did.NewResolver(othersLogs(k.home, givenLog(k.log)))
	}
	return r.ResolveKey(ctx, purpose, kid)
}

// givenLog is a log that came with a claim, of whatever DID.
type givenLog []byte

// Log implements webvh.Source.
func (l givenLog) Log(context.Context, webvh.ID) ([]byte, error) { return l, nil }

// Witness implements webvh.Source.
func (l givenLog) Witness(context.Context, webvh.ID) ([]byte, error) {
	return nil, fmt.Errorf("no witnesses were given: %w", did.ErrNotFound)
}

func (c *Claims) verifier(all *did.Resolver) claims.Verifier {
	return claims.Verifier{Keys: claimKeys{c.Home, c.Log, all}}
}

// Verify verifies a credential, about whomever it is. ErrClaim.
func (c *Claims) Verify(ctx context.Context, jwt string) (*Claim, error) {
	all, err := resolver(c.Home)
	if err != nil {
		return nil, err
	}
	got, err := c.verifier(all).Verify(ctx, jwt, "")
	return got, claimError(err)
}

// claimError gives a failed verification its meaning. That somebody cannot be asked says
// nothing of the claim.
func claimError(err error) error {
	if err == nil || errors.Is(err, did.ErrUnavailable) || errors.Is(err, claims.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClaim, err)
}

// own verifies a credential that is to be about the identity, under the name it has now or
// had before.
func (c *Claims) own(ctx context.Context, all *did.Resolver, id, jwt string) (*Claim, error) {
	got, err := c.verifier(all).Verify(ctx, jwt, "")
	if err == nil && auth.SelfCertifying(got.Subject) != auth.SelfCertifying(id) {
		err = fmt.Errorf("it is about %.200q: %w", got.Subject, claims.ErrSubject)
	}
	if err != nil {
		return nil, claimError(err)
	}
	return got, nil
}

// Add keeps a credential about the identity, if it holds now. ErrClaim.
func (c *Claims) Add(ctx context.Context, jwt string) (KeptClaim, error) {
	jwt = strings.TrimSpace(jwt)
	all, err := resolver(c.Home)
	if err != nil {
		return KeptClaim{}, err
	}
	got, err := c.own(ctx, all, c.Agent.DID(), jwt)
	if err != nil {
		return KeptClaim{}, err
	}
	return KeptClaim{Handle: claimHandle(jwt), JWT: jwt, Claim: got}, c.Agent.KeepClaim(ctx, jwt)
}

// List verifies what is kept.
func (c *Claims) List(ctx context.Context) ([]KeptClaim, error) {
	jwts, err := c.Agent.Claims(ctx)
	if err != nil {
		return nil, err
	}
	all, err := resolver(c.Home)
	if err != nil {
		return nil, err
	}
	var list []KeptClaim
	for _, jwt := range jwts {
		k := KeptClaim{Handle: claimHandle(jwt), JWT: jwt}
		k.Claim, k.Err = c.own(ctx, all, c.Agent.DID(), jwt)
		list = append(list, k)
	}
	return list, nil
}

// Remove forgets the claim with this handle, or id. ErrNoClaim.
func (c *Claims) Remove(ctx context.Context, name string) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		if k.Handle == name || k.Claim != nil && k.Claim.ID == name {
			return c.Agent.DropClaim(ctx, k.JWT)
		}
	}
	return fmt.Errorf("%.80q: %w", name, ErrNoClaim)
}

// Issue signs a credential by the identity.
func (c *Claims) Issue(ctx context.Context, s ClaimSpec) (jwt string, err error) {
	if s.Subject == "" {
		s.Subject = c.Agent.DID()
	}
	payload, err := claims.Payload(c.Agent.DID(), s)
	if err != nil {
		return "", err
	}
	return c.Agent.SignClaim(ctx, payload)
}

// Link returns the file by which an origin says that it belongs to the identity.
func (c *Claims) Link(ctx context.Context, origin string, expires time.Time) ([]byte, error) {
	payload, err := claims.LinkagePayload(c.Agent.DID(), origin, time.Now(), expires)
	if err != nil {
		return nil, err
	}
	jwt, err := c.Agent.SignClaim(ctx, payload)
	if err != nil {
		return nil, err
	}
	return claims.Configuration(jwt)
}

// Linked verifies that an origin is linked with a DID, or, if that is empty, with which.
// A nil file is fetched. ErrClaim, ErrClaimOrigin.
func (c *Claims) Linked(ctx context.Context, origin, id string, file []byte) ([]*Claim, error) {
	all, err := resolver(c.Home)
	if err != nil {
		return nil, err
	}
	if file == nil {
		if file, err = claims.FetchConfiguration(ctx, &http.Client{Transport: foreign(c.Home)}, origin); err != nil {
			return nil, claimError(err)
		}
	}
	got, err := c.verifier(all).VerifyLinkage(ctx, file, id, origin)
	return got, claimError(err)
}

// WhereLinked is the path at which an origin serves the file of Link.
const WhereLinked = claims.WellKnown
