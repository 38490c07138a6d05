package login

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

type tokenHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

type tokenClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Nonce    string `json:"nonce"`
	IssuedAt int64  `json:"iat"` // seconds since 1970
	Expires  int64  `json:"exp"`
}

// Answer makes the token for a challenge, by the key kid of the DID id. What it signs begins with the base64 of '{"',
// so no message with a purpose is ever a token, nor the other way round.
func Answer(q Challenge, id, kid string, now time.Time, sign func([]byte) []byte) (string, error) {
	h, err := json.Marshal(tokenHeader{Algorithm: "EdDSA", KeyID: kid, Type: "JWT"})
	if err != nil {
		return "", fmt.Errorf("answering a challenge: %w", err)
	}
	t, err := json.Marshal(tokenClaims{Issuer: id, Subject: id, Audience: q.Audience, Nonce: q.Nonce,
		IssuedAt: now.Unix(), Expires: now.Unix() + int64(challengeLife/time.Second)})
	if err != nil {
		return "", fmt.Errorf("answering a challenge: %w", err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(t)
	return signed + "." + b64.EncodeToString(sign([]byte(signed))), nil
}

// parseToken takes a token apart without believing it.
func parseToken(token string) (h tokenHeader, t tokenClaims, signed, sig []byte, err error) {
	fail := func(why string) (tokenHeader, tokenClaims, []byte, []byte, error) {
		return tokenHeader{}, tokenClaims{}, nil, nil, fmt.Errorf("%s: %w", why, ErrRefused)
	}
	parts := strings.Split(token, ".")
	if len(token) > tokenMax || len(parts) != 3 {
		return fail("this is no token")
	}
	b64 := base64.RawURLEncoding.Strict() // one spelling only
	if strings.ContainsAny(token, "\r\n") {
		return fail("this is no token")
	}
	for i, to := range []any{&h, &t} {
		b, err := b64.DecodeString(parts[i])
		if err != nil {
			return fail("the token is not base64url")
		}
		dec := json.NewDecoder(strings.NewReader(string(b)))
		if i == 0 {
			dec.DisallowUnknownFields() // "crit", "jwk" and the like would want to be obeyed
		}
		if err := dec.Decode(to); err != nil {
			return fail("the token's JSON is not as expected")
		}
		if _, err := dec.Token(); err != io.EOF {
			return fail("the token's JSON is not as expected")
		}
	}
	if sig, err = b64.DecodeString(parts[2]); err != nil {
		return fail("the token is not base64url")
	}
	return h, t, []byte(parts[0] + "." + parts[1]), sig, nil
}
