package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestOneInFlightAndTenSecondsApart(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	for i := range 40 { // a commit each second, of which only the newest counts
		s.want(Want{CID: testCID(i), Newest: true})
		s.run(time.Second)
		if n := inFlight(s); n > 1 {
			t.Fatalf("%d pins in flight\n%s", n, s.dump())
		}
	}
	var last time.Duration
	pins := 0
	for _, d := range s.did {
		if d.act.kind != doPin {
			continue
		}
		if pins > 0 && d.at-last < 10*time.Second {
			t.Errorf("pins at %v and %v", last, d.at)
		}
		last = d.at
		pins++
	}
	if pins < 4 || pins > 5 {
		t.Errorf("%d pins in 40 seconds", pins)
	}
	// Who waits does not wait for the ten seconds.
	cid := testCID(100)
	s.want(Want{CID: cid, Newest: true})
	s.b.pins[cid].waiting, s.b.sorted = 1, nil
	if took := s.until("held", time.Minute, s.is(cid, StateHeld, 3)); took > 4*time.Second {
		t.Errorf("held after %v", took)
	}
	s.b.pins[cid].waiting = 0
	s.until("only that is left", time.Minute, func() bool { return len(s.set) == 1 && s.set[cid] != nil })
}

func inFlight(s *sim) (n int) {
	for _, e := range s.b.pins {
		if s.b.inFlight(e) {
			n++
		}
	}
	return n
}

func TestUpdates(t *testing.T) {
	a, b, c, d := testCID(1), testCID(2), testCID(3), testCID(4)
	meta := func(n int) map[string]string { return map[string]string{"seq": strconv.Itoa(n)} }
	s := newSim(t, 4, Policy{Min: 2, Max: 3}, KeeperConfig{DeadAfter: time.Hour})
	s.want(Want{CID: a, Name: "a", Metadata: meta(1), Newest: true, SmallChange: true, Update: testCID(9)})
	s.until("held", time.Minute, s.is(a, StateHeld, 3))
	if s.count(doPin, a) != 1 {
		t.Error("an update of what is not there")
	}
	s.want(Want{CID: b, Name: "b", Metadata: meta(2), Newest: true, SmallChange: true, Update: a})
	s.until("held", time.Minute, s.is(b, StateHeld, 3))
	if s.count(doUpdate, b) != 1 || s.count(doPin, b) != 0 {
		t.Error("no update of a small change\n", s.dump())
	}
	s.until("described", time.Minute, func() bool { return s.set[b].Metadata["seq"] == "2" && s.set[b].Name == "b" })
	if n := s.pin(b).Copies; n != 3 {
		t.Errorf("%d copies while it is described", n)
	}
	s.want(Want{CID: c, Name: "c", Metadata: meta(3), Newest: true, Update: b})
	s.until("held", time.Minute, s.is(c, StateHeld, 3))
	if s.count(doPin, c) != 1 {
		t.Error("an update of a large change")
	}
	s.down(s.set[c].Allocations[0])
	s.until("noticed", time.Minute, s.is(c, StateHeld, 2))
	s.want(Want{CID: d, Newest: true, SmallChange: true, Update: c})
	s.until("held", time.Minute, s.is(d, StateHeld, 3))
	if s.count(doPin, d) != 1 || s.count(doUpdate, d) != 0 {
		t.Error("an update of what a dead peer should hold")
	}
	n := len(s.did)
	s.run(time.Hour)
	if more := s.did[n:]; len(more) > 1 { // the unpin of c
		t.Errorf("no rest: %d actions\n%s", len(more), s.dump())
	}
}

func TestUnpinsOnlyWhatIsSafe(t *testing.T) {
	old, snapshot, next, foreign := testCID(1), testCID(2), testCID(3), testCID(4)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.set[foreign] = &wirePin{CID: foreign, Allocations: []string{"peer1"}, Min: 1, Max: 1, Metadata: map[string]string{OwnerKey: "somebody"}}
	for i := range 5 { // of ours, from before
		cid := testCID(100 + i)
		s.set[cid] = &wirePin{CID: cid, Allocations: []string{"peer1", "peer2", "peer3"}, Min: 2, Max: 3, Metadata: map[string]string{OwnerKey: "me"}}
	}
	s.run(time.Minute)
	if len(s.did) != 0 {
		t.Error("something was done before anything was wanted\n", s.dump())
	}
	s.want(Want{CID: snapshot}) // no newest: nothing says that what there is may go
	s.run(time.Minute)
	if n := s.count(doUnpin, ""); n != 0 {
		t.Errorf("%d pins given up without a newest", n)
	}
	s.want(Want{CID: old, Newest: true}, Want{CID: snapshot})
	s.run(10 * time.Minute)
	if len(s.set) != 8 { // a later state of this machine may have made them, before a backup was put back
		t.Errorf("%d pins are left: those of ours that were never wanted here are gone", len(s.set))
	}
	for i := range 5 {
		s.b.owns(testCID(100 + i))
	}
	s.until("old ones gone", 10*time.Minute, func() bool { return len(s.set) == 3 })
	for _, p := range s.peers {
		p.takes = -1
	}
	s.want(Want{CID: next, Newest: true}, Want{CID: snapshot})
	s.run(5 * time.Minute)
	if s.set[old] == nil {
		t.Error("the old pin is gone, and the new one is not held")
	}
	s.peers["peer1"].takes = 0
	s.run(time.Minute)
	if s.set[old] == nil {
		t.Error("the old pin is gone, and the new one has one copy")
	}
	s.peers["peer2"].takes = 0
	s.run(time.Minute)
	if s.set[old] == nil {
		t.Error("the old pin is gone while a third copy of the new one is on its way")
	}
	s.peers["peer3"].takes = 0
	s.until("the old pin goes", time.Minute, func() bool { return s.set[old] == nil })
	if s.set[foreign] == nil || s.set[snapshot] == nil {
		t.Error("somebody else's pin, or a wanted one, is gone")
	}
}

func TestGivenUpByTheUser(t *testing.T) {
	newest, other := testCID(1), testCID(2)
	wants := []Want{{CID: newest, Newest: true}, {CID: other}}
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	k := &Keeper{cfg: s.cfg, book: s.b, wake: make(chan struct{}, 1), changed: make(chan struct{}), errors: map[lane]failure{}}
	k.cfg.Now = func() time.Time { return s.now }
	s.want(wants...)
	s.until("held", time.Minute, func() bool { return s.is(newest, StateHeld, 3)() && s.is(other, StateHeld, 3)() })
	for cid, want := range map[string]error{newest: ErrNewest, testCID(9): ErrNotFound, other: nil} {
		if err := k.Unpin(cid); !isOrNil(err, want) {
			t.Errorf("unpin %s: %v", cid, err)
		}
	}
	s.until("gone", time.Minute, func() bool { return s.set[other] == nil })
	s.want(wants...)
	s.run(time.Minute)
	if s.set[other] != nil {
		t.Error("it is pinned again")
	}
	s.want(wants[0])
	s.want(wants...)
	s.until("pinned once more, after it was not wanted", time.Minute, s.is(other, StateHeld, 3))
}

func TestLostIsPinnedAgain(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	s.run(time.Minute)
	s.forget(cid)
	s.refuse = errSilence
	if took := s.until("lost", time.Minute, s.is(cid, StateLost, 0)); took > 15*time.Second {
		t.Errorf("it says so after %v", took)
	}
	s.refuse = nil
	if took := s.until("held", time.Minute, s.is(cid, StateHeld, 3)); took > 20*time.Second {
		t.Errorf("held again after %v", took)
	}
}

func TestBackoff(t *testing.T) {
	cid := testCID(1)
	for _, c := range []struct {
		name   string
		refuse error
		state  State
		most   int // tries in an hour
	}{
		{"refused", fmt.Errorf("%w: no", ErrCluster), StateFailed, 17},
		{"silent", errSilence, StateWanted, 130},
		{"garbage", fmt.Errorf("%w: what", ErrAnswer), StateFailed, 17},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
			s.refuse = c.refuse
			s.want(Want{CID: cid, Newest: true})
			s.run(time.Hour)
			if n := len(s.did); n < 5 || n > c.most {
				t.Errorf("%d tries in an hour", n)
			}
			if p := s.pin(cid); p.State != c.state {
				t.Errorf("%+v", p)
			}
			s.refuse = nil
			s.until("held", 11*time.Minute, s.is(cid, StateHeld, 3))
		})
	}
	t.Run("peers fail", func(t *testing.T) {
		s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
		for _, p := range s.peers {
			p.fails = true
		}
		s.want(Want{CID: cid, Newest: true})
		s.run(time.Hour)
		if n := s.count(doRecover, cid); n < 5 || n > 17 {
			t.Errorf("%d times recovered in an hour", n)
		}
		if p := s.pin(cid); p.State != StateFailed || p.Reason == "" {
			t.Errorf("%+v", p)
		}
		for _, p := range s.peers {
			p.fails = false
		}
		s.until("held", 15*time.Minute, s.is(cid, StateHeld, 3))
	})
}

func TestStallIsSaid(t *testing.T) {
	cid, next := testCID(1), testCID(2)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	for _, p := range s.peers {
		p.takes = -1
	}
	s.want(Want{CID: cid, Newest: true})
	s.until("copying", time.Minute, s.is(cid, StateCopying, 0))
	if took := s.until("failed", time.Hour, s.is(cid, StateFailed, 0)); took > 11*time.Minute {
		t.Errorf("it says so after %v", took)
	}
	// What stalls does not keep the next one from its turn.
	for _, p := range s.peers {
		p.takes = 0
	}
	s.want(Want{CID: next, Newest: true})
	s.until("the next one is held", time.Minute, s.is(next, StateHeld, 3))
}

func TestDeadPeersCopiesAreMade(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 4, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	dead := s.set[cid].Allocations[0]
	s.down(dead)
	s.run(4 * time.Minute)
	if n := s.count(doMove, ""); n != 0 {
		t.Errorf("it is moved %d times before the peer is given up", n)
	}
	s.until("on target again", 2*time.Minute, s.is(cid, StateHeld, 3))
	if slices.Contains(s.set[cid].Allocations, dead) {
		t.Error("the dead peer is still allocated")
	}
	// One more dies: there is nobody to move to, and nothing to do about it.
	s.down(s.set[cid].Allocations[0])
	n := len(s.did)
	s.run(2 * time.Hour)
	if more := len(s.did) - n; more > 0 {
		t.Errorf("%d actions that cannot help\n%s", more, s.dump())
	}
	if p := s.pin(cid); p.State != StateHeld || p.Copies != 2 || p.Reason == "" {
		t.Errorf("%+v", p)
	}
	s.up(dead)
	s.until("on target when one is back", 2*time.Minute, s.is(cid, StateHeld, 3))
}

func TestGrowsWithThePeers(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 3, Policy{Min: 1, Max: 3}, KeeperConfig{})
	s.down("peer2")
	s.down("peer3")
	s.want(Want{CID: cid, Newest: true})
	s.until("held once", time.Minute, s.is(cid, StateHeld, 1))
	s.up("peer2")
	s.until("held twice", 3*time.Minute, s.is(cid, StateHeld, 2))
	s.up("peer3")
	s.until("on target", 3*time.Minute, s.is(cid, StateHeld, 3))
}

func TestEverywhere(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 3, Policy{Min: -1, Max: -1}, KeeperConfig{})
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	s.down("peer1")
	s.until("short", time.Minute, s.is(cid, StateShort, 2))
	s.up("peer1")
	s.until("held again", time.Minute, s.is(cid, StateHeld, 3))
	s.run(10 * time.Minute)
	if len(s.did) != 1 {
		t.Error("more was done than to pin it\n", s.dump())
	}
}

func TestPolicyChanges(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 4, Policy{Min: 1, Max: 2}, KeeperConfig{})
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 2))
	for _, p := range []Policy{{Min: 2, Max: 4}, {Min: 1, Max: 1}, {Min: -1, Max: -1}, {Min: 2, Max: 3, Expiry: time.Hour}, {Min: 2, Max: 3}} {
		s.b.policy = p
		s.restart()
		s.want(Want{CID: cid, Newest: true})
		want := p.Max
		if want < 0 {
			want = 4
		}
		s.until(fmt.Sprint(p), 5*time.Minute, func() bool {
			w := s.set[cid]
			return s.is(cid, StateHeld, want)() && w.Max == p.Max && w.ExpireAt.IsZero() == (p.Expiry == 0)
		})
		n := len(s.did)
		s.run(20 * time.Minute)
		if more := len(s.did) - n; more > 0 {
			t.Errorf("%+v: no rest\n%s", p, s.dump())
		}
	}
}

func TestExpiryIsRenewed(t *testing.T) {
	cid := testCID(1)
	s := newSim(t, 3, Policy{Min: 2, Max: 3, Expiry: time.Hour}, KeeperConfig{})
	s.want(Want{CID: cid, Newest: true})
	for range 20 {
		s.run(10 * time.Minute)
		if left := s.set[cid].ExpireAt.Sub(s.now); left < 29*time.Minute {
			t.Fatalf("%v are left", left)
		}
	}
	if n := s.count(doDescribe, cid); n > 8 {
		t.Errorf("renewed %d times in 200 minutes", n)
	}
}
