package horizon

import (
	"math"
	"time"
)

// Flow is how a queue moves: what is only on this computer, how fast that gets less, and
// when it will be nothing.
type Flow struct {
	Waiting int64         // bytes only on this computer
	Done    int64         // of this batch: since nothing waited last
	Total   int64         // Done and Waiting
	Rate    float64       // bytes a second that got safe, over the last minute
	Left    time.Duration // 0: not known
	Still   time.Time     // since when nothing moved; zero while it moves
}

func (f Flow) stuck(now time.Time) bool { return !f.Still.IsZero() && now.Sub(f.Still) >= stuck }

const (
	flowWindow = time.Minute      // over which a rate is taken
	flowLeast  = 3 * time.Second  // of which it is taken at the earliest
	slot       = 10 * time.Second // between points of the hour
	slots      = 360              // an hour
)

// sample is what one state said, as far as it is kept.
type sample struct {
	at            time.Time
	waiting       int64
	read, written uint64
	drained       int64 // since the sample before
	kinds         map[string]Op
	bounds        []float64
}

// Point is one slot of the last hour.
type Point struct {
	At            time.Time
	Read, Written float64 // bytes a second
	Waiting       int64
	Latency       [len3]float64 // seconds, 95 % were faster; NaN if there were none
}

// len3 is the number of kinds of which the latency is drawn.
const len3 = 3

func drawnKinds() [len3]string { return [len3]string{"read", "write", "fsync"} }

// history remembers. The watcher's goroutine owns it.
type history struct {
	recent []sample // of the last flowWindow
	last   sample   // at the last point
	points []Point
	done   int64
	moved  time.Time // when the queue last moved, or was empty
	egress bool
}

func sampleOf(at time.Time, s State) sample {
	out := sample{at: at, waiting: s.Pending.Bytes, read: s.Counters.BytesRead, written: s.Counters.BytesWritten,
		kinds: map[string]Op{}, bounds: s.Counters.Bounds}
	if s.Egress.Configured {
		out.waiting += s.Egress.OnlyHere
	}
	for _, k := range drawnKinds() {
		for _, op := range s.Counters.Ops {
			if op.Kind == k {
				out.kinds[k] = op
			}
		}
	}
	return out
}

// grown is a counter's growth, 0 if it began anew.
func grown(from, to uint64) uint64 {
	if to < from {
		return 0
	}
	return to - from
}

// add takes in a state.
func (h *history) add(at time.Time, s State) {
	now := sampleOf(at, s)
	if h.egress != s.Egress.Configured { // what waits means another thing now
		h.recent, h.done, h.moved, h.egress = nil, 0, at, s.Egress.Configured
	}
	if len(h.recent) == 0 {
		h.moved, h.last = at, now
	} else {
		before := h.recent[len(h.recent)-1]
		if at.Before(before.at) { // the clock was set back
			*h = history{points: h.points, egress: h.egress, moved: at, last: now}
		} else {
			in := min(grown(before.written, now.written), math.MaxInt64/2)
			now.drained = max(0, before.waiting+int64(in)-now.waiting)
		}
	}
	if now.drained > 0 || now.waiting == 0 {
		h.moved = at
	}
	h.done += now.drained
	if now.waiting == 0 && s.Pending.Ops == 0 {
		h.done = 0
	}
	h.recent = append(h.recent, now)
	for len(h.recent) > 2 && at.Sub(h.recent[0].at) > flowWindow {
		h.recent = h.recent[1:]
	}
	if at.Sub(h.last.at) >= slot {
		h.points = append(h.points, pointOf(h.last, now))
		if len(h.points) > slots {
			h.points = h.points[len(h.points)-slots:]
		}
		h.last = now
	}
}

// flow is what the samples say about the queue.
func (h *history) flow() Flow {
	if len(h.recent) == 0 {
		return Flow{}
	}
	now := h.recent[len(h.recent)-1]
	f := Flow{Waiting: now.waiting, Done: h.done, Total: h.done + now.waiting}
	var drained int64
	for _, s := range h.recent[1:] {
		drained += s.drained
	}
	if span := now.at.Sub(h.recent[0].at); span >= flowLeast {
		f.Rate = float64(drained) / span.Seconds()
	}
	if f.Rate >= 1 && f.Waiting > 0 {
		if left := float64(f.Waiting) / f.Rate; left < 1e6 { // beyond days it is no estimate
			f.Left = max(time.Second, time.Duration(left*float64(time.Second)))
		}
	}
	if now.at.Sub(h.moved) > slot {
		f.Still = h.moved
	}
	return f
}

func pointOf(from, to sample) Point {
	seconds := to.at.Sub(from.at).Seconds()
	p := Point{At: to.at, Waiting: to.waiting,
		Read: float64(grown(from.read, to.read)) / seconds, Written: float64(grown(from.written, to.written)) / seconds}
	for i, k := range drawnKinds() {
		p.Latency[i] = quantile(0.95, to.bounds, from.kinds[k], to.kinds[k])
	}
	return p
}

// quantile reads from a histogram's growth under what time a share of the operations
// stayed: linear within a bucket, NaN if there were none.
func quantile(q float64, bounds []float64, from, to Op) float64 {
	if to.Count <= from.Count || len(to.Buckets) != len(bounds) || len(bounds) == 0 {
		return math.NaN()
	}
	if len(from.Buckets) != len(bounds) {
		from = Op{Buckets: make([]uint64, len(bounds))}
	}
	rank, seen, lower := q*float64(to.Count-from.Count), 0.0, 0.0
	for i, b := range bounds {
		n := float64(grown(from.Buckets[i], to.Buckets[i]))
		if seen+n >= rank && n > 0 {
			return lower + (b-lower)*(rank-seen)/n
		}
		seen, lower = seen+n, b
	}
	return bounds[len(bounds)-1]
}
