package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

func TestInit(t *testing.T) {
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	if !strings.HasPrefix(id.DID, "did:key:z6Mk") || id.Phrase == nil || len(id.Device.ID) != 16 ||
		!strings.HasPrefix(id.Device.KeyID, id.DID+"#") || id.Device.Name != "laptop" {
		t.Errorf("identity %+v", id)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, keystoreName): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	sum, err := Inspect(dir)
	if err != nil || sum != (Summary{DID: id.DID, Device: id.Device.ID, PhrasePending: true, KDF: cheap()}) {
		t.Errorf("summary %+v, %v", sum, err)
	}
	before, err := os.ReadFile(filepath.Join(dir, keystoreName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(ctx, InitConfig{Dir: dir, Passphrase: []byte("x"), KDF: cheap()}); !errors.Is(err, ErrExist) {
		t.Errorf("second identity in one directory: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, keystoreName)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the refused Init changed the keystore: %v", err)
	}
	for _, s := range [][]byte{id.Phrase.entropy.bytes(), []byte(id.Phrase.Words()[0] + " " + id.Phrase.Words()[1])} {
		if bytes.Contains(before, s) {
			t.Error("the keystore shows the phrase")
		}
	}
}

func TestInitRefuses(t *testing.T) {
	ctx := testContext(t)
	dir := filepath.Join(t.TempDir(), "k")
	ok := InitConfig{Dir: dir, Passphrase: []byte("x"), KDF: cheap()}
	with := func(f func(*InitConfig)) InitConfig { c := ok; f(&c); return c }
	for name, c := range map[string]struct {
		cfg  InitConfig
		want error
	}{
		"no directory":   {with(func(c *InitConfig) { c.Dir = "" }), ErrInvalid},
		"no passphrase":  {with(func(c *InitConfig) { c.Passphrase = nil }), ErrInvalid},
		"method":         {with(func(c *InitConfig) { c.Method = "web3" }), did.ErrUnsupportedMethod},
		"little memory":  {with(func(c *InitConfig) { c.KDF.Memory-- }), ErrInvalid},
		"much memory":    {with(func(c *InitConfig) { c.KDF.Memory = kdfMaxMemory + 1 }), ErrInvalid},
		"no passes":      {with(func(c *InitConfig) { c.KDF.Time = 0 }), ErrInvalid},
		"long name":      {with(func(c *InitConfig) { c.DeviceName = strings.Repeat("n", deviceNameMax+1) }), ErrInvalid},
		"name not UTF-8": {with(func(c *InitConfig) { c.DeviceName = "\xff" }), ErrInvalid},
	} {
		if _, err := Init(ctx, c.cfg); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, err := Inspect(dir); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("a refused Init left something: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	dir2, _ := testIdentity(t, nil)
	if _, err := Login(canceled, dir2, []byte("open sesame")); !errors.Is(err, context.Canceled) {
		t.Errorf("login with a cancelled context: %v", err)
	}
}

// The same phrase makes the same identity, and another device of it: the first machine may
// be in use still. Both sign with the one key of a did:key.
func TestRestoreMakesTheSame(t *testing.T) {
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	dir2, again := testIdentity(t, id.Phrase)
	if again.DID != id.DID || again.Device.ID == id.Device.ID || !SameKey(again.Device.ID, id.Device.ID) || !bytes.Equal(again.Device.Agreement, id.Device.Agreement) {
		t.Error("the same phrase made another identity")
	}
	if again.Phrase != nil {
		t.Error("a restored identity shows its phrase again")
	}
	first, second := login(t, dir), login(t, dir2)
	if second.Device() != again.Device.ID || first.Device() != id.Device.ID {
		t.Errorf("logged in as %s and %s", first.Device(), second.Device())
	}
	msg := []byte("ipfscloud/v1/test\x00")
	sig, err := second.Sign(ctx, msg)
	if err == nil {
		err = first.Verify(ctx, second.Device(), msg, sig)
	}
	if err != nil {
		t.Errorf("the first machine does not know the second: %v", err)
	}
	for _, name := range []string{id.Device.ID + "x", again.Device.ID + "a", id.Device.ID + "ABCDEFGH", "a" + again.Device.ID[1:]} {
		if err := first.Verify(ctx, name, msg, sig); !errors.Is(err, ErrSignature) {
			t.Errorf("device %s: %v", name, err)
		}
	}
	if list, err := second.Devices(ctx); err != nil || len(list) != 1 || list[0].ID != second.Device() {
		t.Errorf("the devices are %+v, %v", list, err)
	}
	_, other := testIdentity(t, nil)
	if other.DID == id.DID {
		t.Error("two phrases made one identity")
	}
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.DID() != id.DID {
		t.Error("login made another DID")
	}
}

func TestPhraseConfirmation(t *testing.T) {
	ctx := testContext(t)
	pass := []byte("open sesame")
	dir, id := testIdentity(t, nil)
	s, err := Login(ctx, dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.PhrasePending() {
		t.Error("nobody has confirmed it yet")
	}
	if err := ConfirmPhrase(ctx, dir, []byte("guess")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("confirmed with a wrong passphrase: %v", err)
	}
	p, err := RecoveryPhrase(ctx, dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	if !p.Equal(id.Phrase) {
		t.Error("another phrase")
	}
	for range 2 {
		if err := ConfirmPhrase(ctx, dir, pass); err != nil {
			t.Fatal(err)
		}
	}
	if s.PhrasePending() {
		t.Error("still pending")
	}
	if _, err := RecoveryPhrase(ctx, dir, pass); !errors.Is(err, ErrConfirmed) {
		t.Errorf("the confirmed phrase is still there: %v", err)
	}
	restored, _ := testIdentity(t, p)
	if sum, err := Inspect(restored); err != nil || sum.PhrasePending {
		t.Errorf("a restored phrase waits for its confirmation: %v", err)
	}
}

func TestChangePassphrase(t *testing.T) {
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	old, next := []byte("open sesame"), []byte("abracadabra")
	if err := ChangePassphrase(ctx, dir, next, old, cheap()); !errors.Is(err, ErrPassphrase) {
		t.Errorf("changed with a wrong passphrase: %v", err)
	}
	if err := ChangePassphrase(ctx, dir, old, nil, cheap()); !errors.Is(err, ErrInvalid) {
		t.Errorf("changed to none: %v", err)
	}
	if err := ChangePassphrase(ctx, dir, old, next, cheap()); err != nil {
		t.Fatal(err)
	}
	if _, err := Login(ctx, dir, old); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	s, err := Login(ctx, dir, next)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.DID() != id.DID {
		t.Error("another identity")
	}
}

func TestDefaultKDF(t *testing.T) {
	ctx := testContext(t)
	dir := filepath.Join(t.TempDir(), "keystore")
	if _, err := Init(ctx, InitConfig{Dir: dir, Method: "key", Passphrase: []byte("x"), Phrase: testPhrase(t)}); err != nil {
		t.Fatal(err)
	}
	if sum, err := Inspect(dir); err != nil || sum.KDF != (KDF{Time: 3, Memory: 256 << 10, Threads: 4}) {
		t.Errorf("%+v, %v", sum, err)
	}
	s, err := Login(ctx, dir, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSeveralSlots(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	err := change(ctx, dir, []byte("open sesame"), func(k *keystore, _ *contents, master *secret, _ int) (bool, error) {
		s, err := k.newSlot(master, []byte("second"), cheap())
		k.slots = append(k.slots, s)
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ChangePassphrase(ctx, dir, []byte("second"), []byte("third"), cheap()); err != nil {
		t.Fatal(err)
	}
	for pass, want := range map[string]error{"open sesame": nil, "second": ErrPassphrase, "third": nil} {
		s, err := Login(ctx, dir, []byte(pass))
		if !errors.Is(err, want) {
			t.Errorf("%q: %v", pass, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// rehash makes the checksum right again, as somebody who alters a keystore on purpose
// would.
func rehash(b []byte) []byte {
	sum := sha256.Sum256(b[:len(b)-sumSize])
	return append(bytes.Clone(b[:len(b)-sumSize]), sum[:]...)
}

func TestDamagedKeystore(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	path := filepath.Join(dir, keystoreName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	login := func(b []byte) error {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Login(ctx, dir, []byte("open sesame"))
		if err == nil {
			s.Close()
		}
		return err
	}
	for n := range len(good) { // cheap: the checksum comes before Argon2
		if _, err := parseKeystore(good[:n]); !errors.Is(err, ErrKeystore) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, err := parseKeystore(flipped); !errors.Is(err, ErrKeystore) {
			t.Fatalf("byte %d flipped: %v", n, err)
		}
	}
	for name, b := range map[string][]byte{
		"empty": {}, "text": []byte("hello, I am a text file and not a keystore at all, am I?"),
		"longer": append(bytes.Clone(good), 0), "zeros": make([]byte, len(good)), "huge": make([]byte, keystoreMax+1),
		"version 2": append([]byte("ICKS\x02"), good[5:]...),
	} {
		if err := login(b); !errors.Is(err, ErrKeystore) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Alterations with a right checksum: found by the seals, by none later than login.
	k, err := parseKeystore(good)
	if err != nil {
		t.Fatal(err)
	}
	alter := func(f func(*keystore)) []byte {
		x := *k
		x.slots = append([]slot(nil), k.slots...)
		x.sealed = bytes.Clone(k.sealed)
		f(&x)
		return x.encode()
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"flag":       {alter(func(k *keystore) { k.pending = false }), ErrKeystore},
		"contents":   {alter(func(k *keystore) { k.sealed[7] ^= 1 }), ErrKeystore},
		"nonce":      {alter(func(k *keystore) { k.nonce[0] ^= 1 }), ErrKeystore},
		"no seal":    {alter(func(k *keystore) { k.sealed = nil }), ErrKeystore},
		"extra slot": {alter(func(k *keystore) { k.slots = append(k.slots, k.slots[0]) }), ErrKeystore},
		"slot nonce": {alter(func(k *keystore) { k.slots[0].nonce[3] ^= 1 }), ErrPassphrase},
		"DID":        {alter(func(k *keystore) { k.did += "x" }), ErrPassphrase},
		"id":         {alter(func(k *keystore) { k.id[0] ^= 1 }), ErrPassphrase},
		"KDF":        {alter(func(k *keystore) { k.slots[0].kdf.Time = 2 }), ErrPassphrase},
		"KDF huge":   {alter(func(k *keystore) { k.slots[0].kdf.Memory = 1 << 31 }), ErrKeystore},
		"KDF small":  {alter(func(k *keystore) { k.slots[0].kdf.Memory = 8 }), ErrKeystore},
		"KDF long":   {alter(func(k *keystore) { k.slots[0].kdf.Time = 1 << 30 }), ErrKeystore},
		"KDF lanes":  {alter(func(k *keystore) { k.slots[0].kdf.Threads = 0 }), ErrKeystore},
		"no slot":    {alter(func(k *keystore) { k.slots = nil }), ErrKeystore},
	} {
		if err := login(rehash(c.b)); !errors.Is(err, c.want) {
			t.Errorf("%s altered: got %v, want %v", name, err, c.want)
		}
	}
	if err := login(good); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Login(ctx, dir, []byte("open sesame")); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no file: %v", err)
	}
	if err := ConfirmPhrase(ctx, filepath.Join(dir, "none"), []byte("x")); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no directory: %v", err)
	}
}

func TestWriteFailureKeepsTheOld(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	// A directory in the way of the new file stands for a disk that does not write.
	if err := os.MkdirAll(filepath.Join(dir, keystoreTemp, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ConfirmPhrase(ctx, dir, []byte("open sesame")); err == nil {
		t.Fatal("written in spite of it")
	}
	if sum, err := Inspect(dir); err != nil || !sum.PhrasePending {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestConcurrentChanges(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	pass := []byte("open sesame")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			err := change(ctx, dir, pass, func(k *keystore, c *contents, _ *secret, _ int) (bool, error) {
				c.version = did.Version{Number: c.version.Number + 1, ID: "x"}
				return true, nil
			})
			if err != nil {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	err := change(ctx, dir, pass, func(_ *keystore, c *contents, _ *secret, _ int) (bool, error) {
		if c.version.Number != 5 {
			t.Errorf("4 changes, version %d after 1", c.version.Number)
		}
		return false, nil
	})
	if err != nil {
		t.Fatal(err)
	}

	release, err := lockDir(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	short, cancel := context.WithTimeout(ctx, 3*lockPoll)
	defer cancel()
	if err := ConfirmPhrase(short, dir, pass); !errors.Is(err, ErrBusy) {
		t.Errorf("while another changes it: %v", err)
	}
}

func FuzzParseKeystore(f *testing.F) {
	dir, _ := testIdentity(f, nil)
	good, err := os.ReadFile(filepath.Join(dir, keystoreName))
	if err != nil {
		f.Fatal(err)
	}
	body := good[:len(good)-sumSize]
	f.Add(body)
	f.Add(body[:40])
	f.Add([]byte(keystoreMagic))
	f.Add(append([]byte(keystoreMagic), make([]byte, 200)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := rehash(append(bytes.Clone(body), make([]byte, sumSize)...))
		k, err := parseKeystore(b)
		if err != nil {
			if !errors.Is(err, ErrKeystore) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		if again := k.encode(); !bytes.Equal(again, b) {
			t.Fatalf("one keystore, two encodings:\n%x\n%x", b, again)
		}
	})
}

func FuzzParseContents(f *testing.F) {
	p := testPhrase(f)
	c, err := deriveContents(p)
	if err != nil {
		f.Fatal(err)
	}
	defer c.wipe()
	c.name, c.keyID, c.version, c.document = "n", "k", did.Version{Number: 1, ID: "1"}, []byte("{}")
	b, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(b.bytes()))
	f.Add(make([]byte, 100))
	b.wipe()
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseContents(b, formatFixed)
		if err != nil {
			if !errors.Is(err, ErrKeystore) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		defer c.wipe()
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		defer again.wipe()
		if !bytes.Equal(again.bytes(), b) {
			t.Fatalf("one contents, two encodings:\n%x\n%x", b, again.bytes())
		}
	})
}
