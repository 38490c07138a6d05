package login

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

type testClock struct{ at time.Time }

func (c *testClock) now() time.Time { return c.at }

// prover answers challenges, and can be told to do it wrong.
type prover struct {
	key ed25519.PrivateKey
	did string
	kid string
}

func newProver(t *testing.T, b byte) *prover {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	doc, err := did.NewKey().Create(context.Background(), did.Change{Keys: []did.Key{{
		Type: did.Ed25519, Public: key.Public().(ed25519.PublicKey)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &prover{key: key, did: doc.ID, kid: doc.Keys[0].ID}
}

func (p *prover) sign(m []byte) []byte { return ed25519.Sign(p.key, m) }

// token signs any header and claims.
func (p *prover) token(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	part := func(m map[string]any) string {
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(header) + "." + part(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(p.sign([]byte(signed)))
}

func (p *prover) honest(q Challenge, now time.Time) (header, claims map[string]any) {
	return map[string]any{"alg": "EdDSA", "kid": p.kid, "typ": "JWT"},
		map[string]any{"iss": p.did, "sub": p.did, "aud": q.Audience, "nonce": q.Nonce, "iat": now.Unix(), "exp": now.Unix() + 120}
}

func TestChallenge(t *testing.T) {
	ctx := testContext(t)
	clock := &testClock{at: time.Unix(1_800_000_000, 0)}
	r := did.NewResolver(did.NewKey())
	c := NewChallenger("urn:test", clock.now)
	p := newProver(t, 1)

	q := c.New()
	token, err := Answer(q, p.did, p.kid, clock.at, p.sign)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.Verify(ctx, token, r, did.Version{})
	if err != nil || doc.ID != p.did {
		t.Fatalf("honest answer: %v, %v", doc, err)
	}
	if _, err := c.Verify(ctx, token, r, did.Version{}); !errors.Is(err, ErrRefused) {
		t.Errorf("replayed: %v", err)
	}
}

func TestChallengeRefuses(t *testing.T) {
	ctx := testContext(t)
	r := did.NewResolver(did.NewKey())
	p, other := newProver(t, 1), newProver(t, 2)
	type parts struct{ h, c map[string]any }
	flip := func(token string, part int) string {
		s := strings.Split(token, ".")
		b, _ := base64.RawURLEncoding.DecodeString(s[part])
		b[len(b)/2] ^= 1
		s[part] = base64.RawURLEncoding.EncodeToString(b)
		return strings.Join(s, ".")
	}
	for name, c := range map[string]struct {
		edit  func(parts)
		token func(string) string
		wait  time.Duration
		by    *prover
	}{
		"nonce unknown":       {edit: func(p parts) { p.c["nonce"] = "AAAA" }},
		"nonce missing":       {edit: func(p parts) { delete(p.c, "nonce") }},
		"challenge too old":   {wait: challengeLife, edit: func(p parts) { p.c["iat"], p.c["exp"] = 1_800_000_110, 1_800_000_200 }},
		"token expired":       {wait: time.Minute, edit: func(p parts) { p.c["exp"] = 1_800_000_060 }},
		"token of the future": {edit: func(p parts) { p.c["iat"], p.c["exp"] = 1_800_000_031, 1_800_000_120 }},
		"token too long":      {edit: func(p parts) { p.c["exp"] = 1_800_000_121 }},
		"no expiry":           {edit: func(p parts) { delete(p.c, "exp") }},
		"wrong audience":      {edit: func(p parts) { p.c["aud"] = "urn:other" }},
		"list of audiences":   {edit: func(p parts) { p.c["aud"] = []string{"urn:test"} }},
		"not self-issued":     {edit: func(p parts) { p.c["sub"] = other.did }},
		"alg none":            {edit: func(p parts) { p.h["alg"] = "none" }, token: func(s string) string { return s[:strings.LastIndex(s, ".")+1] }},
		"alg none, signed":    {edit: func(p parts) { p.h["alg"] = "none" }},
		"alg HS256":           {edit: func(p parts) { p.h["alg"] = "HS256" }},
		"alg in lower case":   {edit: func(p parts) { p.h["alg"] = "eddsa" }},
		"no kid":              {edit: func(p parts) { delete(p.h, "kid") }},
		"kid a DID":           {edit: func(x parts) { x.h["kid"] = p.did }},
		"kid a fragment":      {edit: func(x parts) { x.h["kid"] = x.h["kid"].(string)[len(p.did):] }},
		"kid cut":             {edit: func(x parts) { x.h["kid"] = x.h["kid"].(string)[:len(p.kid)-1] }},
		"kid of another":      {edit: func(x parts) { x.h["kid"] = other.kid }},
		"kid for agreement": {edit: func(x parts) {
			doc, _ := r.Resolve(ctx, p.did)
			x.h["kid"] = doc.KeysFor(did.KeyAgreement)[0].ID
		}},
		"crit":             {edit: func(p parts) { p.h["crit"] = []string{"x"} }},
		"jwk":              {edit: func(p parts) { p.h["jwk"] = map[string]string{} }},
		"other signer":     {by: other},
		"header altered":   {token: func(s string) string { return flip(s, 0) }},
		"claims altered":   {token: func(s string) string { return flip(s, 1) }},
		"sig altered":      {token: func(s string) string { return flip(s, 2) }},
		"sig cut":          {token: func(s string) string { return s[:len(s)-4] }},
		"sig missing":      {token: func(s string) string { return s[:strings.LastIndex(s, ".")+1] }},
		"padding":          {token: func(s string) string { return s + "==" }},
		"line end":         {token: func(s string) string { return s + "\n" }},
		"four parts":       {token: func(s string) string { return s + ".x" }},
		"empty":            {token: func(string) string { return "" }},
		"long":             {token: func(s string) string { return s + strings.Repeat("A", tokenMax) }},
		"unknown method":   {edit: func(p parts) { p.c["iss"], p.c["sub"], p.h["kid"] = "did:x:y", "did:x:y", "did:x:y#k" }},
		"issuer is no DID": {edit: func(p parts) { p.c["iss"], p.c["sub"], p.h["kid"] = "", "", "#k" }},
	} {
		clock := &testClock{at: time.Unix(1_800_000_000, 0)}
		ch := NewChallenger("urn:test", clock.now)
		q := ch.New()
		header, claims := p.honest(q, clock.at)
		if c.edit != nil {
			c.edit(parts{header, claims})
		}
		signer := p
		if c.by != nil {
			signer = c.by
		}
		token := signer.token(t, header, claims)
		if c.token != nil {
			token = c.token(token)
		}
		clock.at = clock.at.Add(c.wait)
		if _, err := ch.Verify(ctx, token, r, did.Version{}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A wrong try uses the challenge up.
func TestChallengeOneTry(t *testing.T) {
	ctx := testContext(t)
	clock := &testClock{at: time.Unix(1_800_000_000, 0)}
	c := NewChallenger("urn:test", clock.now)
	p, other := newProver(t, 1), newProver(t, 2)
	q := c.New()
	h, claims := p.honest(q, clock.at)
	if _, err := c.Verify(ctx, other.token(t, h, claims), did.NewResolver(did.NewKey()), did.Version{}); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	if _, err := c.Verify(ctx, p.token(t, h, claims), did.NewResolver(did.NewKey()), did.Version{}); !errors.Is(err, ErrRefused) {
		t.Errorf("second try: %v", err)
	}
}

func TestChallengeConsumedOnce(t *testing.T) {
	ctx := testContext(t)
	clock := &testClock{at: time.Unix(1_800_000_000, 0)}
	c := NewChallenger("urn:test", clock.now)
	p := newProver(t, 1)
	for range 20 {
		q := c.New()
		token, err := Answer(q, p.did, p.kid, clock.at, p.sign)
		if err != nil {
			t.Fatal(err)
		}
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := c.Verify(ctx, token, did.NewResolver(did.NewKey()), did.Version{}); err == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of 8 tries won", won.Load())
		}
	}
}

// Challenges that nobody answers cost nothing, those that are answered a bit each, and that
// only until they expire; nobody is turned away.
func TestChallengeBounded(t *testing.T) {
	clock := &testClock{at: time.Unix(1_800_000_000, 0)}
	c := NewChallenger("urn:test", clock.now)
	p := newProver(t, 1)
	first := c.New()
	for range 20 * chunkSize {
		c.New()
	}
	if n := len(c.nonces.chunks); n != 0 {
		t.Errorf("%d chunks are kept of challenges that nobody answered", n)
	}
	use := func(q Challenge) error {
		h, claims := p.honest(q, clock.at)
		_, err := c.Verify(testContext(t), p.token(t, h, claims), did.NewResolver(did.NewKey()), did.Version{})
		return err
	}
	if err := use(first); err != nil {
		t.Errorf("after many others: %v", err)
	}
	for range 10 {
		for range chunkSize - 1 {
			c.New()
		}
		if err := use(c.New()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.nonces.chunks); n != 11 {
		t.Errorf("%d chunks", n)
	}
	if err := use(first); !errors.Is(err, ErrRefused) {
		t.Errorf("used twice: %v", err)
	}
	clock.at = clock.at.Add(2*challengeLife + time.Second)
	for range chunkSize {
		c.New()
	}
	if err := use(c.New()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.nonces.chunks); n != 1 {
		t.Errorf("%d chunks are kept of challenges that have expired", n)
	}
	// What another process, or nobody, sealed is refused.
	for _, n := range []string{NewChallenger("urn:test", clock.now).New().Nonce, strings.Repeat("A", 43), first.Nonce[:42] + "B"} {
		if err := use(Challenge{Audience: "urn:test", Nonce: n}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestChallengeDocument(t *testing.T) {
	ctx := testContext(t)
	p := newProver(t, 1)
	v := func(n uint64, id string) did.Version { return did.Version{Number: n, ID: id} }
	for name, c := range map[string]struct {
		doc  *did.Document
		err  error
		last did.Version
		want error
	}{
		"same":          {doc: document(t, p.did, v(2, "2-a"), nil), last: v(2, "2-a")},
		"newer":         {doc: document(t, p.did, v(3, "3-a"), nil), last: v(2, "2-a")},
		"older":         {doc: document(t, p.did, v(1, "1-a"), nil), last: v(2, "2-a"), want: ErrRollback},
		"forked":        {doc: document(t, p.did, v(2, "2-b"), nil), last: v(2, "2-a"), want: ErrRollback},
		"deactivated":   {doc: document(t, p.did, v(1, "1"), replace("{", `{"deactivated":true,`)), want: ErrRefused},
		"not for login": {doc: document(t, p.did, v(1, "1"), replace(`"authentication"`, `"x"`)), want: ErrRefused},
		"key expired":   {doc: document(t, p.did, v(1, "1"), replace(`"controller":`, `"expires":"2020-01-01T00:00:00Z","controller":`)), want: ErrRefused},
		"key expires":   {doc: document(t, p.did, v(1, "1"), replace(`"controller":`, `"expires":"2120-01-01T00:00:00Z","controller":`))},
		"unreachable":   {err: did.ErrUnavailable, want: ErrUnavailable},
		"too late":      {err: context.DeadlineExceeded, want: ErrUnavailable},
		"gone":          {err: did.ErrNotFound, want: ErrRefused},
		"other's":       {doc: document(t, newProver(t, 2).did, v(1, "1"), nil), want: ErrRefused},
	} {
		ch := NewChallenger("urn:test", nil)
		q := ch.New()
		token, err := Answer(q, p.did, p.kid, time.Now(), p.sign)
		if err != nil {
			t.Fatal(err)
		}
		r := did.NewResolver(logMethod{resolve: func() (*did.Document, error) { return c.doc, c.err }})
		if _, err := ch.Verify(ctx, token, r, c.last); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}
