package cluster

import (
	"slices"
	"testing"
	"time"
)

// What is no longer wanted while the cluster is told to pin it may be in the pin set: peers
// may fetch it, so its blocks must stay until they say that they have done so.
func TestNotWantedWhileItIsPinned(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	first, second := testCID(1), testCID(2)
	k := &Keeper{cfg: s.cfg, book: s.b, changed: make(chan struct{})}
	k.cfg.Now = func() time.Time { return s.now }
	flies := func(cid string) bool { return slices.Contains(k.InFlight(), cid) }
	s.posts = 20 * time.Second
	for _, p := range s.peers {
		p.takes = time.Minute
	}
	s.want(Want{CID: first, Newest: true})
	s.until("it is being pinned", time.Minute, func() bool { return s.acting != nil })
	s.want(Want{CID: second, Newest: true})
	begun := s.now
	for s.now.Sub(begun) < 50*time.Second {
		if !flies(first) {
			t.Fatalf("its blocks may go, %v after it was pinned\n%s", s.now.Sub(begun), s.dump())
		}
		s.run(s.step)
	}
	s.until("the next one is held", 5*time.Minute, s.is(second, StateHeld, 3))
	s.until("the other one goes", time.Minute, func() bool { return s.set[first] == nil && s.b.pins[first] == nil })

	// One that did not get in is forgotten.
	third := testCID(3)
	s.refuse = ErrCluster
	s.want(Want{CID: third, Newest: true}, Want{CID: second})
	s.until("it is refused", time.Minute, func() bool { return s.acting != nil })
	s.want(Want{CID: second, Newest: true})
	if !flies(third) {
		t.Error("nobody knows yet that it is refused")
	}
	s.until("it is forgotten", s.posts+s.step, func() bool { return s.b.pins[third] == nil })
	if n := len(k.InFlight()); n != 0 {
		t.Errorf("%d pins are under way", n)
	}
}
