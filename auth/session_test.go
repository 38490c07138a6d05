package auth

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// identity is fs.Identity, which this package fits without importing it.
type identity interface {
	DID() string
	Device() string
	Sign(ctx context.Context, msg []byte) ([]byte, error)
	Verify(ctx context.Context, device string, msg, sig []byte) error
	OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error)
	Recipients(ctx context.Context) ([][]byte, error)
	Log(ctx context.Context) (log []byte, version string, err error)
}

var (
	_ identity = (*Session)(nil)
	_ identity = (*Client)(nil)
)

// testIdentityMethods is the suite that a session and a client of its agent both pass.
func testIdentityMethods(t *testing.T, s identity, want *Identity) {
	t.Helper()
	ctx := testContext(t)
	if s.DID() != want.DID || s.Device() != want.Device.ID {
		t.Errorf("%s on %s, want %s on %s", s.DID(), s.Device(), want.DID, want.Device.ID)
	}
	if !regexp.MustCompile(`^[a-z0-9]{16}$`).MatchString(s.Device()) {
		t.Errorf("device %q", s.Device())
	}

	msg := []byte("ipfscloud/v1/head\x00and so on")
	sig, err := s.Sign(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, s.Device(), msg, sig); err != nil {
		t.Error(err)
	}
	altered := bytes.Clone(sig)
	altered[5] ^= 1
	for name, err := range map[string]error{
		"another message": s.Verify(ctx, s.Device(), []byte("ipfscloud/v1/head\x00and so On"), sig),
		"another device":  s.Verify(ctx, "aaaaaaaaaaaaaaaa", msg, sig),
		"no device":       s.Verify(ctx, "", msg, sig),
		"altered":         s.Verify(ctx, s.Device(), msg, altered),
		"cut":             s.Verify(ctx, s.Device(), msg, sig[:63]),
		"none":            s.Verify(ctx, s.Device(), msg, nil),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("signature, %s: %v", name, err)
		}
	}
	for _, m := range []string{"", "hello", "ipfscloud/v1/", "ipfscloud/v1/\x00", "ipfscloud/v1/head", "ipfscloud/v2/head\x00",
		"ipfscloud/v1/Head\x00", "ipfscloud/v1/a b\x00", " ipfscloud/v1/head\x00", "eyJhbGciOiJFZERTQSJ9.e30"} {
		if _, err := s.Sign(ctx, []byte(m)); !errors.Is(err, ErrPurpose) {
			t.Errorf("signed %q: %v", m, err)
		}
		if err := s.Verify(ctx, s.Device(), []byte(m), sig); !errors.Is(err, ErrPurpose) {
			t.Errorf("verified %q: %v", m, err)
		}
	}

	recipients, err := s.Recipients(ctx)
	if err != nil || len(recipients) != 2 || !bytes.Equal(recipients[0], want.Device.Agreement) {
		t.Fatalf("%d recipients, %v", len(recipients), err)
	}
	info := []byte("ipfscloud/v1/keyring\x00x")
	if got, err := s.OpenWrapped(ctx, info, sealTo(t, recipients[0], info, "key")); err != nil || string(got) != "key" {
		t.Errorf("opened %q, %v", got, err)
	}
	for name, sealed := range map[string][]byte{
		"recovery key": sealTo(t, recipients[1], info, "key"),
		"other info":   sealTo(t, recipients[0], []byte("other"), "key"),
		"cut":          sealTo(t, recipients[0], info, "key")[:1100],
		"empty":        nil,
	} {
		if _, err := s.OpenWrapped(ctx, info, sealed); !errors.Is(err, ErrNotRecipient) {
			t.Errorf("sealed, %s: %v", name, err)
		}
	}

	log, version, err := s.Log(ctx)
	if err != nil || version != "1" {
		t.Errorf("version %q, %v", version, err)
	}
	if _, err := did.Parse(want.DID, log); err != nil {
		t.Errorf("log: %v", err)
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Sign(canceled, msg); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func sealTo(t *testing.T, public, info []byte, plain string) []byte {
	t.Helper()
	key, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSession(t *testing.T) {
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	testIdentityMethods(t, s, id)

	who, err := s.WhoAmI(ctx)
	if err != nil || who.DID != id.DID || who.DeviceName != "laptop" || who.KeyID != id.Device.KeyID || who.PID != os.Getpid() || !who.PhrasePending {
		t.Errorf("%+v, %v", who, err)
	}
	devices, err := s.Devices(ctx)
	if err != nil || len(devices) != 1 || devices[0].ID != id.Device.ID || devices[0].Name != "laptop" {
		t.Errorf("devices %+v, %v", devices, err)
	}

	// The recovery key comes with the phrase only.
	recipients, err := s.Recipients(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealTo(t, recipients[1], nil, "vault")
	if err := s.UsePhrase(ctx, testPhrase(t)); !errors.Is(err, ErrPhrase) {
		t.Errorf("another's phrase: %v", err)
	}
	if _, err := s.OpenWrapped(ctx, nil, sealed); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("without the phrase: %v", err)
	}
	if err := s.UsePhrase(ctx, id.Phrase); err != nil {
		t.Fatal(err)
	}
	if got, err := s.OpenWrapped(ctx, nil, sealed); err != nil || string(got) != "vault" {
		t.Errorf("with the phrase: %q, %v", got, err)
	}
}

func TestLoginRefuses(t *testing.T) {
	ctx := testContext(t)
	if _, err := Login(ctx, filepath.Join(t.TempDir(), "none"), []byte("x")); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no keystore: %v", err)
	}
	dir, _ := testIdentity(t, nil)
	for _, pass := range []string{"", "open sesam", "open sesame ", "Open sesame"} {
		if _, err := Login(ctx, dir, []byte(pass)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", pass, err)
		}
	}
}

// Login and the session follow a document that changes, and refuse one that goes back.
func TestSessionFollowsDocument(t *testing.T) {
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	v := func(n uint64, name string) did.Version { return did.Version{Number: n, ID: name} }
	var doc *did.Document
	var fail error
	r := did.NewResolver(logMethod{resolve: func() (*did.Document, error) { return doc, fail }})
	login := func() (*Session, error) { return LoginWith(ctx, dir, []byte("open sesame"), r) }
	try := func(want error) {
		t.Helper()
		s, err := login()
		if !errors.Is(err, want) {
			t.Fatalf("login: got %v, want %v", err, want)
		}
		if err == nil {
			s.Close()
		}
	}

	doc = document(t, id.DID, v(3, "3-a"), nil)
	try(nil) // and is remembered
	doc = document(t, id.DID, v(2, "2-a"), nil)
	try(ErrRollback)
	doc = document(t, id.DID, v(3, "3-b"), nil)
	try(ErrRollback)
	doc = document(t, id.DID, v(4, "4-a"), replace(`"authentication"`, `"was"`))
	try(ErrRefused) // this device was taken out
	doc = document(t, id.DID, v(4, "4-a"), replace("{", `{"deactivated":true,`))
	try(ErrRefused)
	fail = did.ErrUnavailable
	try(ErrUnavailable)
	fail = nil
	doc = document(t, id.DID, v(3, "3-a"), nil)
	try(nil) // what was refused was not remembered

	s, err := login()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	version := func() string {
		t.Helper()
		_, version, err := s.Log(ctx)
		if err != nil {
			return err.Error()
		}
		return version
	}
	doc = document(t, id.DID, v(4, "4-a"), nil)
	if got := version(); got != "4-a" {
		t.Errorf("newer document: %s", got)
	}
	fail = did.ErrUnavailable
	if got := version(); got != "4-a" {
		t.Errorf("unreachable: %s", got)
	}
	fail = nil
	doc = document(t, id.DID, v(3, "3-a"), nil)
	if _, _, err := s.Log(ctx); !errors.Is(err, ErrRollback) {
		t.Errorf("older document: %v", err)
	}
	msg := []byte("ipfscloud/v1/head\x00")
	sig, err := s.Sign(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	doc = document(t, id.DID, v(5, "5-a"), replace(`"authentication"`, `"was"`))
	if err := s.Verify(ctx, s.Device(), msg, sig); !errors.Is(err, ErrSignature) {
		t.Errorf("signature of a revoked device: %v", err)
	}
}

func TestSessionEnds(t *testing.T) {
	ctx := testContext(t)
	s := testSession(t)
	msg := []byte("ipfscloud/v1/head\x00")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // Close waits for what is under way and cuts off the rest
			for {
				if _, err := s.Sign(ctx, msg); errors.Is(err, ErrClosed) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	s.Close()
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, open := s.OpenWrapped(ctx, nil, nil)
	_, recipients := s.Recipients(ctx)
	_, _, log := s.Log(ctx)
	_, who := s.WhoAmI(ctx)
	for _, err := range []error{open, recipients, log, who, s.Verify(ctx, s.Device(), msg, nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
}
