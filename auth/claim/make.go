package claim

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	credentialContext = "https://www.w3.org/2018/credentials/v1"
	credentialType    = "VerifiableCredential"
	// Max is the size in bytes that no credential exceeds.
	Max = 64 << 10
)

// Spec is what a credential is to say.
type Spec struct {
	Subject string         // DID
	Types   []string       // beside VerifiableCredential
	Claims  map[string]any // about the subject
	Issued  time.Time
	Expires time.Time // zero: never
}

// payload are the claims of a JWT in the form of VC Data Model 1.1, section 6.3.1.
type payload struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	ID        string `json:"jti,omitempty"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp,omitempty"`
	VC        body   `json:"vc"`
}

type body struct {
	Context []string       `json:"@context"`
	ID      string         `json:"id,omitempty"`
	Types   []string       `json:"type"`
	Issuer  string         `json:"issuer"`
	Issued  string         `json:"issuanceDate"`
	Expires string         `json:"expirationDate,omitempty"`
	Subject map[string]any `json:"credentialSubject"`
}

// Payload returns what an issuer signs.
func Payload(issuer string, s Spec) ([]byte, error) {
	if !strings.HasPrefix(s.Subject, "did:") {
		return nil, fmt.Errorf("%w: subject %.200q is no DID", ErrInvalid, s.Subject)
	}
	if len(s.Claims) == 0 {
		return nil, fmt.Errorf("%w: it claims nothing", ErrInvalid)
	}
	if _, has := s.Claims["id"]; has {
		return nil, fmt.Errorf("%w: a claim cannot be named id, which is the subject", ErrInvalid)
	}
	p := newPayload(issuer, s)
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, version 4
	p.ID = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	p.VC.ID = p.ID
	return json.Marshal(p)
}

func newPayload(issuer string, s Spec) payload {
	subject := map[string]any{"id": s.Subject}
	for k, v := range s.Claims {
		subject[k] = v
	}
	issued := s.Issued.UTC().Truncate(time.Second)
	p := payload{Issuer: issuer, Subject: s.Subject, NotBefore: issued.Unix(), VC: body{
		Context: []string{credentialContext}, Types: append([]string{credentialType}, s.Types...),
		Issuer: issuer, Issued: issued.Format(time.RFC3339), Subject: subject,
	}}
	if !s.Expires.IsZero() {
		expires := s.Expires.UTC().Truncate(time.Second)
		p.Expires, p.VC.Expires = expires.Unix(), expires.Format(time.RFC3339)
	}
	return p
}

// CheckPayload tells whether a key of an issuer may sign a payload as a claim: it must be
// one, of that issuer, and nothing that could pass for a login.
func CheckPayload(issuer string, b []byte) error {
	if len(b) > Max*3/4 {
		return fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	m, err := exact(b)
	if err != nil {
		return err
	}
	for name := range m {
		if !slices.Contains([]string{"iss", "sub", "jti", "nbf", "iat", "exp", "vc"}, name) {
			return fmt.Errorf("%w: %.60q has no place in a credential that is signed here", ErrInvalid, name)
		}
	}
	var by string
	if json.Unmarshal(m["iss"], &by) != nil || by != issuer {
		return fmt.Errorf("%w: the issuer is not %s", ErrInvalid, issuer)
	}
	if _, ok := m["vc"]; !ok {
		return fmt.Errorf("%w: it has no vc", ErrInvalid)
	}
	return nil
}

// Sign makes the JWT of a payload. kid is the exact id of the key that sign signs with.
func Sign(kid string, payload []byte, sign func([]byte) []byte) (string, error) {
	// Alg and kid and nothing else: domain linkage wants it so.
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{algEdDSA, kid})
	if err != nil {
		return "", fmt.Errorf("header of a credential: %w", err)
	}
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(sign([]byte(input))), nil
}

const algEdDSA = "EdDSA"

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// exact decodes an object and keeps the names as they are written, where encoding/json's
// structs take another case of a name for the name. A name given twice is ErrInvalid.
func exact(b []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: no JSON object", ErrInvalid)
	}
	m := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: no JSON object", ErrInvalid)
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("%w: %.60q twice", ErrInvalid, name)
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		m[name] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: no JSON object", ErrInvalid)
	}
	if d.More() {
		return nil, fmt.Errorf("%w: something follows the object", ErrInvalid)
	}
	return m, nil
}

// Origin brings a web origin into the form it is compared in: https, a host, and a port if
// it is not 443.
func Origin(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", fmt.Errorf("%w: %.200q is no origin such as https://example.com", ErrInvalid, text)
	}
	host := strings.ToLower(u.Host)
	return "https://" + strings.TrimSuffix(host, ":443"), nil
}
