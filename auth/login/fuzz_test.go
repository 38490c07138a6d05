package login

import (
	"testing"
)

// What comes from outside never panics, and what is accepted is in the one form.
func FuzzRequest(f *testing.F) {
	f.Add(Request{Audience: "https://example.com", Nonce: "0123456789abcdef", ResponseURI: "https://example.com/a", Claims: []string{"name"}}.String())
	f.Add(Request{Audience: "urn:example:x", Nonce: "0123456789abcdef"}.String())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRequest(text)
		if err != nil {
			return
		}
		again, err := ParseRequest(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q: %+v, %v", text, again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add(Response{IDToken: "e30.e30.AAAA", Log: []byte("{}"), Credentials: []string{"x"}}.Encode())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseResponse(text)
		if err != nil {
			return
		}
		_, _, _, _, _ = parseToken(r.IDToken) // must only not panic
		if again, err := ParseResponse(r.Encode()); err != nil || again.Encode() != r.Encode() {
			t.Errorf("%q: %+v, %v", text, again, err)
		}
	})
}
