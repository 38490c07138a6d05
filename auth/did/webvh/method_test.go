package webvh

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// clock is a time that moves on by a minute whenever it is looked at.
func clock() func() time.Time {
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time { at = at.Add(time.Minute); return at }
}

func ours() Verifier { return Verifier{Recovery: true, Now: clock()} }

func change(device signer, next ...[]byte) did.Change {
	return did.Change{
		Keys:     []did.Key{{Fragment: "device", Type: did.Ed25519, Public: device.Public(), Relationships: []did.Relationship{did.Authentication}}},
		NextKeys: next,
	}
}

func TestMethodLife(t *testing.T) {
	ctx := context.Background()
	store := NewMemory()
	m := New(Config{Verifier: ours(), Store: store, Location: "example.com:alice", Portable: true})
	phone, phone2, phone3, laptop, laptop2 := testSigner(1), testSigner(2), testSigner(3), testSigner(4), testSigner(5)
	recovery, recovery2 := testSigner(8), testSigner(9)

	genesis := change(phone, phone2.Public(), laptop.Public())
	genesis.Recovery = recovery.Public()
	doc, err := m.Create(ctx, genesis, phone)
	if err != nil {
		t.Fatal(err)
	}
	id := doc.ID
	if !strings.HasSuffix(id, ":example.com:alice") || doc.Version.Number != 1 {
		t.Errorf("%s %v", id, doc.Version)
	}
	if _, err := doc.Key(did.Authentication, id+"#device"); err != nil {
		t.Error(err)
	}
	// The phone's next key signs and is used up; the laptop's and the recovery key's stay.
	update := change(phone, phone3.Public())
	update.Services = []did.Service{{ID: "#api", Type: "Api", Endpoint: []byte(`"https://api.example"`)}}
	if doc, err = m.Update(ctx, id, update, phone2); err != nil || doc.Version.Number != 2 || len(doc.Services) != 1 || doc.Services[0].ID != id+"#api" {
		t.Fatalf("%+v, %v", doc, err)
	}
	log := newest(t, m, id)
	want := []string{HashKey(phone3.multikey()), HashKey(laptop.multikey()), HashKey(recovery.multikey()), MarkRecovery(HashKey(recovery.multikey()))}
	slices.Sort(want)
	if got := log.Params().NextKeyHashes; !slices.Equal(got, want) {
		t.Errorf("committed to %v, want %v", got, want)
	}
	for name, s := range map[string]did.Signer{"spent": phone2, "first": phone, "stranger": testSigner(99), "recovery": recovery} {
		if _, err := m.Update(ctx, id, change(phone), s); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("update by the %s key: %v", name, err)
		}
	}
	// Without recovery's signature its key cannot be replaced.
	steal := change(laptop, laptop2.Public())
	steal.Recovery = recovery2.Public()
	if _, err := m.Update(ctx, id, steal, laptop); kind(err) != KindRecovery {
		t.Errorf("recovery key replaced: %v", err)
	}
	// A move, which also forgets the phone.
	move := change(laptop, laptop2.Public())
	move.Location, move.Forget = "example.org", []string{HashKey(phone3.multikey())}
	if doc, err = m.Update(ctx, id, move, laptop); err != nil {
		t.Fatal(err)
	}
	now := doc.ID
	if now == id || !strings.HasSuffix(now, ":example.org") || !slices.Contains(doc.Former, id) || !bytes.Contains(doc.Raw(), []byte(`"alsoKnownAs":["`+id+`"]`)) {
		t.Errorf("moved to %s: %s", now, doc.Raw())
	}
	if _, err := m.Update(ctx, now, change(phone), phone3); !errors.Is(err, did.ErrInvalid) {
		t.Errorf("a forgotten device: %v", err)
	}
	if got, err := did.NewResolver(m).Resolve(ctx, id); err != nil || got.ID != now {
		t.Errorf("by its former name: %v, %v", got, err)
	}
	// All devices are lost.
	fresh := change(phone, phone3.Public())
	for name, c := range map[string]did.Change{"no recovery key": fresh, "the same": with(fresh, recovery), "no next key": with(change(phone), recovery2)} {
		if _, err := m.Recover(ctx, now, c, recovery); kind(err) != KindRecovery {
			t.Errorf("recovery with %s: %v", name, err)
		}
	}
	if _, err := m.Recover(ctx, now, with(fresh, recovery2), laptop2); kind(err) != KindRecovery {
		t.Errorf("recovery by a device: %v", err)
	}
	if doc, err = m.Recover(ctx, now, with(fresh, recovery2), recovery); err != nil || doc.Version.Number != 4 {
		t.Fatal(doc, err)
	}
	for name, s := range map[string]did.Signer{"lost device": laptop2, "old recovery key": recovery} {
		if _, err := m.Update(ctx, now, change(laptop), s); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("update by the %s: %v", name, err)
		}
	}
	if err := m.Deactivate(ctx, now, phone3); kind(err) != KindRecovery {
		t.Errorf("deactivated by a device: %v", err)
	}
	if err := m.Deactivate(ctx, now, recovery2); err != nil {
		t.Fatal(err)
	}
	if doc, err = m.Resolve(ctx, now); err != nil || !doc.Deactivated || len(doc.Keys) != 0 {
		t.Errorf("deactivated: %+v, %v", doc, err)
	}
	if _, err := m.Update(ctx, now, change(phone), phone3); !errors.Is(err, did.ErrDeactivated) {
		t.Errorf("update afterwards: %v", err)
	}
	if r, err := m.ResolveVersion(ctx, id, Query{VersionNumber: 1}); err != nil || r.Entry.ID.String() != id || !r.Metadata.Deactivated {
		t.Errorf("version 1: %+v, %v", r, err)
	}
	// Others, who know nothing of recovery, read it all the same.
	text, err := store.Log(ctx, log.Last().ID)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := (Verifier{}).Verify(ctx, text, nil); err != nil || l.Failure() != nil || l.Len() != 5 {
		t.Errorf("%v, %v", l, err)
	}
}

func with(c did.Change, recovery signer) did.Change {
	c.Recovery = recovery.Public()
	return c
}

func newest(t *testing.T, m *Method, id string) *Log {
	t.Helper()
	l, err := m.Newest(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func kind(err error) string {
	var named *did.Error
	if errors.As(err, &named) {
		return named.Kind
	}
	return ""
}

// Without next keys nothing is committed to, and the update key goes on.
func TestMethodPlain(t *testing.T) {
	ctx := context.Background()
	m := New(Config{Verifier: ours(), Location: "example.com"})
	a := testSigner(1)
	doc, err := m.Create(ctx, change(a), a)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if doc, err = m.Update(ctx, doc.ID, change(a), a); err != nil {
			t.Fatal(err)
		}
	}
	away := change(a)
	away.Location = "example.org"
	if _, err := m.Update(ctx, doc.ID, away, a); kind(err) != KindDocument {
		t.Errorf("moved a DID that is not portable: %v", err)
	}
	if _, err := m.Recover(ctx, doc.ID, with(change(a, a.Public()), testSigner(2)), a); kind(err) != KindRecovery {
		t.Errorf("recovered: %v", err)
	}
	if err := m.Deactivate(ctx, doc.ID, a); err != nil {
		t.Fatal(err)
	}
	if err := m.Deactivate(ctx, doc.ID, a); !errors.Is(err, did.ErrDeactivated) {
		t.Errorf("deactivated twice: %v", err)
	}
	if _, err := New(Config{}).Create(ctx, change(a), a); !errors.Is(err, did.ErrInvalid) {
		t.Errorf("created nowhere: %v", err)
	}
	if _, err := m.Resolve(ctx, prefix+anySCID+":example.com"); !errors.Is(err, did.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// What a thief can and cannot do with an update key that a log committed to.
func TestRecoveryRule(t *testing.T) {
	owner, thief, mine, recovery, recovery2 := testSigner(1), testSigner(2), testSigner(3), testSigner(8), testSigner(9)
	mark := func(s signer) []any {
		h := HashKey(s.multikey())
		return []any{h, MarkRecovery(h)}
	}
	held := append(hashes(owner, thief), mark(recovery)...)
	start := func() *forger { return newForger(t).add(genesis(owner, "nextKeyHashes", held), nil, owner) }
	next := func(s signer, more ...any) object {
		return object{"updateKeys": keys(s), "nextKeyHashes": append([]any{}, more...)}
	}
	deactivate := func(s signer, more ...any) object {
		o := next(s, more...)
		o["deactivated"] = true
		return o
	}
	ours := Verifier{Recovery: true}
	for name, c := range map[string]struct {
		f    *forger
		want string
	}{
		"keeps it":               {start().add(next(thief, append(hashes(mine), mark(recovery)...)...), nil, thief), ""},
		"drops it":               {start().add(next(thief, hashes(mine)...), nil, thief), KindRecovery},
		"drops the mark":         {start().add(next(thief, append(hashes(mine), mark(recovery)[0])...), nil, thief), KindRecovery},
		"drops the hash":         {start().add(next(thief, append(hashes(mine), mark(recovery)[1])...), nil, thief), KindRecovery},
		"drops all":              {start().add(next(thief), nil, thief), KindRecovery},
		"replaces it":            {start().add(next(thief, mark(mine)...), nil, thief), KindRecovery},
		"adds another":           {start().add(next(thief, append(mark(recovery), mark(mine)...)...), nil, thief), KindRecovery},
		"deactivates":            {start().add(deactivate(thief, mark(recovery)...), nil, thief), KindRecovery},
		"deactivates, drops":     {start().add(deactivate(thief), nil, thief), KindRecovery},
		"recovery replaces":      {start().add(next(recovery, append(hashes(mine), mark(recovery2)...)...), nil, recovery), ""},
		"recovery drops":         {start().add(next(recovery), nil, recovery), ""},
		"recovery deactivates":   {start().add(deactivate(recovery), nil, recovery), ""},
		"recovery after a thief": {start().add(next(thief, append(hashes(mine), mark(recovery)...)...), nil, thief).add(next(recovery, append(hashes(owner), mark(recovery2)...)...), nil, recovery), ""},
		"the old one afterwards": {start().add(next(recovery, append(hashes(mine), mark(recovery2)...)...), nil, recovery).add(next(mine, mark(recovery)...), nil, mine), KindRecovery},
		"late beginning":         {newForger(t).add(genesis(owner), nil, owner).add(object{"nextKeyHashes": held}, nil, owner).add(next(thief), nil, thief), KindRecovery},
		"no recovery key at all": {newForger(t).add(genesis(owner, "nextKeyHashes", hashes(thief)), nil, owner).add(next(thief), nil, thief), ""},
	} {
		l, err := ours.Verify(context.Background(), c.f.log(), nil)
		if err != nil || kind(l.Failure()) != c.want {
			t.Errorf("%s: got %v, %v, want %q", name, err, l.Failure(), c.want)
		}
		// To others these are all good logs.
		if l, err := (Verifier{}).Verify(context.Background(), c.f.log(), nil); err != nil || l.Failure() != nil {
			t.Errorf("%s, to the letter: %v, %v", name, err, l.Failure())
		}
		// A resolution is held to our rules.
		if r, err := ResolveLog(context.Background(), c.f.id(), c.f.log(), nil, Query{}); kind(err) != c.want || (r.Result.Error != "") != (err != nil) {
			t.Errorf("%s, resolved: %v, want %q", name, err, c.want)
		}
	}
}

// fixed is a source with one answer.
type fixed struct {
	log, witness []byte
	err          error
}

func (f fixed) Log(context.Context, ID) ([]byte, error)     { return f.log, f.err }
func (f fixed) Witness(context.Context, ID) ([]byte, error) { return f.witness, nil }

// Of a log that does not hold to its end, an earlier version that is asked for resolves, and
// nothing is kept.
func TestSourceOfABadLog(t *testing.T) {
	ctx := context.Background()
	a, b := testSigner(1), testSigner(2)
	f := newForger(t).add(genesis(a), nil, a).add(object{}, nil, a).add(object{}, nil, b)
	store := NewMemory()
	m := New(Config{Store: store, Sources: []Source{fixed{log: f.log()}}})
	for _, q := range []Query{{VersionNumber: 2}, {VersionID: f.version(2)}, {VersionTime: at(t, "2024-01-01T02:30:00Z")}} {
		if r, err := m.ResolveVersion(ctx, f.id(), q); err != nil || r.Metadata.VersionID != f.version(2) || r.Document == nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, q := range []Query{{}, {VersionNumber: 3}, {VersionID: f.version(3)}} {
		if r, err := m.ResolveVersion(ctx, f.id(), q); did.NameOf(err) != did.NameInvalidDID || r.Document != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := m.ResolveVersion(ctx, f.id(), Query{VersionNumber: 4}); did.NameOf(err) != did.NameNotFound {
		t.Errorf("version 4: %v", err)
	}
	if _, err := m.Resolve(ctx, f.id()); did.NameOf(err) != did.NameInvalidDID {
		t.Errorf("the newest: %v", err)
	}
	id, _ := ParseID(f.id())
	if _, err := store.Log(ctx, id); !errors.Is(err, did.ErrNotFound) {
		t.Errorf("kept: %v", err)
	}
	two := New(Config{Sources: []Source{fixed{log: f.log()}, fixed{log: f.log()}}})
	if _, err := two.ResolveVersion(ctx, f.id(), Query{VersionNumber: 2}); did.NameOf(err) != did.NameInvalidDID {
		t.Errorf("from two: %v", err)
	}
}

// The longest log that verifies wins, wherever it comes from, and is remembered.
func TestSources(t *testing.T) {
	ctx := context.Background()
	a, b := testSigner(1), testSigner(2)
	f := newForger(t).add(genesis(a), nil, a).add(object{}, nil, a).add(object{}, nil, a)
	prefixOf := func(n int) fixed { return fixed{log: (&forger{lines: f.lines[:n]}).log()} }
	fork := newForger(t).add(genesis(a), nil, a).add(object{"ttl": 1.0}, nil, a).add(object{}, nil, a).add(object{}, nil, a)
	forged := newForger(t).add(genesis(a), nil, a).add(object{}, nil, a).add(object{}, nil, a).add(object{}, nil, b)
	other := newForger(t).add(genesis(b), nil, b)
	down := fixed{err: unavailable("down")}
	none := fixed{err: notFound("none")}
	if f.scid != fork.scid || f.version(3) != forged.version(3) {
		t.Fatal("the logs do not begin the same")
	}
	for name, c := range map[string]struct {
		stored  int
		sources []Source
		want    int
		err     error
	}{
		"longest":             {0, []Source{prefixOf(1), prefixOf(3), prefixOf(2)}, 3, nil},
		"forged is not":       {0, []Source{prefixOf(2), fixed{log: forged.log()}}, 2, nil},
		"only forged":         {0, []Source{fixed{log: forged.log()}, none}, 0, did.ErrInvalid},
		"of another":          {0, []Source{fixed{log: other.log()}}, 0, did.ErrInvalid},
		"garbage":             {0, []Source{fixed{log: []byte("x")}, down}, 0, did.ErrInvalid},
		"none":                {0, []Source{none, none}, 0, did.ErrNotFound},
		"down":                {0, []Source{none, down}, 0, did.ErrUnavailable},
		"no sources":          {0, nil, 0, did.ErrNotFound},
		"stored and down":     {2, []Source{down}, 2, nil},
		"stored and rollback": {2, []Source{prefixOf(1)}, 2, nil},
		"stored and newer":    {1, []Source{prefixOf(1), prefixOf(3)}, 3, nil},
		"stored and fork":     {2, []Source{fixed{log: fork.log()}, prefixOf(3)}, 3, nil},
		"two histories":       {0, []Source{prefixOf(3), fixed{log: fork.log()}}, 0, did.ErrInvalid},
		"two go on":           {1, []Source{prefixOf(3), fixed{log: fork.log()}}, 0, did.ErrInvalid},
	} {
		store := NewMemory()
		id, err := ParseID(f.id())
		if err != nil {
			t.Fatal(err)
		}
		if c.stored > 0 {
			if err := store.Save(ctx, id, prefixOf(c.stored).log, nil); err != nil {
				t.Fatal(err)
			}
		}
		m := New(Config{Store: store, Sources: c.sources})
		doc, err := m.Resolve(ctx, f.id())
		if !errors.Is(err, c.err) || err == nil && doc.Version.Number != uint64(c.want) {
			t.Errorf("%s: got %+v, %v", name, doc, err)
			continue
		}
		if err == nil {
			m.cfg.Sources = nil
			if again, err := m.Resolve(ctx, f.id()); err != nil || again.Version != doc.Version {
				t.Errorf("%s, remembered: %+v, %v", name, again, err)
			}
		}
	}
}

// server is a web server of a domain that the client reaches under its name.
func server(t *testing.T, h http.HandlerFunc) *http.Transport {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	tr := srv.Client().Transport.(*http.Transport).Clone()
	tr.TLSClientConfig = &tls.Config{RootCAs: tr.TLSClientConfig.RootCAs}
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestHTTP(t *testing.T) {
	ctx := context.Background()
	a, w := testSigner(1), testSigner(11)
	f := newForger(t).add(genesis(a, "witness", witnesses(1, w)), nil, a)
	file := witnessFile(t, approval{f.version(1), []signer{w}})
	release := make(chan struct{})
	var current atomic.Value
	current.Store("")
	tr := server(t, func(rw http.ResponseWriter, req *http.Request) {
		mode := current.Load()
		switch {
		case req.Host != "example.com" && req.Host != "www.example.com":
			http.Error(rw, "whose?", http.StatusMisdirectedRequest)
		case mode == "hang":
			select {
			case <-req.Context().Done():
			case <-release:
			}
		case mode == "huge":
			io.Copy(rw, io.LimitReader(endless{}, MaxLog+10))
		case mode == "loop":
			http.Redirect(rw, req, req.URL.Path, http.StatusFound)
		case mode == "plain":
			http.Redirect(rw, req, "http://www.example.com"+req.URL.Path, http.StatusFound)
		case mode == "address":
			http.Redirect(rw, req, "https://127.0.0.1"+req.URL.Path, http.StatusFound)
		case mode == "moved" && req.Host == "example.com":
			http.Redirect(rw, req, "https://www.example.com"+req.URL.Path, http.StatusFound)
		case mode == "error":
			rw.WriteHeader(http.StatusBadGateway)
		case mode == "gone":
			rw.WriteHeader(http.StatusGone)
		case mode == "no witness" && req.URL.Path == "/.well-known/did-witness.json":
			http.NotFound(rw, req)
		case req.URL.Path == "/.well-known/did.jsonl":
			rw.Write(f.log())
		case req.URL.Path == "/.well-known/did-witness.json":
			rw.Write(file)
		default:
			http.NotFound(rw, req)
		}
	})
	t.Cleanup(func() { close(release) })
	for _, c := range []struct {
		mode string
		want error
	}{
		{"", nil}, {"moved", nil}, {"gone", did.ErrNotFound}, {"error", did.ErrUnavailable}, {"hang", did.ErrUnavailable}, {"huge", did.ErrInvalid},
		{"loop", did.ErrInvalid}, {"plain", did.ErrInvalid}, {"address", did.ErrInvalid}, {"no witness", did.ErrInvalid},
	} {
		current.Store(c.mode)
		deadline := 5 * time.Second
		if c.mode == "hang" {
			deadline = 50 * time.Millisecond
		}
		m := New(Config{Sources: []Source{NewHTTP(HTTPConfig{Transport: tr, Deadline: deadline})}})
		doc, err := did.NewResolver(m).Resolve(ctx, f.id())
		if !errors.Is(err, c.want) || err == nil && doc.ID != f.id() {
			t.Errorf("%q: got %v, %v", c.mode, doc, err)
		}
	}
	// A certificate that is not for the domain.
	m := New(Config{Sources: []Source{NewHTTP(HTTPConfig{Transport: tr})}})
	if _, err := m.Resolve(ctx, prefix+f.scid+":example.net"); !errors.Is(err, did.ErrUnavailable) {
		t.Errorf("wrong certificate: %v", err)
	}
}

// endless is spaces without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
