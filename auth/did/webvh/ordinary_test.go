package webvh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// recoverable is a log with a recovery key, and what a thief with one update key may write.
type recoverable struct {
	owner, thief, mine, recovery, recovery2 signer
}

func newRecoverable() recoverable {
	return recoverable{testSigner(1), testSigner(2), testSigner(3), testSigner(8), testSigner(9)}
}

func marks(s signer) []any {
	h := HashKey(s.multikey())
	return []any{h, MarkRecovery(h)}
}

func (r recoverable) start(t *testing.T) *forger {
	return newForger(t).add(genesis(r.owner, "portable", true, "nextKeyHashes", append(hashes(r.owner, r.thief), marks(r.recovery)...)), nil, r.owner)
}

// ordinary are the parameters of a good entry by a key that the log has committed to.
func (r recoverable) ordinary(by, next signer, more ...any) object {
	p := object{"updateKeys": keys(by), "nextKeyHashes": append(hashes(next), marks(r.recovery)...)}
	for i := 0; i < len(more); i += 2 {
		p[more[i].(string)] = more[i+1]
	}
	return p
}

func failure(t *testing.T, v Verifier, log []byte) error {
	t.Helper()
	l, err := v.Verify(context.Background(), log, nil)
	if err != nil {
		return err
	}
	return l.Failure()
}

// What an entry that the recovery key has not signed may do, and what not. To others all of
// these hold.
func TestOrdinaryEntries(t *testing.T) {
	r := newRecoverable()
	state := func(change func(state object, id string)) func(object) {
		return func(body object) { s := body["state"].(object); change(s, s["id"].(string)) }
	}
	member := func(name string, v any) func(object) { return state(func(s object, _ string) { s[name] = v }) }
	key := func(id string, more ...any) object {
		k := object{"id": id + "#k", "type": "Multikey", "controller": id, "publicKeyMultibase": r.mine.multikey()}
		for i := 0; i < len(more); i += 2 {
			k[more[i].(string)] = more[i+1]
		}
		return k
	}
	moved := state(func(s object, id string) {
		s["alsoKnownAs"] = []any{id}
		s["id"] = strings.Replace(id, "example.com", "thief.example", 1)
	})
	many := func(n int) func(object) {
		return state(func(s object, id string) {
			var list []any
			for i := range n {
				list = append(list, object{"id": fmt.Sprintf("#%d", i), "type": "T"})
			}
			s["verificationMethod"] = list
		})
	}
	ordinary := r.ordinary(r.thief, r.mine)
	for name, c := range map[string]struct {
		params object
		change func(object)
		holds  bool
	}{
		"rotates":            {ordinary, nil, true},
		"method again":       {r.ordinary(r.thief, r.mine, "method", Method10), nil, true},
		"other devices gone": {ordinary, nil, true},
		"lists a device": {ordinary, state(func(s object, id string) {
			s["verificationMethod"], s["authentication"] = []any{key(id)}, []any{id + "#k"}
		}), true},
		"a service": {ordinary, member("service", []any{object{"id": "#s", "type": "T", "serviceEndpoint": object{"any": []any{1.0, nil}}}}), true},
		"names":     {ordinary, member("alsoKnownAs", []any{"https://example.com/"}), true},
		"a key we cannot use": {ordinary, state(func(s object, id string) {
			s["authentication"] = []any{key(id, "type", "Other", "publicKeyMultibase", nil)}
		}), true},
		"moves":                      {ordinary, moved, true},
		"256 keys":                   {ordinary, many(MaxKeys), true},
		"a large document":           {ordinary, member("@context", []any{strings.Repeat("a", 400<<10)}), true},
		"a witness":                  {r.ordinary(r.thief, r.mine, "witness", witnesses(1, r.mine)), nil, false},
		"no witness":                 {r.ordinary(r.thief, r.mine, "witness", object{}), nil, false},
		"not portable":               {r.ordinary(r.thief, r.mine, "portable", false), nil, false},
		"moves for good":             {r.ordinary(r.thief, r.mine, "portable", false), nil, false},
		"deactivated":                {r.ordinary(r.thief, r.mine, "deactivated", true), nil, false},
		"not deactivated":            {r.ordinary(r.thief, r.mine, "deactivated", false), nil, false},
		"ttl":                        {r.ordinary(r.thief, r.mine, "ttl", float64(1<<31)), nil, false},
		"watchers":                   {r.ordinary(r.thief, r.mine, "watchers", []any{"https://thief.example/"}), nil, false},
		"text for a hash":            {object{"updateKeys": keys(r.thief), "nextKeyHashes": append(marks(r.recovery), strings.Repeat("x", 4096))}, nil, false},
		"document deactivated":       {ordinary, member("deactivated", true), false},
		"document not deactivated":   {ordinary, member("deactivated", false), false},
		"an unknown member":          {ordinary, member("note", "x"), false},
		"methods a number":           {ordinary, member("verificationMethod", 5.0), false},
		"names a number":             {ordinary, member("alsoKnownAs", 5.0), false},
		"a name a number":            {ordinary, member("alsoKnownAs", []any{5.0}), false},
		"services an object":         {ordinary, member("service", object{}), false},
		"authentication a list of 1": {ordinary, member("authentication", []any{1.0}), false},
		"a key without id":           {ordinary, member("verificationMethod", []any{object{"type": "Multikey"}}), false},
		"a broken key":               {ordinary, state(func(s object, id string) { s["verificationMethod"] = []any{key(id, "publicKeyMultibase", "zOIl")} }), false},
		"an end that cannot be": {ordinary, state(func(s object, id string) {
			s["verificationMethod"] = []any{key(id, "expires", "9999-12-31T23:59:59-01:00")}
		}), false},
		"257 keys":         {ordinary, many(MaxKeys + 1), false},
		"too large a line": {ordinary, member("@context", []any{strings.Repeat("a", MaxOrdinaryEntry)}), false},
		"too large when rewritten": {ordinary, state(func(s object, _ string) {
			var list []any
			for range 5000 {
				list = append(list, object{"serviceEndpoint": 1e20})
			}
			s["service"] = list
		}), false},
	} {
		f := r.start(t).add(c.params, c.change, r.thief)
		err := failure(t, Rules(), f.log())
		if (err == nil) != c.holds || !c.holds && kind(err) != KindRecovery {
			t.Errorf("%s: %v", name, err)
		}
		if err := failure(t, Verifier{}, f.log()); err != nil && name != "a witness" { // who has not approved
			t.Errorf("%s, to the letter: %v", name, err)
		}
		// Without a recovery key the specification alone counts, also here.
		free := newForger(t).add(genesis(r.thief, "portable", true), nil, r.thief)
		params := object{}
		for n, v := range c.params {
			if n != "updateKeys" && n != "nextKeyHashes" && n != "witness" {
				params[n] = v
			}
		}
		if err := failure(t, Rules(), free.add(params, c.change, r.thief).log()); err != nil {
			t.Errorf("%s, without a recovery key: %v", name, err)
		}
		// Whatever held, and whatever did not, the recovery key has the last word. Its own
		// entry may do all that the specification lets it.
		l, err := Rules().Verify(context.Background(), f.log(), nil)
		if err != nil {
			t.Fatal(err)
		}
		m := New(Config{Verifier: Rules()})
		if err := m.cfg.Store.Save(context.Background(), l.Last().ID, l.Bytes(), nil); err != nil {
			t.Fatal(err)
		}
		doc, err := m.Recover(context.Background(), l.Last().ID.String(), with(change(r.owner, r.mine.Public()), r.recovery2), r.recovery)
		if err != nil || doc.ID != f.id() || len(doc.KeysFor(did.Authentication)) != 1 {
			t.Errorf("%s, recovered: %+v, %v", name, doc, err)
		}
	}
	by := r.start(t).add(object{"updateKeys": keys(r.recovery), "nextKeyHashes": marks(r.recovery2), "ttl": 60.0, "watchers": []any{"https://w.example/"}, "witness": object{}}, member("note", "x"), r.recovery)
	if err := failure(t, Rules(), by.log()); err != nil {
		t.Errorf("by the recovery key: %v", err)
	}
	if l, err := Rules().Verify(context.Background(), by.log(), nil); err != nil || l.Vouched() != 2 {
		t.Errorf("vouched for: %v", err)
	}
}

// No key is needed to repeat a proof: who serves a log could make it larger that way.
func TestProofTwice(t *testing.T) {
	r := newRecoverable()
	f := r.start(t).add(r.ordinary(r.thief, r.mine), nil, r.thief)
	good := f.lines[1]
	from, to := bytes.Index(good, []byte(`"proof":[{`))+len(`"proof":[`), bytes.Index(good, []byte(`],"state"`))
	twice := slices.Concat(good[:to], []byte(","), good[from:])
	log := bytes.Join([][]byte{f.lines[0], twice}, []byte("\n"))
	if err := failure(t, Verifier{}, log); err != nil {
		t.Errorf("to the letter: %v", err)
	}
	if err := failure(t, Rules(), log); kind(err) != KindRecovery {
		t.Errorf("a proof twice: %v", err)
	}
}

// Spaces are nobody's: who serves a log does not make it larger by them.
func TestSpacesDoNotCount(t *testing.T) {
	r := newRecoverable()
	f := r.start(t).add(r.ordinary(r.thief, r.mine), nil, r.thief)
	padded := bytes.ReplaceAll(f.log(), []byte(`{"parameters"`), []byte("{"+strings.Repeat(" ", MaxEntry/2)+`"parameters"`))
	l, err := Rules().Verify(context.Background(), padded, nil)
	if err != nil || l.Failure() != nil || !bytes.Equal(l.Bytes(), f.log()) {
		t.Errorf("%v, %v: %d bytes of %d", err, l.Failure(), len(l.Bytes()), len(padded))
	}
}

// A thief fills his share after every recovery, and there is room for eight.
func TestRoomForRecoveries(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	v := Rules()
	v.Now = func() time.Time { now = now.Add(2 * time.Second); return now }
	keyOf := func(n int) signer { return testSigner(byte(n)) }
	m := New(Config{Verifier: v, Location: "example.com", Portable: true})
	doc, err := m.Create(ctx, with(change(keyOf(1), keyOf(20).Public()), keyOf(100)), keyOf(1))
	if err != nil {
		t.Fatal(err)
	}
	l := newest(t, m, doc.ID)
	thief := 20
	for round := range 8 {
		// Large entries, then smaller ones, until none fits in any more.
		for size := 400 << 10; size > 0; {
			spent := keyOf(thief)
			d := Draft{UpdateKeys: []string{spent.multikey()}}
			held := l.Params().NextKeyHashes
			for _, h := range RecoveryHashes(held) {
				d.NextKeyHashes = append(d.NextKeyHashes, h, MarkRecovery(h))
			}
			next := 20 + (thief-19)%60
			d.NextKeyHashes = append(d.NextKeyHashes, HashKey(keyOf(next).multikey()))
			d.State = []byte(`{"@context":"` + strings.Repeat("x", size) + `","id":"` + l.Last().ID.String() + `"}`)
			longer, err := v.Append(ctx, l, d, spent)
			if err != nil {
				if kind(err) != KindLog && (kind(err) != KindRecovery || !strings.Contains(err.Error(), "makes room")) {
					t.Fatal(err)
				}
				size /= 2
				continue
			}
			l, thief = longer, next
		}
		before := l.Room()
		if err := m.cfg.Store.Save(ctx, l.Last().ID, l.Bytes(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Recover(ctx, doc.ID, with(change(keyOf(2), keyOf(thief).Public()), keyOf(101+round)), keyOf(100+round)); err != nil {
			t.Fatalf("round %d, with room for %d bytes: %v", round, before, err)
		}
		l = newest(t, m, doc.ID)
		if l.Vouched() != l.Len() {
			t.Errorf("round %d: vouched for is entry %d of %d", round, l.Vouched(), l.Len())
		}
	}
	if again, err := v.Verify(ctx, l.Bytes(), nil); err != nil || again.Failure() != nil {
		t.Fatalf("the log that was written: %v, %v", err, again.Failure())
	}
	t.Logf("%d entries, %d bytes, room for %d", l.Len(), len(l.Bytes()), l.Room())
	// A log that has no room at all is told when it is written, not when it is read again.
	full := *l
	full.entries = append([]verified(nil), l.entries...)
	full.last().end = MaxLog - 100
	if _, err := v.Append(ctx, &full, Draft{UpdateKeys: []string{keyOf(thief).multikey()}, NextKeyHashes: l.Params().NextKeyHashes}, keyOf(thief)); kind(err) != KindLog {
		t.Errorf("an entry beyond the limit: %v", err)
	}
}

// An entry may be dated five minutes ahead. The owner does not have to wait for that time.
func TestDatedAhead(t *testing.T) {
	ctx := context.Background()
	v := Rules() // with the real clock, which goes on while this works
	a := testSigner(1)
	state, err := Document(prefix+placeholder+":example.com", change(a))
	if err != nil {
		t.Fatal(err)
	}
	l, err := v.Create(ctx, Draft{State: state, UpdateKeys: []string{a.multikey()}}, a)
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(t)
	f.lines, f.scid = [][]byte{bytes.TrimSpace(l.Bytes())}, l.SCID()
	f.add(object{}, func(body object) {
		body["versionTime"] = time.Now().UTC().Add(MaxSkew).Format(time.RFC3339Nano)
		body["state"].(object)["id"] = l.Last().ID.String()
	}, a)
	if l, err = v.Extend(l, f.lines[1]); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if l, err = v.Append(ctx, l, Draft{}, a); err != nil {
			t.Fatal(err)
		}
	}
}

// Who has kept a log that an earlier version accepted is not stuck with it.
func TestKeptLogOutgrown(t *testing.T) {
	ctx := context.Background()
	r := newRecoverable()
	refused := r.start(t).add(r.ordinary(r.thief, r.mine, "witness", object{}), nil, r.thief)
	recovered := r.start(t).add(object{"updateKeys": keys(r.recovery), "nextKeyHashes": append(hashes(r.owner), marks(r.recovery2)...)}, nil, r.recovery)
	store := NewMemory()
	id, err := ParseID(refused.id())
	if err != nil {
		t.Fatal(err)
	}
	keep := func(log []byte) {
		if err := store.Save(ctx, id, log, nil); err != nil {
			t.Fatal(err)
		}
	}
	keep(refused.log())
	for name, sources := range map[string][]Source{"no source": nil, "the same": {fixed{log: refused.log()}}, "an older one": {fixed{log: r.start(t).log()}}} {
		if _, err := New(Config{Verifier: Rules(), Store: store, Sources: sources}).Newest(ctx, refused.id()); kind(err) != KindRecovery {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := New(Config{Verifier: Rules(), Store: store, Sources: []Source{fixed{log: recovered.log()}}})
	if l, err := m.Newest(ctx, refused.id()); err != nil || l.Last().VersionID != recovered.version(2) {
		t.Errorf("the owner's: %v", err)
	}
	// Damage is another matter.
	keep(bytes.Replace(refused.log(), []byte(`"versionId":"2-Qm`), []byte(`"versionId":"2-Qn`), 1))
	if _, err := m.Newest(ctx, refused.id()); err == nil || !errors.Is(err, did.ErrInvalid) {
		t.Errorf("a damaged one: %v", err)
	}
}
