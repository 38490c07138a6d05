package login

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

const (
	requestMax   = 8 << 10 // bytes
	audienceMax  = 512     // bytes
	claimsMax    = 16
	nonceMax     = 128 // bytes
	claimNameMax = 64  // bytes

	requestScheme = "siopv2"
)

// Request is what a service asks of a user: an authorization request of SIOPv2. Its text
// is a URL, "siopv2://?client_id=…". Nothing in it is secret, and nothing vouches for it.
type Request struct {
	// Audience is who asks: the origin of a site, or a URN of a program.
	Audience string
	Nonce    string
	// ResponseURI is where the answer is posted, at the origin that asks: a site gets it
	// there and nowhere else. The answer to a program, which has none, goes to whoever gave
	// the user the request.
	ResponseURI string
	// Claims are names of what the service would like to know. The user may keep it.
	Claims []string
}

// String is the text of the request.
func (r Request) String() string {
	q := url.Values{"scope": {"openid"}, "response_type": {"id_token"}, "client_id": {r.Audience}, "nonce": {r.Nonce}}
	if r.ResponseURI != "" {
		q.Set("response_mode", "direct_post")
		q.Set("response_uri", r.ResponseURI)
	}
	if len(r.Claims) > 0 {
		asked := make(map[string]any, len(r.Claims))
		for _, c := range r.Claims {
			asked[c] = nil
		}
		b, err := json.Marshal(map[string]any{"id_token": asked})
		if err == nil { // names always encode
			q.Set("claims", string(b))
		}
	}
	return requestScheme + "://?" + q.Encode()
}

// Challenge is what the user's key is to sign for.
func (r Request) Challenge() Challenge { return Challenge{Audience: r.Audience, Nonce: r.Nonce} }

// ParseRequest reads the text of a request. What it returns is in good form, can be shown
// on a terminal, and wants its answer nowhere but at the origin that asks. ErrInvalid.
func ParseRequest(text string) (Request, error) {
	fail := func(format string, args ...any) (Request, error) {
		return Request{}, fmt.Errorf("the login request: %s: %w", fmt.Sprintf(format, args...), ErrInvalid)
	}
	text = strings.TrimSpace(text)
	if len(text) > requestMax {
		return fail("%d bytes", len(text))
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != requestScheme {
		return fail("it does not begin with %s://", requestScheme)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("it is not whole")
	}
	for name, v := range q {
		if len(v) != 1 {
			return fail("%.40q twice", name)
		}
	}
	// What would hide what is asked, or lead to somewhere else, is refused.
	for _, name := range []string{"request", "request_uri", "redirect_uri", "presentation_definition"} {
		if q.Has(name) {
			return fail("%q is not supported", name)
		}
	}
	if q.Get("response_type") != "id_token" {
		return fail("response_type is not id_token")
	}
	r := Request{Audience: q.Get("client_id"), Nonce: q.Get("nonce"), ResponseURI: q.Get("response_uri")}
	if err := r.check(); err != nil {
		return Request{}, err
	}
	if (r.ResponseURI != "") != (q.Get("response_mode") == "direct_post") {
		return fail("response_uri and response_mode=direct_post belong together")
	}
	if q.Has("claims") {
		var asked struct {
			IDToken map[string]json.RawMessage `json:"id_token"`
		}
		if err := json.Unmarshal([]byte(q.Get("claims")), &asked); err != nil {
			return fail("claims are not as OpenID Connect has them")
		}
		for name := range asked.IDToken {
			r.Claims = append(r.Claims, name)
		}
		slices.Sort(r.Claims)
	}
	return r, r.checkClaims()
}

// check sees that a request is in good form, but for its claims.
func (r Request) check() error {
	if err := CheckAudience(r.Audience); err != nil {
		return err
	}
	if len(r.Nonce) < 16 || len(r.Nonce) > nonceMax || strings.ContainsFunc(r.Nonce, notPlain) {
		return fmt.Errorf("the login request has no proper nonce: %w", ErrInvalid)
	}
	program := strings.HasPrefix(r.Audience, "urn:")
	if program != (r.ResponseURI == "") {
		// Else somebody could hand on a site's question, and take the answer there themselves.
		return fmt.Errorf("a site's login request says where the answer is posted, a program's does not: %w", ErrInvalid)
	}
	if program {
		return nil
	}
	u, err := url.Parse(r.ResponseURI)
	if err != nil || u.User != nil || u.Fragment != "" || u.Scheme+"://"+u.Host != r.Audience || len(r.ResponseURI) > audienceMax ||
		strings.ContainsFunc(r.ResponseURI, notPlain) {
		return fmt.Errorf("the login request of %s wants the answer sent somewhere else: %w", r.Audience, ErrInvalid)
	}
	return nil
}

func (r Request) checkClaims() error {
	if len(r.Claims) > claimsMax {
		return fmt.Errorf("the login request asks for %d claims: %w", len(r.Claims), ErrInvalid)
	}
	for _, c := range r.Claims {
		if c == "" || len(c) > claimNameMax || strings.ContainsFunc(c, notPlain) {
			return fmt.Errorf("the login request asks for a claim %.40q: %w", c, ErrInvalid)
		}
	}
	return nil
}

// CheckAudience accepts the origin of a web site ("https://example.com", or http on this
// machine), as browsers write it, and names of programs ("urn:…"). ErrInvalid.
func CheckAudience(a string) error {
	if a == "" || len(a) > audienceMax || strings.ContainsFunc(a, notPlain) {
		return fmt.Errorf("%.80q names nobody who could ask: %w", a, ErrInvalid)
	}
	if name, ok := strings.CutPrefix(a, "urn:"); ok {
		// Our own purposes are nobody else's.
		if kind, rest, _ := strings.Cut(name, ":"); kind == "" || rest == "" || strings.EqualFold(kind, "ipfscloud") {
			return fmt.Errorf("%q is no name of a program: %w", a, ErrInvalid)
		}
		return nil
	}
	u, err := url.Parse(a)
	if err != nil || u.Host == "" || a != u.Scheme+"://"+u.Host || a != strings.ToLower(a) {
		return fmt.Errorf("%q is not the origin of a site: %w", a, ErrInvalid)
	}
	switch host := u.Hostname(); {
	case host == "" || u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80":
		return fmt.Errorf("%q is not the origin of a site, as browsers write it: %w", a, ErrInvalid)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback()):
		return nil
	}
	return fmt.Errorf("%q is no https origin: %w", a, ErrInvalid)
}

// notPlain keeps out what a terminal would obey, or people could not tell apart.
func notPlain(c rune) bool { return c <= ' ' || c > '~' }
