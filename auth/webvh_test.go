package auth

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// testWebVH makes a did:webvh and returns its directory.
func testWebVH(t testing.TB) (string, *Identity) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keystore")
	id, err := Init(testContext(t), InitConfig{Dir: dir, Passphrase: []byte("open sesame"), DeviceName: "laptop", KDF: cheap()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Phrase.Wipe)
	return dir, id
}

func login(t testing.TB, dir string) *Session {
	t.Helper()
	s, err := Login(testContext(t), dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func readLog(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeLog(t testing.TB, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, logName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWebVHSession(t *testing.T) {
	dir, id := testWebVH(t)
	s := login(t, dir)
	ctx := testContext(t)
	if !strings.HasPrefix(id.DID, "did:webvh:Qm") || !strings.HasSuffix(id.DID, ".ipns.dweb.link") || s.DID() != id.DID {
		t.Errorf("%s, %s", id.DID, s.DID())
	}
	msg := []byte("ipfscloud/v1/head\x00and so on")
	sig, err := s.Sign(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, s.Device(), msg, sig); err != nil {
		t.Error(err)
	}
	log, version, err := s.Log(ctx)
	if err != nil || !bytes.Equal(log, readLog(t, dir)) || !strings.HasPrefix(version, "1-Qm") {
		t.Errorf("version %s, %v", version, err)
	}
	// The log commits to one key of the device and to the recovery key, and has the marks of both.
	l, err := ReadLog(ctx, log)
	if err != nil || len(l.Params().NextKeyHashes) != 4 || len(webvh.RecoveryHashes(l.Params().NextKeyHashes)) != 1 || !l.Params().Portable {
		t.Errorf("%+v, %v", l.Params(), err)
	}
	// Any verifier of did:webvh accepts it.
	if r, err := (webvh.Verifier{}).ResolveLog(ctx, id.DID, log, nil, webvh.Query{}); err != nil || r.Document == nil {
		t.Error(err)
	}
	devices, err := s.Devices(ctx)
	if err != nil || len(devices) != 1 || devices[0].Name != "laptop" || !bytes.Equal(devices[0].Agreement, id.Device.Agreement) {
		t.Errorf("%+v, %v", devices, err)
	}
	notes, err := s.Notes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseNotes(notes)
	if err != nil || len(n.statements) != 1 || len(n.publishing) != 2 || !n.statements[0].holds(id.DID) {
		t.Errorf("%+v, %v", n, err)
	}
	if !bytes.Equal(n.encode(), notes) {
		t.Error("the notes encode to other bytes")
	}
}

// A statement counts for the very device, identity and key that it was made for.
func TestStatement(t *testing.T) {
	dir, id := testWebVH(t)
	s := login(t, dir)
	made := s.document.notes.statements[0]
	if !made.holds(id.DID) {
		t.Fatal("a good statement does not hold")
	}
	for name, change := range map[string]func(*Statement){
		"subject":   func(s *Statement) { s.Subject = "did:webvh:QmOther" },
		"name":      func(s *Statement) { s.Name = "desktop" },
		"agreement": func(s *Statement) { s.Agreement = bytes.Clone(s.Agreement); s.Agreement[7] ^= 1 },
		"signing":   func(s *Statement) { s.Signing = bytes.Clone(s.Signing); s.Signing[7] ^= 1 },
		"signature": func(s *Statement) { s.Signature = nil },
	} {
		bad := made
		change(&bad)
		if bad.holds(id.DID) {
			t.Errorf("a statement with another %s holds", name)
		}
	}
	// Of a device that the document does not list it is left out.
	_, other := testWebVH(t)
	if err := s.TakeNotes(testContext(t), (&notes{statements: []Statement{{Subject: made.Subject, Signing: other.Device.Signing}}}).encode()); err != nil {
		t.Fatal(err)
	}
	if devices, err := s.Devices(testContext(t)); err != nil || len(devices) != 1 {
		t.Errorf("%+v, %v", devices, err)
	}
}

// changed writes an entry with the first device's update key; edit changes what it says.
func changed(t testing.TB, dir string, edit func(*did.Change)) {
	t.Helper()
	ctx := testContext(t)
	sum, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = change(ctx, dir, []byte("open sesame"), func(k *keystore, c *contents, master *secret, _ int) (bool, error) {
		seed, err := firstSeed(c, master)
		if err != nil {
			return false, err
		}
		defer seed.wipe()
		m := LogMethod(dir)
		l, err := m.Newest(ctx, sum.DID)
		if err != nil {
			return false, err
		}
		n, err := committed(l, seed)
		if err != nil {
			return false, err
		}
		key, err := updateKey(seed, n)
		if err != nil {
			return false, err
		}
		defer key.wipe()
		next := did.Change{Keys: []did.Key{deviceKey(signingPublic(c.signing))}}
		if next.NextKeys, err = nextKeys(seed, n+1); err != nil {
			return false, err
		}
		edit(&next)
		_, err = m.Update(ctx, sum.DID, next, seedSigner{key})
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoginChecksTheDocument(t *testing.T) {
	dir, _ := testWebVH(t)
	ctx := testContext(t)
	first := readLog(t, dir)
	changed(t, dir, func(*did.Change) {})
	s := login(t, dir)
	if _, v, err := s.Log(ctx); err != nil || !strings.HasPrefix(v, "2-") {
		t.Errorf("version %s, %v", v, err)
	}
	// An older document than the remembered.
	second := readLog(t, dir)
	writeLog(t, dir, first)
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrRollback) {
		t.Errorf("login with an older log: %v", err)
	}
	if _, _, err := s.Log(ctx); !errors.Is(err, ErrRollback) {
		t.Errorf("the open session, with an older log: %v", err)
	}
	// None at all, and one that was altered.
	if err := os.Remove(filepath.Join(dir, logName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrLog) {
		t.Errorf("login without a log: %v", err)
	}
	writeLog(t, dir, bytes.Replace(second, []byte("authentication"), []byte("authenticatiom"), 1))
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrRefused) || !errors.Is(err, did.ErrInvalid) {
		t.Errorf("login with an altered log: %v", err)
	}
	// Somebody else's.
	other, _ := testWebVH(t)
	writeLog(t, dir, readLog(t, other))
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrRefused) {
		t.Errorf("login with the log of another: %v", err)
	}
	// A document that does not list this device.
	writeLog(t, dir, second)
	otherID, err := Inspect(other)
	if err != nil {
		t.Fatal(err)
	}
	changed(t, dir, func(c *did.Change) {
		c.Keys[0].Public, c.Keys[0].Fragment = signingPublic(mustSecret(t)), otherID.Device
	})
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrDevice) || !errors.Is(err, ErrRefused) {
		t.Errorf("login of a device that is not listed: %v", err)
	}
	if _, err := s.Recipients(ctx); err != nil {
		t.Errorf("the open session goes on until it signs: %v", err)
	}
	sig, err := s.Sign(ctx, []byte("ipfscloud/v1/head\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, s.Device(), []byte("ipfscloud/v1/head\x00"), sig); !errors.Is(err, ErrSignature) {
		t.Errorf("what a revoked device has signed: %v", err)
	}
}

func mustSecret(t testing.TB) *secret {
	t.Helper()
	s, err := newSecret(seedSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.wipe)
	return s
}

func TestDeactivated(t *testing.T) {
	dir, id := testWebVH(t)
	ctx := testContext(t)
	s := login(t, dir)
	// A thief with the device's update key cannot give the DID up; the owner can.
	err := change(ctx, dir, []byte("open sesame"), func(_ *keystore, c *contents, master *secret, _ int) (bool, error) {
		seed, err := firstSeed(c, master)
		if err != nil {
			return false, err
		}
		defer seed.wipe()
		key, err := updateKey(seed, 1)
		if err != nil {
			return false, err
		}
		defer key.wipe()
		return false, LogMethod(dir).Deactivate(ctx, id.DID, seedSigner{key})
	})
	if !errors.Is(err, did.ErrInvalid) {
		t.Errorf("an update key gave the DID up: %v", err)
	}
	key, err := id.Phrase.derive(labelRecover)
	if err != nil {
		t.Fatal(err)
	}
	defer key.wipe()
	if err := LogMethod(dir).Deactivate(ctx, id.DID, seedSigner{key}); err != nil {
		t.Fatal(err)
	}
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrDeactivated) || !errors.Is(err, ErrRefused) {
		t.Errorf("login to a DID that was given up: %v", err)
	}
	if _, _, err := s.Log(ctx); !errors.Is(err, ErrDeactivated) {
		t.Errorf("the open session of a DID that was given up: %v", err)
	}
}

// A session takes a log that goes on from what it knows, and nothing else.
func TestTakeLog(t *testing.T) {
	dir, _ := testWebVH(t)
	ctx := testContext(t)
	first := readLog(t, dir)
	s := login(t, dir)
	changed(t, dir, func(*did.Change) {})
	second := readLog(t, dir)
	writeLog(t, dir, first)
	changed(t, dir, func(c *did.Change) { c.AlsoKnownAs = []string{"https://example.com"} })
	fork := readLog(t, dir)
	writeLog(t, dir, first)
	if err := s.TakeLog(ctx, second); err != nil {
		t.Fatal(err)
	}
	if log, v, err := s.Log(ctx); err != nil || !bytes.Equal(log, second) || !strings.HasPrefix(v, "2-") {
		t.Errorf("version %s, %v", v, err)
	}
	if err := s.TakeLog(ctx, first); err != nil {
		t.Errorf("an older log: %v", err)
	}
	if err := s.TakeLog(ctx, fork); !errors.Is(err, ErrRollback) {
		t.Errorf("another history: %v", err)
	}
	if err := s.TakeLog(ctx, bytes.Replace(second, []byte("Multikey"), []byte("Multikez"), 1)); err == nil {
		t.Error("an altered log was taken")
	}
	if err := s.TakeLog(ctx, []byte("rubbish")); !errors.Is(err, ErrInvalid) {
		t.Errorf("rubbish: %v", err)
	}
	if log, _, err := s.Log(ctx); err != nil || !bytes.Equal(log, second) {
		t.Errorf("the log has changed: %v", err)
	}
}

// The phrase and the log make the identity again; a phrase alone waits.
func TestRestore(t *testing.T) {
	dir, id := testWebVH(t)
	ctx := testContext(t)
	first := login(t, dir)
	notes, err := first.Notes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cfg := InitConfig{Dir: filepath.Join(t.TempDir(), "keystore"), Passphrase: []byte("open sesame"), Phrase: id.Phrase, KDF: cheap()}
	if err := Await(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := Login(ctx, cfg.Dir, cfg.Passphrase); !errors.Is(err, ErrAwaits) {
		t.Errorf("login while waiting: %v", err)
	}
	p, err := Awaited(ctx, cfg.Dir, cfg.Passphrase)
	if err != nil || !p.Equal(id.Phrase) {
		t.Fatalf("another phrase waits: %v", err)
	}
	p.Wipe()
	wrong := cfg
	wrong.Passphrase = []byte("another")
	found := Found{DID: id.DID, Log: readLog(t, dir), Notes: notes}
	if _, err := Restore(ctx, wrong, found, nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("completed with another passphrase: %v", err)
	}
	failed := errors.New("the vault cannot be had")
	if _, err := Restore(ctx, cfg, found, func(string) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("restored without its vault: %v", err)
	}
	if _, err := Login(ctx, cfg.Dir, cfg.Passphrase); !errors.Is(err, ErrAwaits) {
		t.Errorf("after a restore that failed: %v", err)
	}
	again, err := Restore(ctx, cfg, found, func(dir string) error {
		s, err := Login(ctx, dir, cfg.Passphrase)
		if err == nil {
			err = s.Close()
		}
		return err
	})
	if err != nil || again.DID != id.DID || again.Device.ID == id.Device.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	if left, err := filepath.Glob(filepath.Join(cfg.Dir, restoring+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s := login(t, cfg.Dir)
	if list, err := s.Devices(ctx); err != nil || len(list) != 2 {
		t.Errorf("the devices are %+v, %v", list, err)
	}
	// The first device learns of it from the log, and both sign for themselves.
	if err := first.TakeLog(ctx, readLog(t, cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	msg := []byte("ipfscloud/v1/test\x00")
	for _, x := range []*Session{first, s} {
		sig, err := x.Sign(ctx, msg)
		if err == nil {
			err = errors.Join(first.Verify(ctx, x.Device(), msg, sig), s.Verify(ctx, x.Device(), msg, sig))
		}
		if err != nil {
			t.Errorf("device %s: %v", x.Device(), err)
		}
	}
	sealed := sealTo(t, again.Device.Agreement, []byte("x"), "key")
	if b, err := s.OpenWrapped(ctx, []byte("x"), sealed); err != nil || string(b) != "key" {
		t.Errorf("%q, %v", b, err)
	}
	if s.keys.publishing == nil {
		t.Error("the publishing key is lost")
	}
	if _, err := Restore(ctx, cfg, found, nil); !errors.Is(err, ErrExist) {
		t.Errorf("restored twice: %v", err)
	}
	// What it has signed does not keep the first one from changing the document.
	changed(t, dir, func(*did.Change) {})
	// After the device has left the document, only a recovery helps.
	changed(t, dir, func(c *did.Change) { c.Keys[0].Public = signingPublic(mustSecret(t)) })
	cfg.Dir, found.Log = filepath.Join(t.TempDir(), "keystore"), readLog(t, dir)
	if _, err := Restore(ctx, cfg, found, nil); !errors.Is(err, ErrDevice) {
		t.Errorf("restored a device that was taken out: %v", err)
	}
}

// A login of the agent never opens the update keys.
func TestUpdateKeysStayShut(t *testing.T) {
	dir, _ := testWebVH(t)
	ctx := testContext(t)
	// With a broken guarded part a login works all the same, and a change does not.
	err := change(ctx, dir, []byte("open sesame"), func(_ *keystore, c *contents, _ *secret, _ int) (bool, error) {
		c.extension.guarded[3] ^= 1
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	login(t, dir)
	err = change(ctx, dir, []byte("open sesame"), func(_ *keystore, c *contents, master *secret, _ int) (bool, error) {
		_, err := c.extension.seeds(master)
		return false, err
	})
	if !errors.Is(err, ErrKeystore) {
		t.Errorf("broken update keys: %v", err)
	}
}
