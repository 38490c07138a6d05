package auth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
)

// An agent signs claims and nothing else in that form, and keeps them sealed.
func TestClaims(t *testing.T) {
	dir, id := testIdentity(t, nil)
	ctx := testContext(t)
	session, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	a, err := Listen(path, session)
	if err != nil {
		t.Fatal(err)
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Serve(serving) }()
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := claim.Payload(id.DID, claim.Spec{Subject: id.DID, Claims: map[string]any{"name": "a canary"}, Issued: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := c.SignClaim(ctx, payload)
	if err != nil {
		t.Fatal(err)
	}
	v := claim.Verifier{Keys: Resolver(dir)}
	if got, err := v.Verify(ctx, jwt, id.DID); err != nil || got.Claims["name"] != "a canary" {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		`{"iss":"` + id.DID + `","sub":"` + id.DID + `","aud":"https://site.example","nonce":"n"}`,
		`{"iss":"did:example:other","vc":{}}`, "ipfscloud/v1/head\x00",
	} {
		if _, err := c.SignClaim(ctx, []byte(bad)); !errors.Is(err, claim.ErrInvalid) {
			t.Errorf("%s is signed: %v", bad, err)
		}
	}
	for range 2 {
		if err := c.KeepClaim(ctx, jwt); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.KeepClaim(ctx, "another"); err != nil {
		t.Fatal(err)
	}
	if err := c.KeepClaim(ctx, strings.Repeat("x", claimMax+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
	if got, err := c.Claims(ctx); err != nil || !slices.Equal(got, []string{jwt, "another"}) {
		t.Errorf("%q, %v", got, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, claimsName))
	if err != nil || strings.Contains(string(b), jwt) || strings.Contains(string(b), "canary") {
		t.Errorf("the claims lie in the clear, %v", err)
	}
	if err := c.DropClaim(ctx, jwt); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Claims(ctx); err != nil || !slices.Equal(got, []string{"another"}) {
		t.Errorf("%q, %v", got, err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(filepath.Join(dir, claimsName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Claims(ctx); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("damaged claims: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
