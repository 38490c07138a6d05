package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
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

// The endpoint of a peer is found by asking each who it is; the others are told nothing.
func TestTellFindsThePeer(t *testing.T) {
	type told struct{ peer, query string }
	posts := make(chan told, 10)
	serve := func(id string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/id":
				fmt.Fprintf(w, `{"id":%q}`, id) //nolint:errcheck // the client may be gone
			case r.Method == http.MethodPost && r.URL.Path == pinPath(testCID(1)):
				posts <- told{id, r.URL.RawQuery}
				fmt.Fprintf(w, `{"cid":%q}`, testCID(1)) //nolint:errcheck // as above
			default:
				http.NotFound(w, r)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	c := newTestClient(t, Config{Endpoints: []string{"http://127.0.0.1:1", serve("a"), serve("b"), serve("c")}})
	before := c.choice.used()
	if err := c.tell(t.Context(), "b", testCID(1), &options{min: 2, max: 3}); err != nil {
		t.Error(err)
	}
	if got := <-posts; got.peer != "b" || !strings.Contains(got.query, "replication-max=3") {
		t.Errorf("%+v was told", got)
	}
	if err := c.tell(t.Context(), "d", testCID(1), &options{min: 2, max: 3}); !errors.Is(err, ErrNotFound) || len(posts) != 0 {
		t.Errorf("of a peer without an endpoint: %v, %d were told", err, len(posts))
	}
	if c.choice.used() != before {
		t.Error("another endpoint is asked now")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.tell(ctx, "b", testCID(1), &options{min: 2, max: 3}); !errors.Is(err, context.Canceled) || len(posts) != 0 {
		t.Errorf("cancelled: %v", err)
	}
}
