package cluster

import (
	"strings"
	"testing"
	"time"
)

// The answer that brings a peer back counts, however long ago it was asked for: while
// another peer hangs, each answer takes as long as the cluster waits for that one.
func TestTheAnswerThatBringsAPeerBackCounts(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 1, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	s.peers["peer2"].deaf, s.peers["peer3"].deaf = true, true
	s.round = 15 * time.Second
	s.until("noticed", time.Minute, s.is(cid, StateHeld, 1))
	s.run(2 * time.Minute)
	s.peers["peer3"].deaf = false
	// The answer that is under way was given before; it counts with the one after that.
	if took := s.until("it counts again", time.Minute, s.is(cid, StateHeld, 2)); took > 2*s.round+time.Second {
		t.Errorf("it counts again after %v", took)
	}
}

// On a busy machine pings come late. A peer that is heard again counts again with what it
// was asked for meanwhile, and one that is not heard and answers all the same is there.
func TestPingsGetLost(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	s.round = 5 * time.Second
	s.peers["peer2"].mute = true
	s.until("noticed", time.Minute, s.is(cid, StateHeld, 2))
	s.until("it is asked", time.Minute, func() bool { return s.asking[laneWatch] != nil })
	s.peers["peer2"].mute = false
	if took := s.until("it is heard", time.Minute, func() bool { return s.b.peers["peer2"].pinged }); took > 2*time.Second+s.step {
		t.Errorf("it is heard again after %v", took)
	}
	if took := s.until("it counts again", time.Minute, s.is(cid, StateHeld, 3)); took > s.round {
		t.Errorf("it counts %v after it was heard", took)
	}

	s.round = 0
	s.peers["peer2"].mute = true
	s.until("noticed again", time.Minute, s.is(cid, StateHeld, 2))
	s.until("it answers", time.Minute, s.is(cid, StateHeld, 3))
	for range 200 {
		s.run(s.step)
		if n := s.pin(cid).Copies; n != 3 {
			t.Fatalf("it comes and goes: %d copies", n)
		}
	}
	s.down("peer2")
	s.until("it does not answer either", 20*time.Second, s.is(cid, StateHeld, 2))
	s.run(time.Minute)
	if n := s.pin(cid).Copies; n != 2 {
		t.Errorf("one that is dead counts: %d copies", n)
	}
}

// What says that a peer cannot tell is no news when it has answered a later question.
func TestOldDoubtIsNoNews(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	says := func(st status, asked time.Time) {
		s.b.doubts([]*wireStatus{{CID: cid, Peers: map[string]wireState{"peer2": {Status: st.String()}}}}, asked, s.now)
	}
	begun := s.now
	at := func(d time.Duration) time.Time { return begun.Add(d) }
	s.now = at(10 * time.Second)
	for _, c := range []struct {
		status status
		asked  time.Time
		up     bool
	}{
		{statusClusterError, at(4 * time.Second), false},
		{statusPinned, at(6 * time.Second), false}, // said before it fell silent, perhaps
		{statusPinned, at(11 * time.Second), true},
		{statusClusterError, at(5 * time.Second), true},
		{statusClusterError, at(12 * time.Second), false},
	} {
		s.now = s.now.Add(time.Second)
		if says(c.status, c.asked); s.b.peers["peer2"].up() != c.up {
			t.Errorf("%v after %v: up is %v", c.status, c.asked.Sub(begun), !c.up)
		}
	}
}

// A peer that comes and goes is no progress of what another one does not copy.
func TestComingAndGoingIsNoProgress(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 3, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.peers["peer3"].takes = -1
	s.want(Want{CID: cid, Newest: true})
	s.until("two copies", time.Minute, s.is(cid, StateCopying, 2))
	for begun := s.now; s.pin(cid).State != StateFailed; {
		s.peers["peer2"].down = !s.peers["peer2"].down
		s.run(30 * time.Second)
		if s.now.Sub(begun) > s.cfg.StallAfter+2*time.Minute {
			t.Fatal("it never fails\n", s.dump())
		}
	}
	if p := s.pin(cid); !strings.Contains(p.Reason, "no progress for 10m") {
		t.Errorf("%+v", p)
	}

	// But to begin anew is, and what it was before a long absence says nothing.
	s.up("peer2")
	s.run(time.Minute)
	clear(s.peers["peer2"].pins)
	s.peers["peer2"].takes = -1
	s.until("it copies anew", time.Minute, s.is(cid, StateCopying, 1))
	s.down("peer2")
	s.down("peer3")
	s.run(time.Hour)
	s.up("peer3")
	s.run(time.Minute)
	if p := s.pin(cid); p.State != StateCopying {
		t.Errorf("%+v", p)
	}
}
