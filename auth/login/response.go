package login

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/claim"
)

// MaxResponse is the size of an answer's text in bytes that a Verifier reads at most.
const MaxResponse = 4 << 20

const credentialsMax = 16

// Response answers a Request. Its text is a form (application/x-www-form-urlencoded).
type Response struct {
	IDToken string
	// Log of a did:webvh, and the proofs of its witnesses if it has any, so that the
	// service knows the newest document even where nobody publishes it.
	Log, Witness []byte
	// Credentials about the DID, as JWTs, that tell what was asked for.
	Credentials []string
}

// The fields of the form. Only id_token is SIOPv2's.
const (
	fieldToken      = "id_token"
	fieldLog        = "did_log"
	fieldWitness    = "did_witness"
	fieldCredential = "credential"
)

// Encode writes the answer's text.
func (r Response) Encode() string {
	q := url.Values{fieldToken: {r.IDToken}}
	for name, b := range map[string][]byte{fieldLog: r.Log, fieldWitness: r.Witness} {
		if len(b) > 0 {
			q.Set(name, base64.RawURLEncoding.EncodeToString(b))
		}
	}
	if len(r.Credentials) > 0 {
		q[fieldCredential] = r.Credentials
	}
	return q.Encode()
}

// ParseResponse reads an answer's text, without believing it. ErrRefused.
func ParseResponse(text string) (Response, error) {
	fail := func(why string) (Response, error) {
		return Response{}, fmt.Errorf("the answer %s: %w", why, ErrRefused)
	}
	if len(text) > MaxResponse {
		return fail("is too long")
	}
	q, err := url.ParseQuery(strings.TrimSpace(text))
	if err != nil {
		return fail("is no form")
	}
	r := Response{IDToken: q.Get(fieldToken), Credentials: q[fieldCredential]}
	for name, v := range q {
		if len(v) > 1 && name != fieldCredential {
			return fail("has a field twice")
		}
	}
	for name, to := range map[string]*[]byte{fieldLog: &r.Log, fieldWitness: &r.Witness} {
		if *to, err = base64.RawURLEncoding.Strict().DecodeString(q.Get(name)); err != nil {
			return fail("is not base64url where it should be")
		}
	}
	if len(r.Credentials) > credentialsMax {
		return fail("has too many credentials")
	}
	for _, c := range r.Credentials {
		if len(c) > claim.Max {
			return fail("has a credential that is too long")
		}
	}
	return r, nil
}
