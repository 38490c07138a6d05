package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A peer whom the pin set does not reach is told by its own endpoint.
func TestWhoHearsNothingIsTold(t *testing.T) {
	cid, next := testCID(1), testCID(2)
	s := newSim(t, 3, Policy{Min: 1, Max: 3}, KeeperConfig{})
	s.peers["peer2"].cut, s.peers["peer3"].cut = true, true
	s.want(Want{CID: cid, Newest: true})
	s.run(20 * time.Second)
	if n := s.count(doTell, ""); n != 0 {
		t.Errorf("%d times told what may be on its way", n)
	}
	if p := s.pin(cid); p.State != StateHeld || p.Copies != 1 || !strings.Contains(p.Reason, "node2 has not heard of the pin") {
		t.Errorf("it says %s %d: %s", p.State, p.Copies, p.Reason)
	}
	if took := s.until("on target", 2*time.Minute, s.is(cid, StateHeld, 3)); took > 50*time.Second {
		t.Errorf("on target after %v more", took)
	}
	s.want(Want{CID: next, Newest: true})
	s.until("the next one on target", 2*time.Minute, s.is(next, StateHeld, 3))
	s.until("the old one goes", time.Minute, func() bool { return len(s.set) == 1 })
	n := len(s.did)
	s.run(2 * time.Hour)
	if more := len(s.did) - n; more > 0 {
		t.Errorf("no rest: %d actions\n%s", more, s.dump())
	}
	for id := range s.peers {
		for _, want := range []string{cid, next} {
			told := 0
			for _, d := range s.did {
				if d.act.kind == doTell && d.act.cid == want && d.act.peer == id {
					told++
				}
			}
			if s.peers[id].cut && told != 1 || !s.peers[id].cut && told != 0 {
				t.Errorf("%s was told %d times", id, told)
			}
		}
	}
}

// Who has no endpoint is not told, and who forgets is not told for ever: what cannot help
// becomes rare, and costs no pin.
func TestTellingIsBounded(t *testing.T) {
	cid := testCID(1)
	for _, c := range []struct {
		name   string
		each   func(*sim)
		least  int // times in an hour
		most   int
		copies int
	}{
		{"no endpoint", func(s *sim) { s.peers["peer2"].alone = true }, 5, 17, 2},
		{"it forgets", func(s *sim) { s.peers["peer2"].pins = map[string]*simPin{} }, 5, 17, 2},
		{"it is down", func(s *sim) { s.down("peer2") }, 0, 0, 2},
		{"it hears in time", func(s *sim) {
			if s.peers["peer2"].cut && s.now.Sub(simBegin) > 20*time.Second {
				s.peers["peer2"].cut = false
				s.peers["peer2"].track(cid, s.now)
			}
		}, 0, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 3, Policy{Min: 1, Max: 3}, KeeperConfig{DeadAfter: 24 * time.Hour})
			s.peers["peer2"].cut = true
			s.want(Want{CID: cid, Newest: true})
			s.until("accepted", time.Minute, func() bool { return s.set[cid] != nil })
			for range 3600 {
				c.each(s)
				s.run(time.Second)
			}
			if n := s.count(doTell, cid); n < c.least || n > c.most {
				t.Errorf("told %d times in an hour\n%s", n, s.dump())
			}
			if n := len(s.did) - s.count(doTell, ""); n != 1 {
				t.Errorf("%d other actions\n%s", n-1, s.dump())
			}
			if p := s.pin(cid); p.State != StateHeld || p.Copies != c.copies {
				t.Errorf("%+v", p)
			}
		})
	}
}

// A peer that hears of nothing gets many pins one after the other; new ones do not wait for
// that, and what is not wanted any more is not told.
func TestTellingManyHoldsUpNothing(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	var wants []Want
	for i := range 50 {
		wants = append(wants, Want{CID: testCID(i)})
	}
	s.peers["peer3"].cut = true
	s.posts = 3 * time.Second
	s.want(append(wants, Want{CID: testCID(100), Newest: true})...)
	s.until("two of each", 10*time.Minute, func() bool {
		for _, w := range wants {
			if s.pin(w.CID).Copies < 2 {
				return false
			}
		}
		return true
	})
	begun, told := s.now, s.count(doTell, "")
	s.run(5 * time.Minute)
	if n := s.count(doTell, "") - told; n < 10 || n > 20 {
		t.Errorf("%d told in five minutes", n)
	}
	newest := testCID(101)
	s.want(append(wants[:40], Want{CID: newest, Newest: true})...)
	s.until("a new one", 30*time.Second, func() bool { return s.pin(newest).Copies >= 2 })
	s.run(time.Hour)
	for _, d := range s.did {
		for _, w := range wants[40:] {
			if d.act.kind == doTell && d.act.cid == w.CID && d.at > begun.Sub(simBegin)+6*time.Minute {
				t.Errorf("%s is told, and nobody wants it", w.CID)
			}
		}
	}
	for _, w := range wants[:40] {
		if p := s.pin(w.CID); p.Copies != 3 {
			t.Errorf("%+v", p)
		}
	}
	if len(s.set) != 41 {
		t.Errorf("%d pins are in the set", len(s.set))
	}
}

// What a cut peer is told becomes the pin set's when it hears of the others again: it must
// not be told what would take a pin from those who have it.
func TestToldPeerTakesThePinFromNobody(t *testing.T) {
	cid := testCID(1)
	for _, c := range []struct {
		name   string
		sees   []string
		copies int // before it hears of the others
		others bool
	}{
		{"it sees itself", []string{"peer2"}, 2, false},
		{"it sees two", []string{"peer2", "peer3"}, 2, false},
		{"it sees others", []string{"peer2", "peer4", "peer5"}, 3, true},
		{"it sees all", nil, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 5, Policy{Min: 1, Max: 3}, KeeperConfig{})
			s.peers["peer2"].cut, s.peers["peer2"].sees = true, c.sees
			s.want(Want{CID: cid, Newest: true})
			s.until("some copies", time.Minute, s.is(cid, StateHeld, 2))
			s.run(10 * time.Minute)
			if p := s.pin(cid); p.Copies != c.copies || s.count(doTell, cid) == 0 {
				t.Errorf("told %d times: %+v", s.count(doTell, cid), p)
			}
			for _, d := range s.did {
				if d.act.kind == doTell && errors.Is(d.err, errOthers) != c.others {
					t.Errorf("told: %v", d.err)
				}
				if d.act.kind == doUnpin {
					t.Error("it is taken out, and so others would let go of it")
				}
			}
			s.heal("peer2")
			if n := len(s.set[cid].Allocations); n != 3 {
				t.Errorf("it hears of the others: allocated to %d", n)
			}
			s.until("three copies", 2*time.Minute, s.is(cid, StateHeld, 3))
		})
	}
}

func TestKeeps(t *testing.T) {
	for _, c := range []struct {
		max       int
		keep, got string
		ok        bool
	}{
		{3, "a b c", "a b c", true},
		{3, "a b c", "c a b", true},
		{3, "a b", "a b c", true}, // one more takes it from nobody
		{2, "a b c", "c a", true}, // so few are meant now
		{2, "a b c", "d a", false},
		{3, "a b c", "a b", false},
		{3, "a b c", "a b d", false},
		{3, "a b c", "", false},
		{3, "", "a b c", true},
		{-1, "a b c", "", true},
	} {
		a := &action{kind: doTell, keep: strings.Fields(c.keep), options: options{max: c.max}}
		err := a.keeps(&wirePin{Allocations: strings.Fields(c.got)})
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, errOthers) || !errors.Is(err, ErrCluster)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What a cut peer was told and nobody wants any more does not come back by it.
func TestGivenUpStaysSo(t *testing.T) {
	cid, next := testCID(1), testCID(2)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.peers["peer2"].cut = true
	s.want(Want{CID: cid, Newest: true})
	s.until("on target", 2*time.Minute, s.is(cid, StateHeld, 3))
	s.want(Want{CID: next, Newest: true})
	s.until("the next one on target", 2*time.Minute, s.is(next, StateHeld, 3))
	s.until("the old one goes", time.Minute, func() bool { return s.set[cid] == nil })
	if s.peers["peer2"].pins[cid] != nil {
		t.Error("the peer that was told keeps it")
	}
	s.heal("peer2")
	if s.set[cid] != nil {
		t.Error("it is in the pin set again")
	}
	s.run(time.Hour)
	if n := s.count(doUnpin, ""); n != 1 || len(s.set) != 1 || s.pin(next).Copies != 3 {
		t.Errorf("given up %d times; %d pins\n%s", n, len(s.set), s.dump())
	}
}

// One that could not be told of that loses what came back by it with the next list.
func TestGivenUpGoesAgain(t *testing.T) {
	cid, next := testCID(1), testCID(2)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.peers["peer2"].cut = true
	s.want(Want{CID: cid, Newest: true})
	s.until("on target", 2*time.Minute, s.is(cid, StateHeld, 3))
	s.peers["peer2"].alone = true
	s.want(Want{CID: next, Newest: true})
	s.until("the old one goes", 2*time.Minute, func() bool { return s.set[cid] == nil && s.set[next] != nil })
	s.heal("peer2")
	if s.set[cid] == nil {
		t.Error("nothing came back")
	}
	s.until("it goes again", 10*time.Minute, func() bool { return s.set[cid] == nil })
}

// That none of the endpoints is a peer's own is the same for each pin.
func TestNoEndpointHoldsUpNoOtherPeer(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 1, Max: 3}, KeeperConfig{})
	s.peers["peer2"].cut, s.peers["peer2"].alone, s.peers["peer3"].cut = true, true, true
	var wants []Want
	for i := range 30 {
		wants = append(wants, Want{CID: testCID(i)})
	}
	s.want(wants...)
	s.run(time.Hour)
	told := make(map[string]int)
	for _, d := range s.did {
		if d.act.kind == doTell {
			told[d.act.peer]++
		}
	}
	if told["peer2"] < 5 || told["peer2"] > 17 || told["peer3"] != len(wants) {
		t.Errorf("told in an hour: %v", told)
	}
	s.peers["peer2"].alone = false
	if err := (&Keeper{cfg: s.cfg, book: s.b, changed: make(chan struct{}), wake: make(chan struct{}, 1)}).Retry(wants[0].CID); err != nil {
		t.Error(err)
	}
	s.until("all copies", 10*time.Minute, func() bool {
		for _, w := range wants {
			if s.pin(w.CID).Copies != 3 {
				return false
			}
		}
		return true
	})
}

// Pins that a peer forgets again leave time for others.
func TestForgottenPinsLeaveRoom(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	peer := s.peers["peer3"]
	peer.cut = true
	var wants []Want
	for i := range 60 {
		wants = append(wants, Want{CID: testCID(i), Newest: i == 59})
	}
	s.want(wants...)
	for range 2 * 3600 {
		for _, w := range wants[:50] {
			delete(peer.pins, w.CID)
		}
		s.run(time.Second)
	}
	for _, w := range wants[50:] {
		if p := s.pin(w.CID); p.Copies != 3 {
			t.Errorf("%+v", p)
		}
	}
}

// That a peer cannot be told, or can, says nothing of whether the cluster takes changes.
func TestTellingHidesNoError(t *testing.T) {
	s := newSim(t, 1, Policy{Min: 1, Max: 1}, KeeperConfig{})
	server, _ := tellServer(t, "peer1")
	for _, was := range []error{nil, ErrRefused} {
		for _, peer := range []string{"peer1", "peer2"} {
			k := &Keeper{
				client: newTestClient(t, Config{Endpoints: []string{server}}), cfg: s.cfg, book: s.b,
				changed: make(chan struct{}), errors: make(map[lane]failure),
			}
			if was != nil {
				k.errors[laneAct] = failure{was, s.now}
			}
			r := &runner{k: k, ctx: t.Context(), answers: make(chan func()), busy: make(map[lane]bool)}
			r.act(&action{kind: doTell, cid: testCID(1), peer: peer, options: options{min: 1, max: 1}})
			(<-r.answers)()
			if err := k.errors[laneAct].err; !errors.Is(err, was) || (err == nil) != (was == nil) || r.busy[laneAct] {
				t.Errorf("%s is told: %v instead of %v", peer, err, was)
			}
		}
	}
}

// toldAt is a change that reached a server.
type toldAt struct{ peer, method, query string }

// tellServer is the endpoint of a peer. The first pin is all that it takes.
func tellServer(t *testing.T, id string) (url string, told chan toldAt) {
	t.Helper()
	told = make(chan toldAt, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/id":
			fmt.Fprintf(w, `{"id":%q}`, id) //nolint:errcheck // the client may be gone
		case r.URL.Path == pinPath(testCID(1)):
			told <- toldAt{id, r.Method, r.URL.RawQuery}
			fmt.Fprintf(w, `{"cid":%q,"allocations":[%q]}`, testCID(1), id) //nolint:errcheck // as above
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, told
}

// The endpoint of a peer is found by asking each who it is; the others are told nothing.
func TestTellFindsThePeer(t *testing.T) {
	a, toA := tellServer(t, "a")
	b, toB := tellServer(t, "b")
	c := newTestClient(t, Config{Endpoints: []string{"http://127.0.0.1:1", a, b}})
	before, o := c.choice.used(), &options{min: 2, max: 3}
	if p, err := c.tell(t.Context(), "b", testCID(1), o); err != nil || len(p.Allocations) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	select {
	case got := <-toB:
		if got.method != http.MethodPost || !strings.Contains(got.query, "replication-max=3") {
			t.Errorf("it was told %+v", got)
		}
	default:
		t.Error("nobody was told")
	}
	if err := c.untell(t.Context(), []string{"d", "b"}, testCID(1)); !errors.Is(err, errNoEndpoint) {
		t.Errorf("taken back from one without an endpoint: %v", err)
	}
	select {
	case got := <-toB:
		if got.method != http.MethodDelete {
			t.Errorf("it was told %+v", got)
		}
	default:
		t.Error("nothing was taken back")
	}
	none := func() bool { return len(toA)+len(toB) == 0 }
	if _, err := c.tell(t.Context(), "d", testCID(1), o); !errors.Is(err, ErrNotFound) || !none() {
		t.Errorf("of a peer without an endpoint: %v", err)
	}
	if c.choice.used() != before {
		t.Error("another endpoint is asked now")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.tell(ctx, "b", testCID(1), o); !errors.Is(err, context.Canceled) || !none() {
		t.Errorf("cancelled: %v", err)
	}
}

// Endpoints that hang are not asked again who they are, as long as the right one says so.
func TestTellRemembersThePeer(t *testing.T) {
	var asked, swapped atomic.Int64
	posts := make(chan string, 10)
	serve := func(ids ...string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id := ids[swapped.Load()]
			if r.Method == http.MethodPost {
				posts <- id
			}
			fmt.Fprintf(w, `{"id":%q}`, id) //nolint:errcheck // the client may be gone
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	c := newTestClient(t, Config{Endpoints: []string{"http://127.0.0.1:1", serve("a", "b"), serve("b", "a")}})
	c.endpoints[0].http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		asked.Add(1)
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	tell := func() {
		t.Helper()
		if _, err := c.tell(t.Context(), "b", testCID(1), &options{min: 2, max: 3}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-posts:
			if got != "b" || len(posts) != 0 {
				t.Errorf("%s was told", got)
			}
		default:
			t.Error("nobody was told")
		}
	}
	tell()
	first := asked.Load()
	tell()
	if n := asked.Load(); n != first {
		t.Errorf("one that hangs was asked %d times more", n-first)
	}
	swapped.Store(1)
	tell()
}

// roundTrip is the way to an endpoint.
type roundTrip func(*http.Request) (*http.Response, error)

func (fn roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return fn(r) }

// However many endpoints hang, all that is done to tell a peer, or to take back what several
// were told, has the time of one call.
func TestTellTakesOneCallsTime(t *testing.T) {
	deadlines := make(chan time.Time, 1000)
	c := newTestClient(t, Config{Endpoints: []string{"http://a", "http://b", "http://c", "http://d"}})
	for i, e := range c.endpoints {
		e.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			at, _ := r.Context().Deadline()
			deadlines <- at
			if i == 0 {
				<-r.Context().Done() // until another says that it is the one
				return nil, r.Context().Err()
			}
			id := strings.TrimPrefix(c.endpoints[i].name, "http://")
			return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader(fmt.Sprintf(`{"id":%q}`, id)))}, nil
		})
	}
	for name, do := range map[string]func() error{
		"tell": func() error {
			_, err := c.tell(t.Context(), "b", testCID(1), &options{min: 2, max: 3})
			return err
		},
		"untell": func() error { return c.untell(t.Context(), []string{"b", "c", "d"}, testCID(1)) },
	} {
		before := time.Now().Add(c.cfg.CallTimeout)
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		after, first, n := time.Now().Add(c.cfg.CallTimeout), time.Time{}, len(deadlines)
		for i := range n {
			at := <-deadlines
			if i == 0 {
				first = at
			}
			if !at.Equal(first) || at.Before(before) || at.After(after) {
				t.Errorf("%s: one of %d requests ends at %v, the first at %v: want %v", name, n, at, first, before)
			}
		}
		if n < 2 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// If all endpoints hang, none is the peer's, as far as they answer.
func TestTellWhereAllHang(t *testing.T) {
	c := newTestClient(t, Config{Endpoints: []string{"http://a", "http://b"}, CallTimeout: shortTimeout})
	for _, e := range c.endpoints {
		e.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
	}
	if _, err := c.tell(t.Context(), "b", testCID(1), &options{min: 2, max: 3}); !errors.Is(err, errNoEndpoint) {
		t.Error(err)
	}
}
