package auth

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

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
		// One as AddService writes it, and one that says where the files of the DID are.
		c.Services = []did.Service{
			{ID: serviceFragment("https://example.com/"), Type: "Files", Endpoint: []byte(`"https://example.com/"`)},
			{ID: "#files", Type: "relativeRef", Endpoint: []byte(`"https://thief.example/"`)},
		}
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
	if again.DID == id.DID || SelfCertifying(again.DID) != SelfCertifying(id.DID) || again.Device.ID == id.Device.ID || again.Phrase.Equal(id.Phrase) {
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
	if err != nil || len(doc.Services) != 1 || doc.Services[0].Type != "Files" || !slices.Equal(doc.AlsoKnownAs, []string{id.DID}) {
		t.Errorf("services and names of a device's: %s, %v", doc.Raw(), err)
	}
	if devices, err := s.Devices(ctx); err != nil || len(devices) != 1 || devices[0].Name != "new" {
		t.Errorf("%+v, %v", devices, err)
	}
	if _, keys, err := s.PublishingKeys(ctx); err != nil || len(keys) != 2 || !hasSeed(s.keys.publishing, first.keys.publishing) {
		t.Errorf("%d publishing keys, %v", len(keys), err)
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
	if _, keys, err := n.PublishingKeys(ctx); err != nil || len(keys) != 3 {
		t.Errorf("%d publishing keys after the second recovery, %v", len(keys), err)
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
