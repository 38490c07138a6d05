package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// judgeAll looks at each pin again.
func (b *book) judgeAll(now time.Time) {
	b.lookAround()
	for _, e := range b.pins {
		b.judge(e, now)
	}
}

// judge enters the state that follows from what is known.
func (b *book) judge(e *entry, now time.Time) {
	s, reason := b.verdict(e, now)
	if s == StateHeld {
		e.held = true
	}
	have := b.copies(e)
	if s != e.state || reason != e.reason || have != e.have || e.waiting > 0 {
		b.version++
	}
	if s != e.state {
		e.state, e.since = s, now
	}
	if s == e.last.State { // as it was when we were away: so it has been since then
		e.since = e.last.Since
	}
	if e.in && !e.asked.IsZero() {
		e.last = keptPin{}
	}
	e.calm = b.calmTime(e, now)
	e.reason, e.have = reason, have
}

// verdict is the state machine: it depends on what is known, and not on the state
// before, so that no order of answers can get it stuck.
func (b *book) verdict(e *entry, now time.Time) (State, string) {
	switch {
	case e.bad:
		return StateFailed, "this is not a CID"
	case !e.in && e.wasIn:
		return StateLost, "it is missing from the cluster's pin set" + because(e.again.error)
	case !e.in && e.again.error != "":
		return StateFailed, "the cluster does not accept it" + because(e.again.error)
	case !e.in:
		return StateWanted, b.waitsFor()
	}
	if e.asked.IsZero() && e.accepted.IsZero() {
		return StateQueued, "peers were not asked yet"
	}
	g := b.group(e)
	have, least, target := len(g.held), b.least(), b.target()
	busy := len(g.queued)+len(g.copying) > 0 || len(g.unknown) > 0 && now.Sub(e.accepted) < unknownTime
	stalled := now.Sub(e.progress) > b.patience(e)
	switch {
	case have >= target:
		return StateHeld, ""
	case have >= least:
		return StateHeld, b.shortfall(e, g, have, target)
	case busy && !stalled && (len(g.copying) > 0 || have > 0):
		return StateCopying, b.trouble(e, g)
	case busy && !stalled:
		return StateQueued, b.trouble(e, g)
	case busy:
		return StateFailed, fmt.Sprintf("no progress for %v", now.Sub(e.progress).Truncate(time.Second)) + because(b.trouble(e, g))
	case e.held && have == 0 && len(g.gone) > 0 && len(g.failed)+len(g.silent)+len(g.unknown) == 0:
		return StateLost, b.trouble(e, g)
	case len(g.failed) > 0 || have == 0 && len(g.gone) > 0:
		return StateFailed, b.trouble(e, g)
	}
	return StateShort, b.shortfall(e, g, have, least)
}

// patience is how long a pin may make no progress: a minute more for each 64 MiB, for
// peers tell only of whole pins.
func (b *book) patience(e *entry) time.Duration {
	d := b.cfg.StallAfter
	if e.want != nil {
		d += time.Duration(e.want.Size>>26) * time.Minute
	}
	return d
}

// short is the beginning of an error, which is enough in a sentence of several.
func short(s string) string {
	if r := []rune(s); len(r) > 120 {
		return string(r[:120]) + "…"
	}
	return s
}

func because(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func (b *book) waitsFor() string {
	switch {
	case b.away != "":
		return b.away
	case len(b.flights) > 0:
		return "it waits for its turn"
	}
	return ""
}

// lookAround notes which pins are on their way.
func (b *book) lookAround() {
	b.flights = b.flights[:0]
	for _, e := range b.order() {
		if b.inFlight(e) {
			b.flights = append(b.flights, e)
		}
	}
}

// group is the allocated peers of a pin by what they report.
type group struct{ held, copying, queued, failed, gone, silent, unknown []string }

func (b *book) group(e *entry) (g group) {
	for _, id := range b.allocated(e) {
		r, m := e.reports[id], b.peers[id]
		to := &g.unknown
		switch {
		case m != nil && !m.up():
			to = &g.silent
		case r == nil || !b.current(id, r):
		case r.status == statusPinned:
			to = &g.held
		case r.status == statusPinning:
			to = &g.copying
		case r.status == statusPinQueued:
			to = &g.queued
		case r.status == statusPinError:
			to = &g.failed
		case r.status == statusClusterError:
			to = &g.silent
		case r.status == statusUnpinned || r.status == statusUnexpectedlyUnpinned || r.status == statusRemote:
			to = &g.gone
		}
		*to = append(*to, id)
	}
	return g
}

// shortfall says why there are fewer copies than there should be.
func (b *book) shortfall(e *entry, g group, have, want int) string {
	s := fmt.Sprintf("%d of %d copies", have, want)
	if t := b.trouble(e, g); t != "" {
		return s + ": " + t
	}
	if n := len(g.copying) + len(g.queued); n > 0 {
		return fmt.Sprintf("%s: %d on their way", s, n)
	}
	if n := len(b.allocated(e)); n < want {
		return fmt.Sprintf("%s: it is allocated to %d peers, and %d are up", s, n, len(b.upPeers()))
	}
	return s
}

const maxTroubles = 3

// trouble names the peers that do not do what they should.
func (b *book) trouble(e *entry, g group) string {
	var all []string
	add := func(ids []string, say func(id string) string) {
		names := make([]string, 0, len(ids))
		for _, id := range ids {
			if s := say(id); s != "" {
				names = append(names, b.nameOf(e, id)+" "+s)
			}
		}
		slices.Sort(names)
		all = append(all, names...)
	}
	said := func(id, what string) string {
		if r := e.reports[id]; r != nil {
			return what + because(short(r.error))
		}
		return what
	}
	add(g.failed, func(id string) string { return said(id, "failed") })
	add(g.gone, func(id string) string {
		if r := e.reports[id]; r.status == statusUnpinned {
			return "has not heard of the pin" // it would say otherwise that it should have it
		}
		return "does not have it any more"
	})
	add(g.silent, func(id string) string {
		if m := b.peers[id]; m != nil && m.doubt != "" {
			return "cannot tell" + because(short(m.doubt))
		}
		return "does not answer"
	})
	add(g.unknown, func(string) string { return "has not told yet" })
	add(append(slices.Clone(g.copying), g.queued...), func(id string) string {
		if r := e.reports[id]; r.attempts > 1 || r.error != "" {
			return fmt.Sprintf("tries for the %d. time", max(r.attempts, 2)) + because(short(r.error))
		}
		return ""
	})
	if n := len(all) - maxTroubles; n > 0 {
		all = append(all[:maxTroubles], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}
