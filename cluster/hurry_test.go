package cluster

import (
	"testing"
	"time"
)

// Who waits for a pin does not wait for when it would be asked for the one before it.
func TestWhatIsInTheWayIsAskedFor(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	before, newest := testCID(1), testCID(2)
	slow := func(takes time.Duration) {
		for _, p := range s.peers {
			p.takes = takes
		}
	}
	slow(-1)
	s.want(Want{CID: before, Newest: true})
	s.run(time.Minute)
	s.want(Want{CID: before}, Want{CID: newest, Newest: true})
	asked := s.calls[laneWatch]
	s.run(5 * time.Minute)
	if s.calls[laneWatch] != asked {
		t.Error("nobody waits, and there is a hurry")
	}
	s.b.pins[newest].waiting, s.b.sorted = 1, nil
	s.until("it was just asked for", time.Minute, func() bool { return s.b.pins[before].askedFor.Equal(s.now.Add(-s.step)) })
	asked = s.calls[laneWatch] + s.calls[laneSweep]
	s.run(10 * time.Second)
	if n := s.calls[laneWatch] + s.calls[laneSweep] - asked; n > 41 {
		t.Errorf("%d calls in ten seconds", n)
	}
	slow(0)
	took := s.until("the other one is made", time.Minute, func() bool { return s.count(doPin, newest) == 1 })
	if took > time.Second {
		t.Errorf("the other one is made %v after there is place for it", took)
	}
	s.until("held", time.Minute, s.is(newest, StateHeld, 3))

	// The newest may be in the way too, of a snapshot; and nobody hurries when nobody waits.
	slow(-1)
	snapshot, third := testCID(3), testCID(4)
	s.want(Want{CID: third, Newest: true}, Want{CID: snapshot})
	s.run(5 * time.Minute)
	for _, c := range []struct{ waiting, least, most int }{{0, 0, 5}, {1, 39, 41}, {0, 0, 5}} {
		s.b.pins[snapshot].waiting, s.b.sorted = c.waiting, nil
		n := -s.calls[laneWatch]
		s.run(10 * time.Second)
		if n += s.calls[laneWatch]; n < c.least || n > c.most {
			t.Errorf("%d wait, and there are %d calls in ten seconds", c.waiting, n)
		}
	}
}
