package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// What 10,000 pins cost is what the package's comment says.
func TestTenThousandPins(t *testing.T) {
	if underRace {
		t.Skip("it measures a cost, which race detection multiplies")
	}
	t.Parallel()
	const pins = 10_000
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{})
	s.step = time.Second
	wants := make([]Want, pins)
	for i := range wants {
		wants[i] = Want{CID: testCID(i), Newest: i == 0}
		if i%100 != 99 { // most are there from before
			p := &wirePin{CID: wants[i].CID, Allocations: []string{"peer1", "peer2", "peer3"}, Min: 2, Max: 3, Metadata: map[string]string{OwnerKey: "me"}}
			s.set[p.CID] = p
			for _, peer := range s.peers {
				peer.pins[p.CID] = &simPin{status: statusPinned}
			}
		}
	}
	allHeld := func() bool {
		return !slices.ContainsFunc(s.b.order(), func(e *entry) bool { return s.b.copies(e) != 3 })
	}
	begun := time.Now()
	s.want(wants...)
	took := s.until("all are known and held", time.Hour, allHeld)
	t.Logf("9,900 pins found and 100 made: after %v, %d calls to ask and %d to change", took, s.calls[laneSweep]+s.calls[laneWatch], s.calls[laneAct])

	clear(s.calls)
	s.run(time.Hour)
	sum := 0
	for l, n := range s.calls {
		t.Logf("%s: %.1f calls a minute", l, float64(n)/60)
		sum += n
	}
	if perMinute := float64(sum) / 60; perMinute > 20 {
		t.Errorf("%.1f calls a minute", perMinute)
	}
	for _, e := range s.b.pins {
		if age := s.now.Sub(e.asked); age > 45*time.Minute {
			t.Fatalf("%s was not asked for since %v", e.cid, age)
		}
	}

	clear(s.calls)
	s.down("peer2")
	took = s.until("all say that a copy is missing", 30*time.Second, func() bool {
		return !slices.ContainsFunc(s.b.order(), func(e *entry) bool { return s.b.copies(e) != 2 })
	})
	t.Logf("a peer dies: all pins say so after %v, %d calls", took, s.calls[laneSweep]+s.calls[laneWatch])
	s.up("peer2")
	took = s.until("all are held again", 20*time.Minute, allHeld)
	t.Logf("it comes back: all are held again after %v, %d calls", took, s.calls[laneSweep]+s.calls[laneWatch])
	t.Logf("two hours of it, with the simulation, took %.1f s", time.Since(begun).Seconds())
}

func TestRestart(t *testing.T) {
	newest, other := testCID(1), testCID(2)
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{StateFile: t.TempDir() + "/pins.json"})
	wants := []Want{{CID: newest, Newest: true}, {CID: other}}
	s.want(wants...)
	s.until("held", time.Minute, func() bool { return s.is(newest, StateHeld, 3)() && s.is(other, StateHeld, 3)() })
	since := s.pin(newest).Since
	k := &Keeper{cfg: s.cfg, book: s.b, dirty: true}
	s.b.released[testCID(7)] = true
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	s.run(time.Hour)
	n := len(s.did)
	s.restart()
	k = &Keeper{cfg: s.cfg, book: s.b}
	if err := k.load(); err != nil {
		t.Fatal(err)
	}
	if !s.b.released[testCID(7)] {
		t.Error("what the user gave up is forgotten")
	}
	s.forget(other) // while nobody looked
	s.refuse = errSilence
	s.want(wants...)
	s.run(s.step)
	s.refuse = nil
	if p := s.pin(other); p.State != StateLost {
		t.Errorf("%+v", p)
	}
	s.until("held", time.Minute, func() bool { return s.is(newest, StateHeld, 3)() && s.is(other, StateHeld, 3)() })
	if got := s.pin(newest).Since; !got.Equal(since) {
		t.Errorf("held since %v, but it was since %v", got, since)
	}
	if len(s.did) > n+2 {
		t.Error("more was done than to pin what was lost\n", s.dump())
	}
}

// A peer that is away when a machine starts is one all the same; those of another cluster
// are not.
func TestPeersAreRemembered(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 2, Max: 3}, KeeperConfig{StateFile: t.TempDir() + "/pins.json"})
	s.cfg.Now = func() time.Time { return s.now }
	s.want(Want{CID: testCID(1), Newest: true})
	s.until("held", time.Minute, s.is(testCID(1), StateHeld, 3))
	again := func() *Keeper {
		k := &Keeper{cfg: s.cfg, book: s.b, dirty: true, changed: make(chan struct{})}
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
		s.restart()
		k.book = s.b
		if err := k.load(); err != nil {
			t.Fatal(err)
		}
		return k
	}
	s.down("peer3")
	k := again()
	if all := k.Peers(); len(all) != 3 || all[2].Name != "node3" || all[2].Up || all[2].LastSeen.IsZero() || len(s.b.upPeers()) != 0 {
		t.Errorf("nobody has told anything yet: %+v", all)
	}
	s.want(Want{CID: testCID(1), Newest: true})
	s.until("two copies", time.Minute, s.is(testCID(1), StateHeld, 2))
	if all := k.Peers(); len(all) != 3 || all[2].Up {
		t.Errorf("%+v", all)
	}
	s.now = s.now.Add(forgetAfter + time.Minute)
	if all := again().Peers(); len(all) != 0 {
		t.Errorf("a day later: %+v", all)
	}

	s = newSim(t, 3, Policy{Min: 2, Max: 3}, s.cfg)
	s.run(time.Minute)
	k = again()
	for id, p := range s.peers { // another cluster
		p.id = "other-" + id
		s.peers[p.id] = p
		delete(s.peers, id)
		break
	}
	for id := range s.peers {
		if !strings.HasPrefix(id, "other-") {
			delete(s.peers, id)
		}
	}
	s.run(time.Minute)
	if all := k.Peers(); len(all) != 1 || !all[0].Up {
		t.Errorf("those of another cluster are still peers: %+v", all)
	}
}

// How many copies there are to be can change at any time.
func TestAnotherPolicy(t *testing.T) {
	s := newSim(t, 3, Policy{Min: 1, Max: 1}, KeeperConfig{})
	s.want(Want{CID: testCID(1), Newest: true})
	s.until("held once", time.Minute, s.is(testCID(1), StateHeld, 1))
	k := &Keeper{cfg: s.cfg, book: s.b, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	if err := k.SetPolicy(Policy{Min: 3, Max: 2}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	changed := k.Changed()
	if err := k.SetPolicy(Policy{Min: 2, Max: 3}); err != nil {
		t.Error(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told")
	}
	if p := s.pin(testCID(1)); p.State == StateHeld || p.Target != 3 {
		t.Errorf("%+v", p)
	}
	s.until("three copies", 5*time.Minute, s.is(testCID(1), StateHeld, 3))
}
