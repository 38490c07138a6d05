package auth

import (
	"bytes"
	"context"
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
	if _, err := Restore(ctx, wrong, found); !errors.Is(err, ErrPassphrase) {
		t.Errorf("completed with another passphrase: %v", err)
	}
	again, err := Restore(ctx, cfg, found)
	if err != nil || again.DID != id.DID || again.Device.ID != id.Device.ID {
		t.Fatalf("%+v, %v", again, err)
	}
	s := login(t, cfg.Dir)
	sealed := sealTo(t, id.Device.Agreement, []byte("x"), "key")
	if b, err := s.OpenWrapped(ctx, []byte("x"), sealed); err != nil || string(b) != "key" {
		t.Errorf("%q, %v", b, err)
	}
	if s.keys.publishing == nil {
		t.Error("the publishing key is lost")
	}
	if _, err := Restore(ctx, cfg, found); !errors.Is(err, ErrExist) {
		t.Errorf("restored twice: %v", err)
	}
	// After the device has left the document, only a recovery helps.
	changed(t, dir, func(c *did.Change) { c.Keys[0].Public = signingPublic(mustSecret(t)) })
	cfg.Dir, found.Log = filepath.Join(t.TempDir(), "keystore"), readLog(t, dir)
	if _, err := Restore(ctx, cfg, found); !errors.Is(err, ErrDevice) {
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

var _ interface {
	TakeLog(ctx context.Context, log []byte) error
	Notes(ctx context.Context) ([]byte, error)
	TakeNotes(ctx context.Context, notes []byte) error
} = (*Client)(nil)

// After a recovery the new device and the new phrase count, and nothing else does.
func TestRecover(t *testing.T) {
	dir, id := testWebVH(t)
	ctx := testContext(t)
	first := login(t, dir)
	changed(t, dir, func(c *did.Change) {
		c.AlsoKnownAs = []string{"https://example.com/ada"}
		c.Services = []did.Service{{ID: "#files", Type: "Files", Endpoint: []byte(`"https://example.com/"`)}}
	})
	notes, err := first.Notes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := Found{DID: id.DID, Log: readLog(t, dir), Notes: notes}
	cfg := InitConfig{Dir: filepath.Join(t.TempDir(), "keystore"), Passphrase: []byte("open sesame"), Phrase: testPhrase(t), KDF: cheap(), DeviceName: "new"}
	if _, err := Recover(ctx, cfg, found); !errors.Is(err, ErrPhrase) {
		t.Errorf("recovered with another phrase: %v", err)
	}
	cfg.Phrase = id.Phrase
	key := found
	key.Log, key.DID = nil, "did:key:z6MktY2jFwcH5L3NF6Be6yFiCT72f5KEx3chSreLtEUUDZG3"
	if _, err := Recover(ctx, cfg, key); !errors.Is(err, did.ErrNotSupported) {
		t.Errorf("recovered a did:key: %v", err)
	}
	again, err := Recover(ctx, cfg, found)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Phrase.Wipe()
	if again.DID != id.DID || again.Device.ID == id.Device.ID || again.Phrase.Equal(id.Phrase) {
		t.Errorf("%+v", again)
	}
	s := login(t, cfg.Dir)
	if !s.PhrasePending() {
		t.Error("the new phrase does not wait for its confirmation")
	}
	log, version, err := s.Log(ctx)
	if err != nil || !strings.HasPrefix(version, "3-") {
		t.Fatalf("version %s, %v", version, err)
	}
	l, err := ReadLog(ctx, log)
	if err != nil || !again.Phrase.CommitsTo(l) || id.Phrase.CommitsTo(l) {
		t.Errorf("the log commits to another phrase: %v", err)
	}
	doc, err := l.Document()
	if err != nil || len(doc.Services) != 1 || !bytes.Contains(doc.Raw(), []byte("example.com/ada")) {
		t.Errorf("services and names are lost: %s, %v", doc.Raw(), err)
	}
	if devices, err := s.Devices(ctx); err != nil || len(devices) != 1 || devices[0].Name != "new" {
		t.Errorf("%+v, %v", devices, err)
	}
	if s.keys.publishing == nil || !bytes.Equal(s.keys.publishing.bytes(), first.keys.publishing.bytes()) {
		t.Error("the publishing key is lost")
	}
	// The old device learns of it, and is out: login, commits, and what it signs.
	if err := first.TakeLog(ctx, log); err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.Log(ctx); !errors.Is(err, ErrDevice) {
		t.Errorf("the lost device commits: %v", err)
	}
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrDevice) {
		t.Errorf("the lost device logs in: %v", err)
	}
	sig, err := first.Sign(ctx, []byte("ipfscloud/v1/head\x00x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx, first.Device(), []byte("ipfscloud/v1/head\x00x"), sig); !errors.Is(err, ErrSignature) {
		t.Errorf("what the lost device signs: %v", err)
	}
	// The thief has update keys and still cannot go on from there, nor drop the recovery
	// key before.
	if _, err := committedIn(t, dir); !errors.Is(err, ErrDevice) {
		t.Errorf("the lost device has an update key: %v", err)
	}
	// And the log goes on, by the new device, and by the new phrase.
	changed(t, cfg.Dir, func(*did.Change) {})
	next := InitConfig{Dir: filepath.Join(t.TempDir(), "keystore"), Passphrase: []byte("x"), Phrase: again.Phrase, KDF: cheap()}
	third, err := Recover(ctx, next, Found{DID: id.DID, Log: readLog(t, cfg.Dir), Notes: mustNotes(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Phrase.Wipe()
	n, err := Login(ctx, next.Dir, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.keys.publishing == nil {
		t.Error("the publishing key is lost after the second recovery")
	}
}

func mustNotes(t testing.TB, s *Session) []byte {
	t.Helper()
	b, err := s.Notes(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// committedIn is the number of the update key that the log in dir wants of this device.
func committedIn(t testing.TB, dir string) (n uint64, err error) {
	t.Helper()
	l, err := ReadLog(testContext(t), readLog(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	err = change(testContext(t), dir, []byte("open sesame"), func(_ *keystore, c *contents, master *secret, _ int) (bool, error) {
		seed, err := firstSeed(c, master)
		if err != nil {
			return false, err
		}
		defer seed.wipe()
		n, err = committed(l, seed)
		return false, err
	})
	return n, err
}

func firstSeed(c *contents, master *secret) (*secret, error) {
	seeds, err := c.extension.seeds(master)
	if err != nil {
		return nil, err
	}
	return seeds[0], nil
}

func TestRotate(t *testing.T) {
	dir, id := testWebVH(t)
	ctx := testContext(t)
	s := login(t, dir)
	before, err := os.ReadFile(filepath.Join(dir, keystoreName))
	if err != nil {
		t.Fatal(err)
	}
	log := readLog(t, dir)
	if _, err := Rotate(ctx, dir, []byte("wrong")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("rotated with a wrong passphrase: %v", err)
	}
	if !bytes.Equal(readLog(t, dir), log) {
		t.Fatal("a refused rotation changed the log")
	}
	for want := uint64(2); want < 5; want++ {
		doc, err := Rotate(ctx, dir, []byte("open sesame"))
		if err != nil || doc.Version.Number != want || doc.ID != id.DID {
			t.Fatalf("%+v, %v", doc, err)
		}
	}
	if _, v, err := s.Log(ctx); err != nil || !strings.HasPrefix(v, "4-") {
		t.Errorf("the open session has version %s, %v", v, err)
	}
	login(t, dir)
	// A copy of the keystore from before has no key for the log any more.
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, keystoreName), before, 0o600); err != nil {
		t.Fatal(err)
	}
	writeLog(t, old, readLog(t, dir))
	if _, err := Rotate(ctx, old, []byte("open sesame")); !errors.Is(err, ErrDevice) {
		t.Errorf("an old keystore changed the document: %v", err)
	}
	// The phrase still recovers.
	l, err := ReadLog(ctx, readLog(t, dir))
	if err != nil || !id.Phrase.CommitsTo(l) {
		t.Errorf("the recovery key was dropped: %v", err)
	}
}

// A rotation that was interrupted before the new version was written can go on.
func TestRotateInterrupted(t *testing.T) {
	dir, _ := testWebVH(t)
	ctx := testContext(t)
	log := readLog(t, dir)
	if _, err := Rotate(ctx, dir, []byte("open sesame")); err != nil {
		t.Fatal(err)
	}
	rotated := readLog(t, dir)
	for name, b := range map[string][]byte{"before": log, "after": rotated} {
		// As if the process had died with both seeds in the keystore.
		again := t.TempDir()
		if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		err := change(ctx, again, []byte("open sesame"), func(_ *keystore, c *contents, master *secret, _ int) (bool, error) {
			now, err := firstSeed(c, master)
			if err != nil {
				return false, err
			}
			p, err := RecoveryPhrase(ctx, dir, []byte("open sesame"))
			if err != nil {
				return false, err
			}
			old, err := p.derive(labelUpdate)
			if err != nil {
				return false, err
			}
			c.version = did.Version{}
			return true, c.extension.setGuarded(master, now, old)
		})
		if err != nil {
			t.Fatal(err)
		}
		writeLog(t, again, b)
		if _, err := Rotate(ctx, again, []byte("open sesame")); err != nil {
			t.Errorf("interrupted %s the new version: %v", name, err)
		}
	}
}

func TestServices(t *testing.T) {
	dir, _ := testWebVH(t)
	ctx := testContext(t)
	pass := []byte("open sesame")
	for _, bad := range []string{"", "no url", "https://", "http://example.com/", "ftp://example.com", "https://ada:pw@example.com/", "https://example.com/#x"} {
		if _, err := AddService(ctx, dir, pass, "SignUp", bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	doc, err := AddService(ctx, dir, pass, "SignUp", "https://example.com/api")
	if err != nil || len(doc.Services) != 1 || doc.Services[0].Type != "SignUp" {
		t.Fatalf("%+v, %v", doc, err)
	}
	if doc, err = AddService(ctx, dir, pass, "Other", "https://example.com/api"); err != nil || len(doc.Services) != 1 || doc.Services[0].Type != "Other" {
		t.Fatalf("%+v, %v", doc, err)
	}
	if doc, err = AddService(ctx, dir, pass, "SignUp", "https://example.org/"); err != nil || len(doc.Services) != 2 {
		t.Fatalf("%+v, %v", doc, err)
	}
	if _, err := RemoveService(ctx, dir, pass, "https://example.net/"); !errors.Is(err, ErrNoService) {
		t.Errorf("removed what is not there: %v", err)
	}
	if doc, err = RemoveService(ctx, dir, pass, "https://example.com/api"); err != nil || len(doc.Services) != 1 || !strings.Contains(string(doc.Services[0].Endpoint), "example.org") {
		t.Fatalf("%+v, %v", doc, err)
	}
	login(t, dir)
	key, _ := testIdentity(t, nil)
	if _, err := AddService(ctx, key, pass, "SignUp", "https://example.com/"); !errors.Is(err, did.ErrNotSupported) {
		t.Errorf("a did:key: %v", err)
	}
}
