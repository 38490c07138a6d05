package auth

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// addTestKey adds a key slot and returns the key.
func addTestKey(t *testing.T, dir string, current []byte) (Slot, []byte) {
	t.Helper()
	var key []byte
	s, err := AddKey(testContext(t), dir, current, func(text []byte) error {
		key = bytes.Clone(text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

func opens(t *testing.T, dir string, pass []byte) error {
	t.Helper()
	s, err := Login(testContext(t), dir, pass)
	if err == nil {
		s.Close()
	}
	return err
}

func TestSlots(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	first := []byte("open sesame")
	slots, err := Slots(dir)
	if err != nil || len(slots) != 1 || slots[0].Kind != SlotPassphrase || *slots[0].KDF != cheap() {
		t.Fatalf("%+v, %v", slots, err)
	}
	one := slots[0].ID
	for _, alone := range []bool{false, true} {
		if err := RemoveSlot(ctx, dir, first, one, alone); !errors.Is(err, ErrSlot) {
			t.Errorf("the last slot was removed: %v", err)
		}
	}
	two, err := AddPassphrase(ctx, dir, first, []byte("second"), cheap())
	if err != nil {
		t.Fatal(err)
	}
	three, key := addTestKey(t, dir, []byte("second"))
	if three.Kind != SlotKey || three.KDF != nil {
		t.Errorf("%+v", three)
	}
	for _, pass := range [][]byte{first, []byte("second"), key} {
		if err := opens(t, dir, pass); err != nil {
			t.Errorf("%.20q: %v", pass, err)
		}
	}

	// What opens nothing changes nothing.
	stranger := keyOf(t)
	for name, pass := range map[string][]byte{"wrong": []byte("guess"), "other key": stranger} {
		if _, err := AddPassphrase(ctx, dir, pass, []byte("x"), cheap()); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: added: %v", name, err)
		}
		if err := RemoveSlot(ctx, dir, pass, one, false); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: removed: %v", name, err)
		}
	}
	if err := RemoveSlot(ctx, dir, first, "00", false); !errors.Is(err, ErrSlot) || !errors.Is(err, ErrInvalid) {
		t.Errorf("no such slot: %v", err)
	}
	for name, next := range map[string][]byte{"empty": nil, "key": key, "like a key": []byte(keyPrefix)} {
		if _, err := AddPassphrase(ctx, dir, first, next, cheap()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s as a passphrase: %v", name, err)
		}
	}
	if err := ChangePassphrase(ctx, dir, key, []byte("x"), cheap()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key's slot became a passphrase: %v", err)
	}
	full := errors.New("no space")
	if _, err := AddKey(ctx, dir, first, func([]byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("a key that was not kept: %v", err)
	}
	if slots, _ = Slots(dir); len(slots) != 3 {
		t.Errorf("%+v", slots)
	}

	// A slot removes any, also the one that opened.
	if err := RemoveSlot(ctx, dir, first, one, false); err != nil {
		t.Fatal(err)
	}
	if err := opens(t, dir, first); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the removed passphrase: %v", err)
	}
	if err := RemoveSlot(ctx, dir, key, two.ID, false); !errors.Is(err, ErrSlot) {
		t.Errorf("the last passphrase went without a word: %v", err)
	}
	if err := RemoveSlot(ctx, dir, key, two.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := RemoveSlot(ctx, dir, key, three.ID, true); !errors.Is(err, ErrSlot) {
		t.Errorf("the last slot was removed: %v", err)
	}
	if err := opens(t, dir, key); err != nil {
		t.Error(err)
	}
	if sum, err := Inspect(dir); err != nil || sum.KDF != (KDF{}) {
		t.Errorf("%+v, %v", sum, err)
	}
}

// keyOf is the key of some other keystore.
func keyOf(t *testing.T) []byte {
	t.Helper()
	dir, _ := testIdentity(t, nil)
	_, key := addTestKey(t, dir, []byte("open sesame"))
	return key
}

func TestSlotsAreFew(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	_, key := addTestKey(t, dir, []byte("open sesame"))
	for range slotMax - 2 {
		addTestKey(t, dir, key)
	}
	if _, err := AddKey(ctx, dir, key, func([]byte) error { return nil }); !errors.Is(err, ErrSlot) {
		t.Errorf("slot %d: %v", slotMax+1, err)
	}
	for _, pass := range [][]byte{key, []byte("open sesame")} {
		if err := opens(t, dir, pass); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedKey(t *testing.T) {
	dir, _ := testIdentity(t, nil)
	_, key := addTestKey(t, dir, []byte("open sesame"))
	for i := len(keyPrefix); i < len(key); i++ {
		other := bytes.Clone(key)
		if other[i]++; bytes.Equal(other, key) {
			t.Fatal("not altered")
		}
		for _, bad := range [][]byte{other, key[:i]} {
			if err := opens(t, dir, bad); !errors.Is(err, ErrInvalid) {
				t.Fatalf("%d: %v", i, err)
			} else if strings.Contains(err.Error(), string(key[len(keyPrefix):i])) && i > len(keyPrefix)+2 {
				t.Fatalf("the error tells the key: %v", err)
			}
		}
	}
	if err := opens(t, dir, append(bytes.Clone(key), 'A')); !errors.Is(err, ErrInvalid) {
		t.Errorf("longer: %v", err)
	}
}

func TestChangePassphraseKeepsTheWork(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	work := func() KDF {
		sum, err := Inspect(dir)
		if err != nil {
			t.Fatal(err)
		}
		return sum.KDF
	}
	if err := ChangePassphrase(ctx, dir, []byte("open sesame"), []byte("2"), KDF{}); err != nil || work() != (KDF{}).orDefault() {
		t.Errorf("%+v, %v", work(), err) // the least became the default
	}
	more := KDF{Time: 14, Memory: 64 << 10, Threads: 4}
	for i, kdf := range []KDF{more, {}} {
		if err := ChangePassphrase(ctx, dir, []byte{'2' + byte(i)}, []byte{'3' + byte(i)}, kdf); err != nil || work() != more {
			t.Errorf("%+v, %v", work(), err)
		}
	}
}

// A reader at any moment sees a whole keystore, the old or the new one.
func TestSlotsAreWrittenAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	dir, _ := testIdentity(t, nil)
	_, key := addTestKey(t, dir, []byte("open sesame"))
	var reader sync.WaitGroup
	reader.Go(func() {
		for ctx.Err() == nil {
			if s, err := Slots(dir); err != nil || len(s) < 2 || len(s) > 3 {
				t.Errorf("%+v, %v", s, err)
				return
			}
		}
	})
	for range 20 {
		s, _ := addTestKey(t, dir, key)
		if err := RemoveSlot(ctx, dir, key, s.ID, false); err != nil {
			t.Error(err)
		}
	}
	cancel()
	reader.Wait()
}

func TestCheckNamesTheDamage(t *testing.T) {
	ctx := testContext(t)
	dir, _ := testIdentity(t, nil)
	path := filepath.Join(dir, keystoreName)
	pass := []byte("open sesame")
	parts, err := Check(ctx, dir, pass)
	if err != nil || len(parts) == 0 {
		t.Fatalf("%+v, %v", parts, err)
	}
	if _, err := Check(ctx, dir, []byte("guess")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	_, key := addTestKey(t, dir, pass)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeystore(good)
	if err != nil {
		t.Fatal(err)
	}
	slot1 := len(k.identity()) + 2
	slot2 := slot1 + 98
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		pass []byte
		want string // part that is named
	}{
		"flags":          {flip(slot1 - 2), key, "flags"},
		"magic":          {flip(0), key, "layout"},
		"version":        {flip(4), key, "layout"},
		"slots":          {flip(slot1 - 1), key, "layout"},
		"DID":            {flip(30), key, partSlots},
		"own slot":       {flip(slot2 + 5), key, partSlots},
		"other slot":     {flip(slot1 + 60), key, "contents, or another slot"},
		"other slot's":   {flip(slot2 + 60), pass, "contents, or another slot"},
		"slot's kind":    {flip(slot1), key, "layout"},
		"contents":       {flip(len(good) - 60), key, "contents, or another slot"},
		"checksum":       {flip(len(good) - 1), key, "checksum"},
		"cut":            {good[:len(good)-40], key, "layout"},
		"longer":         {append(bytes.Clone(good), 1, 2), key, "layout"},
		"empty":          {nil, key, "layout"},
		"cut in slot 2":  {good[:slot2+10], key, "layout"},
		"cut in the DID": {good[:30], key, "layout"},
	} {
		if err := os.WriteFile(path, c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		parts, err := Check(ctx, dir, c.pass)
		if !errors.Is(err, ErrKeystore) {
			t.Errorf("%s: %v", name, err)
		}
		found := false
		for _, p := range parts {
			found = found || p.Damaged && p.Name == c.want
		}
		if !found {
			t.Errorf("%s: %q is not named in %+v", name, c.want, parts)
		}
	}
	for at, want := range map[int]string{10: "names of identity", slot1 + 7: "slot 1", slot2 + 20: "slot 2", len(good) - 50: "contents", len(good) - 5: "checksum"} {
		if _, err := parseKeystore(good[:at]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("cut at %d: %v does not name %q", at, err, want)
		}
	}
}

// BenchmarkGuess is what a guess at a passphrase costs; FORMAT.md states it.
func BenchmarkGuess(b *testing.B) {
	salt := make([]byte, saltSize)
	for b.Loop() {
		key, err := (KDF{}).orDefault().derive([]byte("guess"), salt)
		if err != nil {
			b.Fatal(err)
		}
		key.wipe()
	}
}
