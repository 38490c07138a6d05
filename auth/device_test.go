package auth

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

func lightKDF() KDF { return KDF{Time: 1, Memory: kdfMinMemory, Threads: 4} }

var devicePass = []byte("open sesame")

// foundIdentity makes an identity with one device, and returns its directory.
func foundIdentity(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	id, err := Init(context.Background(), InitConfig{Dir: dir, Passphrase: devicePass, DeviceName: "first", KDF: lightKDF()})
	if err != nil {
		t.Fatal(err)
	}
	id.Phrase.Wipe()
	return dir
}

func enrolIn(t *testing.T, dir string) *Request {
	t.Helper()
	r, err := Enrol(context.Background(), InitConfig{Dir: dir, Passphrase: devicePass, DeviceName: "second", KDF: lightKDF()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// joined makes a device of the identity in dir, and returns its directory.
func joined(t *testing.T, dir string, g Grant) (string, *Request) {
	t.Helper()
	ctx := context.Background()
	to := t.TempDir()
	r := enrolIn(t, to)
	done, err := Approve(ctx, dir, devicePass, r, g)
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Seal(Answer{DID: done.Document.ID, Version: done.Document.Version.ID, Log: done.Log, Notes: done.Notes})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Join(ctx, InitConfig{Dir: to, Passphrase: devicePass, KDF: lightKDF()}, text, nil); err != nil {
		t.Fatal(err)
	}
	return to, r
}

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	r := enrolIn(t, dir)
	text := r.Encode()
	again, err := ParseRequest(append([]byte("> pasted\r\n\n"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...))
	if err != nil || again.Device() != r.Device() || again.Code() != r.Code() || again.Scan() != r.Scan() || !bytes.Equal(again.Encode(), text) {
		t.Errorf("%+v, %v", again, err)
	}
	// Whatever byte of it is changed, it does not hold or it has another code.
	block, _ := pem.Decode(text)
	for i := range block.Bytes {
		b := bytes.Clone(block.Bytes)
		b[i] ^= 1
		if x, err := ReadRequest(b); err == nil {
			t.Errorf("byte %d changed: %+v", i, x)
		} else if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for n := range len(block.Bytes) {
		if _, err := ReadRequest(block.Bytes[:n]); err == nil {
			t.Errorf("cut to %d bytes it holds", n)
		}
	}
	code := r.Code()
	for _, given := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", " "), " " + code + "\n", r.Scan(), strings.ToLower(r.Scan())} {
		if err := r.CheckCode(given); err != nil {
			t.Errorf("%q: %v", given, err)
		}
	}
	other := enrolIn(t, t.TempDir())
	for _, given := range []string{"", "-", other.Code(), other.Scan(), code[:8], r.Scan()[:60]} {
		if err := r.CheckCode(given); !errors.Is(err, ErrCode) || strings.Contains(err.Error(), code) {
			t.Errorf("%q: %v", given, err)
		}
	}
	// It waits: nobody logs in, and asking again asks the same.
	if _, err := Login(context.Background(), dir, devicePass); !errors.Is(err, ErrEnrols) {
		t.Errorf("login: %v", err)
	}
	if x := enrolIn(t, dir); x.Scan() != r.Scan() {
		t.Error("asking again asks for other keys")
	}
	if _, err := Enrol(context.Background(), InitConfig{Dir: dir, Passphrase: []byte("wrong")}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("asking again with another passphrase: %v", err)
	}
	if _, err := Enrol(context.Background(), InitConfig{Dir: foundIdentity(t), Passphrase: devicePass}); !errors.Is(err, ErrExist) {
		t.Errorf("with an identity there: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	ctx := context.Background()
	dir, to := foundIdentity(t), t.TempDir()
	r := enrolIn(t, to)
	before := readLog(t, dir)
	done, err := Approve(ctx, dir, devicePass, r, Grant{Scope: ScopeFull})
	if err != nil {
		t.Fatal(err)
	}
	good := Answer{DID: done.Document.ID, Version: done.Document.Version.ID, Log: done.Log, Notes: done.Notes}
	cfg := InitConfig{Dir: to, Passphrase: devicePass, KDF: lightKDF()}
	seal := func(a Answer) []byte {
		t.Helper()
		text, err := r.Seal(a)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text := seal(good)
	code, err := AnswerCode(text)
	if err != nil || CheckAnswer(text, code) != nil {
		t.Errorf("code %q, %v", code, err)
	}
	second := seal(good) // the same once more: another answer
	if err := CheckAnswer(second, code); !errors.Is(err, ErrCode) {
		t.Errorf("another answer with the same code: %v", err)
	}
	sealed, err := AnswerBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	sealed[len(sealed)/2] ^= 1
	older, newer := good, good
	older.Log = before
	newer.Version = "9-QmZ4m4QCZZ1Xy5M27XH5xMZ3CyNBtDr7u2kL3HupnR2LkS"
	foreign := good
	foreign.Log = readLog(t, foundIdentity(t))
	damaged := good
	damaged.Log = bytes.Replace(good.Log, []byte(r.Device()), []byte("aaaaaaaaaaaaaaaa"), 1)
	for what, c := range map[string]struct {
		text []byte
		want error
	}{
		"damaged":                   {AnswerText(sealed), ErrNotRecipient},
		"no answer":                 {r.Encode(), ErrInvalid},
		"of the log before":         {seal(older), ErrRollback},
		"of a version to come":      {seal(newer), ErrRollback},
		"of another identity's log": {seal(foreign), did.ErrInvalid},
		"of a damaged log":          {seal(damaged), did.ErrInvalid},
		"of no log":                 {seal(Answer{DID: good.DID, Version: good.Version}), did.ErrInvalid},
	} {
		if _, _, err := Join(ctx, cfg, c.text, nil); !errors.Is(err, c.want) {
			t.Errorf("an answer %s: %v", what, err)
		}
	}
	if !Waits(to) {
		t.Fatal("what was refused has changed the keystore")
	}
	id, _, err := Join(ctx, cfg, text, nil)
	if err != nil || id.DID != good.DID || id.Device.ID != r.Device() {
		t.Fatalf("%+v, %v", id, err)
	}
	if _, _, err := Join(ctx, cfg, text, nil); !errors.Is(err, ErrExist) {
		t.Errorf("joined twice: %v", err)
	}
	s, err := Login(ctx, to, devicePass)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Devices(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "first" || list[1].Name != "second" || list[1].Scope != ScopeFull {
		t.Errorf("%+v, %v", list, err)
	}
	if recipients, err := s.Recipients(ctx); err != nil || len(recipients) != 3 {
		t.Errorf("%d recipients, %v", len(recipients), err)
	}
	// The publishing key came along.
	own, err := Login(ctx, dir, devicePass)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if s.keys.publishing == nil || !bytes.Equal(s.keys.publishing.bytes(), own.keys.publishing.bytes()) {
		t.Error("the publishing key did not come along")
	}
}

// Who has an update key can mark any key as another device's; it counts for nothing.
func TestMarksOfOthersDoNotCount(t *testing.T) {
	ctx := context.Background()
	dir := foundIdentity(t)
	thief, tr := joined(t, dir, Grant{Scope: ScopeFull})
	third, r3 := joined(t, dir, Grant{Scope: ScopeFull})
	if _, err := TakeLog(ctx, thief, readLog(t, third)); err != nil {
		t.Fatal(err)
	}
	evil, err := newSecret(seedSize)
	if err != nil {
		t.Fatal(err)
	}
	defer evil.wipe()
	keys, err := nextKeys(evil, 0)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := hashOf(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Update(ctx, thief, devicePass, func(_ *did.Document, next *did.Change) error {
		return commitNext(next, r3.Device(), keys)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := TakeLog(ctx, dir, readLog(t, thief)); err != nil {
		t.Fatal(err)
	}
	if _, err := Revoke(ctx, dir, devicePass, tr.Device()); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLog(ctx, readLog(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	left := l.Params().NextKeyHashes
	if slices.Contains(left, hash) || slices.Contains(left, webvh.MarkDevice(r3.Device(), hash)) {
		t.Error("the thief's key has stayed, marked as another device's")
	}
	// Two devices, the recovery key, and their marks.
	if len(left) != 6 || len(webvh.RecoveryHashes(left)) != 1 {
		t.Errorf("committed to %d: %q", len(left), left)
	}
	if _, err := TakeLog(ctx, third, l.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(ctx, third, devicePass); err != nil {
		t.Errorf("the third device cannot change the document: %v", err)
	}
	past, err := DeviceHistory(ctx, third)
	if err != nil || len(past) != 3 || past[1].ID != tr.Device() || past[1].Removed.By != past[0].ID || past[2].Removed.Version != "" || !past[2].This {
		t.Errorf("%+v, %v", past, err)
	}
}

func TestGrants(t *testing.T) {
	ctx := context.Background()
	dir := foundIdentity(t)
	r := enrolIn(t, t.TempDir())
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, g := range []Grant{{}, {Scope: "none"}, {Scope: ScopeWrite}, {Scope: ScopeFull, Until: end}, {Scope: ScopeRead, Until: end}} {
		if _, err := Approve(ctx, dir, devicePass, r, g); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", g, err)
		}
	}
	var last *did.Document
	for _, g := range []Grant{{Scope: ScopeRead}, {Scope: ScopeFull}, {Scope: ScopeWrite, Until: end}, {Scope: ScopeFull}, {Scope: ScopeRead}} {
		done, err := Approve(ctx, dir, devicePass, r, g)
		if err != nil {
			t.Fatal(err)
		}
		// What others change leaves a scope as it is.
		if last, err = AddService(ctx, dir, devicePass, "T", "https://example.com/"); err != nil {
			t.Fatal(err)
		}
		if got := grantOf(last, r.statement.Signing); got.Scope != g.Scope || !got.Until.Equal(g.Until) {
			t.Errorf("granted %+v, the document says %+v", g, got)
		}
		for at, want := range map[time.Time]bool{end.Add(-time.Second): g.Scope != ScopeRead, end.Add(time.Second): g.Scope == ScopeFull} {
			if v, err := NewHistory(last, nil).Standing(r.Device(), at); err != nil || (v.Standing == StandingWriter) != want {
				t.Errorf("%+v at %v: %+v, %v", g, at, v, err)
			}
		}
		l, err := ReadLog(ctx, readLog(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if has := webvh.Marked(l.Params().NextKeyHashes, r.Device(), r.Next); has != (g.Scope == ScopeFull) {
			t.Errorf("%+v: its update key is committed to: %t", g, has)
		}
		if again, err := Approve(ctx, dir, devicePass, r, g); err != nil || again.Document.Version != last.Version {
			t.Errorf("approved again: %v, %v, after %v", again.Document.Version, err, done.Document.Version)
		}
	}
	if v, err := NewHistory(last, nil).Standing("aaaaaaaaaaaaaaaa", time.Now()); err != nil || v.Standing != StandingUnknown {
		t.Errorf("a device that is not there: %+v, %v", v, err)
	}
	// Other programs read the end as the controlled identifiers' "expires".
	if !strings.Contains(string(readLog(t, dir)), `"expires":"`+end.Format(time.RFC3339)+`"`) {
		t.Error("no end in the log")
	}
	if _, err := Approve(ctx, filepath.Join(t.TempDir(), "none"), devicePass, r, Grant{Scope: ScopeFull}); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("without an identity: %v", err)
	}
}
