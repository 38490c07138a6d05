package auth

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	siop "github.com/cluster-labs/ipfscloud/auth/login"
)

// A device logs in to a service through the agent, which answers for nothing else.
func TestAgentAuthenticates(t *testing.T) {
	dir, id := testWebVH(t)
	s := login(t, dir)
	ctx, cancel := context.WithCancel(testContext(t))
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	agent, err := Listen(socket, s)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- agent.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	service, err := siop.New(siop.Config{Audience: "urn:example:backup", Sources: []webvh.Source{}})
	if err != nil {
		t.Fatal(err)
	}
	answer := func() (*siop.Login, error) {
		t.Helper()
		token, err := c.Authenticate(ctx, service.Begin().Challenge())
		if err != nil {
			t.Fatal(err)
		}
		log, _, err := c.Log(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return service.Verify(ctx, siop.Response{IDToken: token, Log: log}.Encode())
	}
	l, err := answer()
	if err != nil || l.DID != id.DID || l.ID != SelfCertifying(id.DID) || l.KeyID != id.Device.KeyID {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := Rotate(ctx, dir, []byte("open sesame")); err != nil {
		t.Fatal(err)
	}
	if l, err = answer(); err != nil || l.Version.Number != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, audience := range []string{loginAudience, "", "http://example.com", "did:key:x"} {
		if _, err := c.Authenticate(ctx, siop.Challenge{Audience: audience, Nonce: "0123456789abcdef"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", audience, err)
		}
	}
}
