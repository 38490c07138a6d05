package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// robbed is an identity with two devices, one of which a thief has.
type robbed struct {
	phrase *Phrase
	log    *webvh.Log
	owner  string             // keystore directory of the owner's device
	pass   []byte             // opens it
	stolen ed25519.PrivateKey // update key of the thief's device
	req    *Request           // of one more device
}

// keyed makes keystores that a key opens, without Argon2; the key's text goes to pass.
func keyed(pass *[]byte) slotMaker {
	return func(k *keystore, master *secret) (s slot, err error) {
		s, *pass, err = k.newKeySlot(master)
		return s, err
	}
}

func newRobbed(t *testing.T) *robbed {
	t.Helper()
	ctx := context.Background()
	b := &robbed{owner: t.TempDir()}
	id, err := Init(ctx, InitConfig{Dir: b.owner, Passphrase: devicePass, DeviceName: "first", first: keyed(&b.pass)})
	if err != nil {
		t.Fatal(err)
	}
	b.phrase = id.Phrase
	t.Cleanup(b.phrase.Wipe)
	thief := t.TempDir()
	if _, err := Approve(ctx, b.owner, b.pass, enrolIn(t, thief), Grant{Scope: ScopeFull}); err != nil {
		t.Fatal(err)
	}
	b.req = enrolIn(t, t.TempDir())
	// The thief's device was let in with all rights.
	if b.log, err = ReadLog(ctx, readLog(t, b.owner)); err != nil {
		t.Fatal(err)
	}
	err = waiting(ctx, thief, devicePass, func(_ *contents, updates *secret) error {
		key, err := updateKey(updates, 0)
		if err != nil {
			return err
		}
		defer key.wipe()
		b.stolen = ed25519.NewKeyFromSeed(key.bytes())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keystore copies the owner's keystore, with a log beside it.
func (b *robbed) keystore(dir string, log []byte) error {
	text, err := os.ReadFile(filepath.Join(b.owner, keystoreName))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, keystoreName), text, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, logName), log, 0o600)
	}
	return err
}

// Whatever somebody with an update key writes that holds, the phrase takes the identity
// back, and everything works from then on; and while it holds, devices can be listed.
//
// 300 histories, and 10,000 with IPFSCLOUD_SOAK. A history that fails is the same again
// with its number in IPFSCLOUD_HISTORY, and, after a space, how many to try from there on.
func TestRecoverFromAnyHistory(t *testing.T) {
	first, last := 0, 300
	if os.Getenv("IPFSCLOUD_SOAK") != "" {
		last = 10_000
	}
	if n := os.Getenv("IPFSCLOUD_HISTORY"); n != "" {
		if _, err := fmt.Sscanf(n+" 1", "%d %d", &first, &last); err != nil {
			t.Fatal(err)
		}
		last += first
	}
	b := newRobbed(t)
	count := forgeries{tried: map[string]int{}, held: map[string]int{}}
	var mu sync.Mutex // guards all below and count
	var tried, held, unchanged, rotated, bytes int
	began := time.Now()
	numbers := make(chan int)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		dir := t.TempDir()
		all.Go(func() {
			for i := range numbers {
				f := &forger{r: rand.New(rand.NewPCG(15, uint64(i))), log: b.log, fat: i%100 == 99,
					keys: map[string]ed25519.PrivateKey{webvh.HashKey(multikeyOf(b.stolen)): b.stolen}}
				for range 1 + f.r.IntN(20) {
					names, ok := f.next(context.Background())
					mu.Lock()
					count.count(names, ok)
					tried++
					if ok {
						held++
					}
					mu.Unlock()
				}
				sub := filepath.Join(dir, fmt.Sprint(i))
				ownWrote, err := b.recover(sub, f)
				if err != nil {
					t.Errorf("history %d (%s): %v", i, strings.Join(f.did, "; "), err)
				}
				if err := os.RemoveAll(sub); err != nil {
					t.Error(err)
				}
				mu.Lock()
				bytes += len(f.log.Bytes())
				if len(f.did) == 0 {
					unchanged++
				}
				if ownWrote {
					rotated++
				}
				mu.Unlock()
			}
		})
	}
	for i := first; i < last; i++ {
		numbers <- i
	}
	close(numbers)
	all.Wait()
	t.Logf("%d histories in %v: %d entries of %d held, %d MiB of logs, %d histories without any; the owner's device wrote on top of %d",
		last-first, time.Since(began).Round(time.Second), held, tried, bytes>>20, unchanged, rotated)
	if last-first < 300 {
		return
	}
	if held*3 < tried || unchanged*5 > last-first || rotated*3 < last-first {
		t.Error("too few entries held for this to show anything")
	}
	for _, name := range []string{"method", "hashes dropped", "hashes full", "hashes of devices", "context", "controller", "deep", "deep service", "names",
		"key of another type", "key inside", "device", "devices, many", "device twice", "only me", "expires", "services", "services, tiny", "our services", "moved", "moved far", "soon", "spaces", "member gone"} {
		if count.held[name] == 0 {
			t.Errorf("no entry with %q held, of %d", name, count.tried[name])
		}
	}
	for _, name := range []string{"witness", "witness none", "watchers", "portable off", "deactivated", "ttl", "scid", "long hashes", "recovery of one's own", "deactivated document", "proof ends"} {
		if n := count.held[name]; n > 0 {
			t.Errorf("%d entries with %q held", n, name)
		}
	}
}

// recover goes on from what a forger wrote. It tells whether the owner's device could.
func (b *robbed) recover(dir string, f *forger) (wrote bool, err error) {
	ctx := context.Background()
	log := f.log.Bytes()
	say := func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

	// The owner's device has taken the entries in.
	own := filepath.Join(dir, "own")
	if err := b.keystore(own, b.log.Bytes()); err != nil {
		return false, err
	}
	if taken, err := TakeLog(ctx, own, log); err != nil || taken != (len(f.did) > 0) {
		return false, fmt.Errorf("the owner's device took the log: %t, %w", taken, err)
	}
	if _, err := DeviceHistory(ctx, own); err != nil {
		return false, say("device list", err)
	}
	if _, err := Rotate(ctx, own, b.pass); err == nil {
		wrote = true
		if f.r.IntN(2) == 0 {
			if log, err = os.ReadFile(filepath.Join(own, logName)); err != nil {
				return true, err
			}
		}
	} else if !mayFail(err) {
		return false, say("id rotate of the owner's device", err)
	}

	// The owner recovers, and sometimes once more, with the phrase that came of it.
	phrase := b.phrase
	for n := range 1 + f.r.IntN(5)/4 {
		to := filepath.Join(dir, fmt.Sprint(n))
		var pass []byte
		id, err := Recover(ctx, InitConfig{Dir: to, Passphrase: devicePass, Phrase: phrase, DeviceName: "new", first: keyed(&pass)}, Found{DID: b.log.Last().ID.String(), Log: log})
		if err != nil {
			return wrote, say("recover", err)
		}
		defer id.Phrase.Wipe()
		phrase = id.Phrase
		// It is at the place that the new phrase derives, wherever the thief has moved it.
		place, err := phrase.PublishedName()
		if err != nil {
			return wrote, err
		}
		if at, _ := NameOf(id.DID); at != place || SelfCertifying(id.DID) != SelfCertifying(b.log.Last().ID.String()) {
			return wrote, fmt.Errorf("recovered at %s", id.DID)
		}
		if s, err := Login(ctx, to, pass); err != nil {
			return wrote, say("login", err)
		} else if err := s.Close(); err != nil {
			return wrote, err
		}
		if _, err := Approve(ctx, to, pass, b.req, Grant{Scope: ScopeFull}); err != nil {
			return wrote, say("device approve", err)
		}
		if _, err := Revoke(ctx, to, pass, b.req.Device()); err != nil {
			return wrote, say("device revoke", err)
		}
		if _, err := Rotate(ctx, to, pass); err != nil {
			return wrote, say("id rotate", err)
		}
		listed := 0
		past, err := DeviceHistory(ctx, to)
		for _, d := range past {
			if d.Removed.Version == "" {
				listed++
			}
		}
		if err != nil || listed != 1 {
			return wrote, fmt.Errorf("device list: %d of %d, %w", listed, len(past), err)
		}
		if log, err = os.ReadFile(filepath.Join(to, logName)); err != nil {
			return wrote, err
		}
		l, err := ReadLog(ctx, log)
		if err != nil {
			return wrote, say("the log afterwards", err)
		}
		for _, h := range l.Params().NextKeyHashes {
			if f.keys[h] != nil {
				return wrote, fmt.Errorf("the thief's key is still committed to")
			}
		}
		if len(l.Params().NextKeyHashes) != 4 { // a key and the recovery key, with their marks
			return wrote, fmt.Errorf("committed to %q", l.Params().NextKeyHashes)
		}
	}
	// What holds today holds in ten years.
	later := webvh.Rules()
	later.Now = func() time.Time { return time.Now().AddDate(10, 0, 0) }
	l, err := later.Verify(ctx, log, nil)
	if err == nil {
		err = l.Failure()
	}
	if err != nil {
		return wrote, say("the log in ten years", err)
	}
	return wrote, nil
}

// Entries at the end of a log that do not hold count as not written, for a recovery alone.
// That it is this machine's clock that is wrong is thought of first.
func TestRecoverLeavesOutWhatDoesNotHold(t *testing.T) {
	ctx := context.Background()
	b := newRobbed(t)
	for name, c := range map[string]struct {
		change func(f *forger, d *draft)
		clock  bool
	}{
		"a witness":           {mutations["witness"], false},
		"not readable":        {func(_ *forger, d *draft) { d.state["verificationMethod"] = 5.0 }, false},
		"in an hour":          {func(_ *forger, d *draft) { d.time = time.Now().UTC().Add(time.Hour).Format(time.RFC3339) }, true},
		"in a thousand years": {func(_ *forger, d *draft) { d.time = "3026-01-01T00:00:00Z" }, false},
	} {
		f := &forger{r: rand.New(rand.NewPCG(1, 1)), log: b.log, keys: map[string]ed25519.PrivateKey{}}
		d := f.plain(b.stolen)
		c.change(f, d)
		line, err := f.sealed(ctx, d, b.stolen)
		if err != nil {
			t.Fatal(err)
		}
		log := append(b.log.Bytes(), line...)
		if _, err := ReadLog(ctx, log); err == nil {
			t.Fatalf("%s: the entry holds", name)
		}
		var pass []byte
		to := t.TempDir()
		id, err := Recover(ctx, InitConfig{Dir: to, Passphrase: devicePass, Phrase: b.phrase, first: keyed(&pass)}, Found{DID: b.log.Last().ID.String(), Log: log})
		if c.clock {
			if !errors.Is(err, ErrClock) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		id.Phrase.Wipe()
		l, err := ReadLog(ctx, readLog(t, to))
		if err != nil || l.Len() != b.log.Len()+1 || !l.Extends(b.log) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

// A move that a device has made is taken back: the DID moves to the place that the new phrase
// has for it. The name of the other place stays, as the specification wants it.
func TestRecoverTakesAMoveBack(t *testing.T) {
	ctx := context.Background()
	b := newRobbed(t)
	home := b.log.Last().ID.String()
	moved, err := Move(ctx, b.owner, b.pass, "thief.example")
	if err != nil || moved.ID == home {
		t.Fatal(moved, err)
	}
	var pass []byte
	to := t.TempDir()
	id, err := Recover(ctx, InitConfig{Dir: to, Passphrase: devicePass, Phrase: b.phrase, first: keyed(&pass)}, Found{DID: moved.ID, Log: readLog(t, b.owner)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := id.Phrase.PublishedName()
	id.Phrase.Wipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Login(ctx, to, pass)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, ok := NameOf(id.DID); !ok || got != want || id.DID == home || SelfCertifying(id.DID) != SelfCertifying(home) {
		t.Errorf("at %s, want the name %s", id.DID, want)
	}
	if _, keys, err := s.PublishingKeys(ctx); err != nil || len(keys) != 2 {
		t.Errorf("%d publishing keys, want the new one and the former: %v", len(keys), err)
	}
	// Unless the owner says that it is a place of the owner's.
	named, err := Recover(ctx, InitConfig{Dir: t.TempDir(), Passphrase: devicePass, Phrase: b.phrase, Domain: "thief.example", first: keyed(&pass)}, Found{DID: moved.ID, Log: readLog(t, b.owner)})
	if err != nil {
		t.Fatal(err)
	}
	named.Phrase.Wipe()
	if named.DID != moved.ID {
		t.Errorf("named, and moved to %s", named.DID)
	}
	if doc, err := Resolver(to).Resolve(ctx, moved.ID); err != nil || doc.ID != id.DID || len(doc.AlsoKnownAs) != 1 || doc.AlsoKnownAs[0] != moved.ID {
		t.Errorf("by the name that it had: %+v, %v", doc, err)
	}
}
