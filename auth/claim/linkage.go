package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did/fetch"
)

// WellKnown is where an origin says which DIDs it is linked with.
const WellKnown = "/.well-known/did-configuration.json"

const (
	linkageContext = "https://identity.foundation/.well-known/did-configuration/v1"
	linkageType    = "DomainLinkageCredential"
	fetchDeadline  = 10 * time.Second
	linksMax       = 32 // of one file
)

// LinkagePayload returns what a DID signs to be linked with an origin.
func LinkagePayload(id, origin string, issued, expires time.Time) ([]byte, error) {
	origin, err := Origin(origin)
	if err != nil {
		return nil, err
	}
	if !expires.After(issued) {
		return nil, fmt.Errorf("%w: a linkage ends", ErrInvalid)
	}
	p := newPayload(id, Spec{Subject: id, Types: []string{linkageType},
		Claims: map[string]any{"origin": origin}, Issued: issued, Expires: expires})
	p.VC.Context = append(p.VC.Context, linkageContext)
	return json.Marshal(p)
}

// configuration is the file.
type configuration struct {
	Context string            `json:"@context"`
	Linked  []json.RawMessage `json:"linked_dids"`
}

// Configuration returns the file that an origin serves at WellKnown.
func Configuration(jwts ...string) ([]byte, error) {
	c := configuration{Context: linkageContext}
	for _, j := range jwts {
		b, err := json.Marshal(j)
		if err != nil {
			return nil, err
		}
		c.Linked = append(c.Linked, b)
	}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// VerifyLinkage verifies that a file of an origin links it with a DID, or, with an empty
// DID, with any: it returns the links that verify, and ErrNotLinked, with the reason of the
// first that does not, if there are none. Linked data proofs are not looked at.
func (v Verifier) VerifyLinkage(ctx context.Context, file []byte, id, origin string) ([]*Credential, error) {
	origin, err := Origin(origin)
	if err != nil {
		return nil, err
	}
	m, err := exact(file)
	if err != nil {
		return nil, err
	}
	var links []json.RawMessage
	if err := json.Unmarshal(m["linked_dids"], &links); err != nil || len(links) == 0 || len(links) > linksMax {
		return nil, fmt.Errorf("%w: want 1 to %d linked_dids", ErrInvalid, linksMax)
	}
	var good []*Credential
	var bad error
	for _, l := range links {
		var jwt string
		if json.Unmarshal(l, &jwt) != nil {
			bad = errors.Join(bad, fmt.Errorf("%w: a linked data proof, which is not verified here", ErrInvalid))
			continue
		}
		c, err := v.linkage(ctx, jwt, id, origin)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		good = append(good, c)
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("%s: %w: %w", origin, ErrNotLinked, bad)
	}
	return good, nil
}

func (v Verifier) linkage(ctx context.Context, jwt, id, origin string) (*Credential, error) {
	t, err := parse(jwt)
	if err != nil {
		return nil, err
	}
	if id != "" && t.text("iss") != id {
		return nil, fmt.Errorf("linked is %.200q: %w", t.text("iss"), ErrSubject)
	}
	for name := range t.header {
		if name != "alg" && name != "kid" {
			return nil, fmt.Errorf("%w: the header of a linkage has alg and kid only, not %.40q", ErrInvalid, name)
		}
	}
	for _, name := range []string{"iss", "sub", "nbf", "exp", "vc"} {
		if _, has := t.payload[name]; !has {
			return nil, fmt.Errorf("%w: a linkage has %s", ErrInvalid, name)
		}
	}
	if vc, err := exact(t.payload["vc"]); err != nil {
		return nil, err
	} else if _, has := vc["id"]; has {
		return nil, fmt.Errorf("%w: a linkage has no id", ErrInvalid)
	}
	c, err := v.verify(ctx, jwt, t, "")
	if err != nil {
		return nil, err
	}
	said, _ := c.Claims["origin"].(string)
	there, err := Origin(said)
	switch {
	case !c.SelfSigned():
		return nil, fmt.Errorf("%w: a linkage is signed by the DID itself", ErrInvalid)
	case !slices.Contains(c.Types, linkageType):
		return nil, fmt.Errorf("%w: no %s", ErrInvalid, linkageType)
	case err != nil || !strings.Contains(said, "://") || there != origin:
		return nil, fmt.Errorf("it links %.200q: %w", said, ErrNotLinked)
	}
	return c, nil
}

// FetchConfiguration gets the file from an origin, over TLS and without redirects. A
// nil client, and one without a Transport, reaches public servers only. ErrUnavailable,
// ErrNotLinked where there is none, ErrInvalid where the origin is not public.
func FetchConfiguration(ctx context.Context, client *http.Client, origin string) ([]byte, error) {
	origin, err := Origin(origin)
	if err != nil {
		return nil, err
	}
	c := http.Client{}
	if client != nil {
		c = *client
	}
	if c.Transport == nil {
		c.Transport = fetch.New()
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+WellKnown, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	resp, err := c.Do(req)
	if errors.Is(err, fetch.ErrForbidden) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("%s has no %s: %w", origin, WellKnown, ErrNotLinked)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s: %w", origin, resp.Status, ErrUnavailable)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, linksMax*Max+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(b) > linksMax*Max {
		return nil, fmt.Errorf("%w: the file of %s has more than %d bytes", ErrInvalid, origin, linksMax*Max)
	}
	return b, nil
}
