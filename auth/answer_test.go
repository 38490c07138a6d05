package auth

import (
	"context"
	"errors"
	"testing"
)

// A device that has joined opens a newer answer to its request, and no other one's.
func TestNewerAnswer(t *testing.T) {
	ctx := context.Background()
	dir := foundIdentity(t)
	reader, request := joined(t, dir, Grant{Scope: ScopeRead})
	other, _ := joined(t, dir, Grant{Scope: ScopeRead})
	did := login(t, dir).DID()
	text, err := request.Seal(Answer{DID: did, Version: "x", Vault: []byte(`{"news":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := ReadAnswer(ctx, reader, devicePass, text); err != nil || string(a.Vault) != `{"news":1}` {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := ReadAnswer(ctx, other, devicePass, text); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("another device opens it: %v", err)
	}
	if _, err := ReadAnswer(ctx, reader, []byte("wrong"), text); !errors.Is(err, ErrPassphrase) {
		t.Errorf("without the passphrase: %v", err)
	}
	strange, err := request.Seal(Answer{DID: "did:webvh:QmfGEUAcMpzo25kF2Rhn8L5FAXysfGnkzjwdKoNPi615XQ:example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAnswer(ctx, reader, devicePass, strange); !errors.Is(err, ErrInvalid) {
		t.Errorf("about another identity: %v", err)
	}
}
