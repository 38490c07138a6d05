package horizon

import (
	"math"
	"testing"
	"time"
)

// run plays states to a history, a second apart.
func run(h *history, start time.Time, waiting []int64, written []uint64) Flow {
	for i := range waiting {
		s := State{Pending: Pending{Bytes: waiting[i], Ops: int(min(waiting[i], 1))}, Counters: Counters{BytesWritten: written[i]}}
		h.add(start.Add(time.Duration(i)*time.Second), s)
	}
	return h.flow()
}

func TestFlow(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct {
		waiting []int64
		written []uint64
		want    Flow
	}{
		"nothing":       {[]int64{0, 0, 0, 0}, []uint64{5, 5, 5, 5}, Flow{}},
		"drains":        {[]int64{1000, 900, 800, 700, 600}, []uint64{9, 9, 9, 9, 9}, Flow{Waiting: 600, Done: 400, Total: 1000, Rate: 100, Left: 6 * time.Second}},
		"while written": {[]int64{0, 100, 200, 300, 400}, []uint64{0, 200, 400, 600, 800}, Flow{Waiting: 400, Done: 400, Total: 800, Rate: 100, Left: 4 * time.Second}},
		"too early":     {[]int64{1000, 900}, []uint64{0, 0}, Flow{Waiting: 900, Done: 100, Total: 1000}},
		"a new batch":   {[]int64{500, 0, 300, 200, 200}, []uint64{0, 0, 300, 300, 300}, Flow{Waiting: 200, Done: 100, Total: 300, Rate: 150, Left: 200 * time.Second / 150}},
		"counters anew": {[]int64{100, 200, 200, 200}, []uint64{900, 0, 0, 0}, Flow{Waiting: 200, Total: 200}},
	} {
		var h history
		got := run(&h, start, c.waiting, c.written)
		if got.Still = (time.Time{}); got.Waiting != c.want.Waiting || got.Done != c.want.Done || got.Total != c.want.Total ||
			math.Abs(got.Rate-c.want.Rate) > 0.01 || (got.Left-c.want.Left).Abs() > time.Millisecond {
			t.Errorf("%s: %+v, not %+v", name, got, c.want)
		}
	}
	// What stands still is said, from when it last moved; a clock that is set back harms nothing.
	var h history
	run(&h, start, []int64{100, 90, 90}, []uint64{0, 0, 0})
	h.add(start.Add(time.Minute), State{Pending: Pending{Bytes: 90}})
	if f := h.flow(); !f.Still.Equal(start.Add(time.Second)) {
		t.Errorf("still since %v", f.Still.Sub(start))
	}
	h.add(start.Add(-time.Hour), State{Pending: Pending{Bytes: 90}})
	if f := h.flow(); f.Waiting != 90 || !f.Still.IsZero() || f.Left < 0 {
		t.Errorf("after the clock was set back: %+v", f)
	}
	// With Egress, committed is not copied.
	h = history{}
	for i, only := range []int64{1000, 800, 600, 400} {
		h.add(start.Add(time.Duration(i)*time.Second), State{Egress: Egress{Configured: true, OnlyHere: only}, Pending: Pending{Bytes: 10}})
	}
	if f := h.flow(); f.Waiting != 410 || math.Abs(f.Rate-200) > 0.01 {
		t.Errorf("with Egress: %+v", f)
	}
}

func TestHour(t *testing.T) {
	var h history
	start := time.Now()
	op := func(n uint64) []Op { return []Op{{Kind: "write", Count: n, Buckets: []uint64{n * 9 / 10, n / 10}}} }
	for i := range 3 * slots {
		h.add(start.Add(time.Duration(i)*slot/2), State{Counters: Counters{BytesRead: uint64(i) * 5000, BytesWritten: uint64(i) * 50, Bounds: []float64{.01, .1}, Ops: op(uint64(i) * 100)}})
	}
	if len(h.points) != slots || len(h.recent) > 20 {
		t.Fatalf("%d points, %d samples are kept", len(h.points), len(h.recent))
	}
	p := h.points[slots-1]
	if p.Read != 1000 || p.Written != 10 || !math.IsNaN(p.Latency[0]) || math.Abs(p.Latency[1]-.055) > 1e-9 {
		t.Errorf("%+v", p)
	}
	for _, c := range []struct {
		from, to Op
		want     float64
	}{
		{Op{}, Op{Count: 10, Buckets: []uint64{10, 0}}, .0095},
		{Op{}, Op{Count: 10, Buckets: []uint64{0, 0}}, .1}, // all slower than the last bound
		{Op{}, Op{Count: 10, Buckets: []uint64{1}}, math.NaN()},
		{Op{Count: 10}, Op{Count: 10, Buckets: []uint64{10, 0}}, math.NaN()},
		{Op{Count: 10, Buckets: []uint64{10, 0}}, Op{Count: 5, Buckets: []uint64{5, 0}}, math.NaN()},
	} {
		got := quantile(.95, []float64{.01, .1}, c.from, c.to)
		if math.IsNaN(got) != math.IsNaN(c.want) || !math.IsNaN(got) && math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v: %g, not %g", c, got, c.want)
		}
	}
}
