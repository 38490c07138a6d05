package auth

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// A revoked device has the keys of the names that the DID had, and not that of the name it
// has then. The other devices have both, also the one that was not there, from the keyring.
func TestRevokeChangesTheName(t *testing.T) {
	ctx := context.Background()
	dir := foundIdentity(t)
	lost, _ := joined(t, dir, Grant{Scope: ScopeFull})
	third, _ := joined(t, dir, Grant{Scope: ScopeFull})
	first := login(t, third)
	before, old, err := first.PublishingKeys(ctx)
	if err != nil || len(old) != 1 {
		t.Fatalf("%d keys, %v", len(old), err)
	}
	thief := login(t, lost)
	doc, err := Revoke(ctx, dir, devicePass, thief.Device())
	if err != nil {
		t.Fatal(err)
	}
	if doc.ID == before || SelfCertifying(doc.ID) != SelfCertifying(before) {
		t.Fatalf("the DID was %s and is %s", before, doc.ID)
	}
	if _, ok := NameOf(doc.ID); !ok {
		t.Errorf("%s has no IPNS name", doc.ID)
	}
	s := login(t, dir)
	id, keys, err := s.PublishingKeys(ctx)
	if err != nil || id != doc.ID || len(keys) != 2 || !bytes.Equal(keys[1], old[0]) || bytes.Equal(keys[0], old[0]) {
		t.Fatalf("%s with %d keys, %v", id, len(keys), err)
	}
	msg := []byte(ipnsPurpose + "x")
	for _, k := range keys {
		if _, err := s.SignName(ctx, k, msg); err != nil {
			t.Error(err)
		}
	}
	// The thief sees the log and the keyring.
	notes, err := s.Notes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	log := readLog(t, dir)
	_ = thief.TakeLog(ctx, log)
	_ = thief.TakeNotes(ctx, notes)
	if _, err := thief.SignName(ctx, keys[0], msg); !errors.Is(err, ErrNoName) {
		t.Errorf("the revoked device signs for the new name: %v", err)
	}
	// The device that stays learns the key in an open session.
	if err := first.TakeLog(ctx, log); err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.PublishingKeys(ctx); !errors.Is(err, ErrNoName) {
		t.Errorf("without the keyring: %v", err)
	}
	// It does not drop what it does not know, either.
	if err := first.TakeNotes(ctx, notes); err != nil {
		t.Fatal(err)
	}
	if id, got, err := first.PublishingKeys(ctx); err != nil || id != doc.ID || !bytes.Equal(got[0], keys[0]) || len(got) != 2 {
		t.Errorf("%s with %d keys, %v", id, len(got), err)
	}
}

// A recovery moves the DID to the name that the new phrase derives; nobody had its key before.
func TestRecoverChangesTheName(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	id, err := Init(ctx, InitConfig{Dir: dir, Passphrase: devicePass, KDF: lightKDF(), DeviceName: "first"})
	if err != nil {
		t.Fatal(err)
	}
	defer id.Phrase.Wipe()
	to := t.TempDir()
	got, err := Recover(ctx, InitConfig{Dir: to, Passphrase: devicePass, KDF: lightKDF(), Phrase: id.Phrase}, Found{DID: id.DID, Log: readLog(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Phrase.Wipe()
	name, err := got.Phrase.PublishedName()
	if err != nil {
		t.Fatal(err)
	}
	if now, ok := NameOf(got.DID); !ok || now != name {
		t.Errorf("%s, the phrase finds %s", got.DID, name)
	}
	s := login(t, to)
	now, keys, err := s.PublishingKeys(ctx)
	if err != nil || now != got.DID || len(keys) != 2 {
		t.Errorf("%s with %d keys, %v", now, len(keys), err)
	}
}

// placed is a source that has one log a place, as IPNS names have.
type placed map[string][]byte

func (p placed) Log(_ context.Context, id webvh.ID) ([]byte, error) {
	if b, ok := p[id.String()]; ok {
		return b, nil
	}
	return nil, errors.New("nothing there")
}

func (p placed) Witness(context.Context, webvh.ID) ([]byte, error) {
	return nil, errors.New("nothing there")
}

// Whoever knows that a DID has moved looks at its new place, also if the old name is asked
// for and shows nothing but an old log.
func TestResolversFollowTheName(t *testing.T) {
	ctx := context.Background()
	dir := foundIdentity(t)
	lost, _ := joined(t, dir, Grant{Scope: ScopeFull})
	old := readLog(t, dir)
	before := login(t, dir).DID()
	doc, err := Revoke(ctx, dir, devicePass, login(t, lost).Device())
	if err != nil {
		t.Fatal(err)
	}
	moved := readLog(t, dir)
	if _, err := AddService(ctx, dir, devicePass, "T", "https://example.com/"); err != nil {
		t.Fatal(err)
	}
	source := placed{before: moved, doc.ID: moved}
	m := webvh.New(webvh.Config{Verifier: webvh.Rules(), Store: webvh.NewMemory(), Sources: []webvh.Source{source}})
	if _, err := m.Newest(ctx, before); err != nil {
		t.Fatal(err)
	}
	source[before], source[doc.ID] = old, readLog(t, dir) // outbid, and renewed
	l, err := m.Newest(ctx, before)
	if err != nil || !bytes.Equal(l.Bytes(), readLog(t, dir)) {
		t.Errorf("%v, %v", l, err)
	}
}
