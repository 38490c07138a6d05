package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The states that follow from what is known, for a pin that wants two copies and would
// like three.
func TestVerdict(t *testing.T) {
	const (
		pinned   = statusPinned
		pinning  = statusPinning
		queued   = statusPinQueued
		failed   = statusPinError
		gone     = statusUnexpectedlyUnpinned
		silent   = statusClusterError
		untold   = status(0) // no report
		forgiven = time.Second
	)
	type reports []status
	for _, c := range []struct {
		name   string
		given  reports
		down   []string
		change func(*entry)
		age    time.Duration // since the last progress
		state  State
		copies int
		reason string // a part of it
	}{
		{name: "not sent", change: func(e *entry) { e.in = false }, state: StateWanted},
		{name: "refused", change: func(e *entry) { e.in, e.again.error = false, "not enough peers" }, state: StateFailed, reason: "not enough peers"},
		{name: "missing", change: func(e *entry) { e.in, e.wasIn = false, true }, state: StateLost, reason: "missing from the cluster's pin set"},
		{name: "no CID", change: func(e *entry) { e.in, e.bad = false, true }, state: StateFailed, reason: "not a CID"},
		{name: "not asked", change: func(e *entry) { e.asked, e.accepted = time.Time{}, time.Time{} }, state: StateQueued, reason: "not asked yet"},
		{name: "just accepted", given: reports{untold, untold, untold}, state: StateQueued},
		{name: "queued", given: reports{queued, queued, queued}, state: StateQueued},
		{name: "copying", given: reports{pinning, queued, queued}, state: StateCopying},
		{name: "one has it", given: reports{pinned, pinning, pinning}, state: StateCopying, copies: 1},
		{name: "at the minimum", given: reports{pinned, pinned, pinning}, state: StateHeld, copies: 2, reason: "2 of 3 copies: 1 on their way"},
		{name: "on target", given: reports{pinned, pinned, pinned}, state: StateHeld, copies: 3},
		{name: "held, one fails", given: reports{pinned, pinned, failed}, state: StateHeld, copies: 2, reason: "node3 failed"},
		{name: "held, one silent", given: reports{pinned, pinned, silent}, state: StateHeld, copies: 2, reason: "node3 does not answer"},
		{name: "asked and accepted is not stored", given: reports{untold, untold, untold}, age: forgiven, state: StateQueued, copies: 0},
		{name: "pinned by one that is down", given: reports{pinned, pinned, pinned}, down: []string{"peer1", "peer2"}, state: StateShort, copies: 1, reason: "node1 does not answer; node2 does not answer"},
		{name: "all down", given: reports{pinned, pinned, pinned}, down: []string{"peer1", "peer2", "peer3"}, state: StateShort, copies: 0},
		{name: "98 percent for ever", given: reports{pinned, pinning, pinning}, age: time.Hour, state: StateFailed, copies: 1, reason: "no progress for 1h0m0s"},
		{name: "queued for ever", given: reports{queued, queued, queued}, age: time.Hour, state: StateFailed, reason: "no progress"},
		{name: "much data", given: reports{pinning, pinning, pinning}, age: time.Hour, change: func(e *entry) { e.want.Size = 100 << 30 }, state: StateCopying},
		{name: "errors", given: reports{failed, failed, pinned}, state: StateFailed, copies: 1, reason: "node1 failed: no such block"},
		{name: "tried again", given: reports{pinning, pinned, silent}, change: func(e *entry) { r := e.reports["peer1"]; r.attempts, r.error = 4, "no such block" }, state: StateCopying, copies: 1, reason: "node1 tries for the 4. time: no such block"},
		{name: "one lost it", given: reports{gone, pinned, silent}, change: func(e *entry) { e.held = true }, state: StateShort, copies: 1, reason: "node1 does not have it any more"},
		{name: "all lost it", given: reports{gone, gone, gone}, change: func(e *entry) { e.held = true }, state: StateLost, reason: "node1 does not have it any more"},
		{name: "none ever had it", given: reports{gone, gone, gone}, state: StateFailed},
		{name: "too few allocated", given: reports{pinned}, state: StateShort, copies: 1, reason: "1 of 2 copies: it is allocated to 1 peers, and 3 are up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
			s.run(s.step) // the peers are heard
			now := s.now.Add(time.Hour)
			cid := testCID(1)
			s.want(Want{CID: cid, Newest: true})
			e := s.b.pins[cid]
			e.in, e.asked, e.accepted, e.progress = true, now, now, now.Add(-c.age)
			for i, st := range c.given {
				id := []string{"peer1", "peer2", "peer3"}[i]
				e.allocs = append(e.allocs, id)
				s.b.peers[id].name = "node" + id[4:]
				if st != 0 {
					e.reports[id] = &report{status: st, at: now}
					if st == failed {
						e.reports[id].error = "no such block"
					}
				}
			}
			for _, id := range c.down {
				s.b.turn(s.b.peers[id], now, func(m *member) { m.heard = false })
			}
			if c.change != nil {
				c.change(e)
			}
			state, reason := s.b.verdict(e, now)
			if state != c.state || !strings.Contains(reason, c.reason) || s.b.copies(e) != c.copies {
				t.Errorf("%s with %d copies because %q, want %s with %d because …%q…", state, s.b.copies(e), reason, c.state, c.copies, c.reason)
			}
			if state == StateHeld && c.copies == 3 && reason != "" {
				t.Errorf("a reason where nothing is wrong: %q", reason)
			}
		})
	}
}

// A peer that was away counts again only when it has said again that it has the pin.
func TestBackIsNotHeld(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.want(Want{CID: cid, Newest: true})
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
	s.down("peer2")
	if took := s.until("noticed", 30*time.Second, s.is(cid, StateHeld, 2)); took > 15*time.Second {
		t.Errorf("noticed after %v", took)
	}
	clear(s.peers["peer2"].pins)
	s.peers["peer2"].takes = -1 // it comes back empty, and has to copy all again
	s.up("peer2")
	for range 400 {
		s.run(s.step)
		if p := s.pin(cid); p.Copies > 2 {
			t.Fatalf("an empty peer counts: %+v", p)
		}
	}
	s.peers["peer2"].takes = 0
	s.until("held again", time.Minute, s.is(cid, StateHeld, 3))
}

// A peer whose Kubo does not answer is heard, and holds nothing that can be known.
func TestDeafPeer(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	var wants []Want
	for i := range 100 {
		wants = append(wants, Want{CID: testCID(i), Newest: i == 0})
	}
	s.want(wants...)
	s.until("all held", time.Hour, func() bool {
		return !slices.ContainsFunc(s.b.order(), func(e *entry) bool { return s.b.copies(e) != 3 })
	})
	s.peers["peer3"].deaf = true
	s.until("all tell so", 30*time.Second, func() bool {
		return !slices.ContainsFunc(s.b.order(), func(e *entry) bool { return s.b.copies(e) != 2 || e.state != StateHeld })
	})
	s.peers["peer3"].deaf = false
	s.until("all count again", time.Minute, func() bool {
		return !slices.ContainsFunc(s.b.order(), func(e *entry) bool { return s.b.copies(e) != 3 })
	})
}

// A peer that has not heard of a pin yet reports it as one that it should have and has not.
// It has lost nothing; if it goes on to say so, it is asked to fetch it.
func TestNotHeardOfYet(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	cid := testCID(1)
	s.want(Want{CID: cid, Newest: true})
	s.until("accepted", time.Minute, func() bool { return s.count(doPin, cid) == 1 })
	for _, p := range s.peers {
		delete(p.pins, cid)
	}
	s.run(3 * time.Second)
	if p := s.pin(cid); p.State != StateQueued || strings.Contains(p.Reason, "any more") || s.count(doRecover, cid) != 0 {
		t.Errorf("%+v", p)
	}
	s.run(settleTime)
	if s.count(doRecover, cid) == 0 {
		t.Error("peers that never heard of it are not asked to fetch it", s.dump())
	}
	s.until("held", time.Minute, s.is(cid, StateHeld, 3))
}
