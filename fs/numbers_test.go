package fs

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// The numbers of a head are counted on from. None of them may be one from which nobody can
// count on.
func TestHeadNumbersAreBounded(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	head := func(change func(*crypt.Head)) *crypt.Head {
		h := &crypt.Head{Sequence: 10, Epoch: 2, Device: "a", Time: now.UnixNano()}
		change(h)
		return h
	}
	for name, c := range map[string]struct {
		change func(*crypt.Head)
		want   bool
	}{
		"as always":             {func(*crypt.Head) {}, true},
		"the last sequence":     {func(h *crypt.Head) { h.Sequence = math.MaxUint64 }, false},
		"a great one":           {func(h *crypt.Head) { h.Sequence = 1 << 60 }, false},
		"the highest there is":  {func(h *crypt.Head) { h.Sequence = maxSequence(now) }, true},
		"one more":              {func(h *crypt.Head) { h.Sequence = maxSequence(now) + 1 }, false},
		"of the future":         {func(h *crypt.Head) { h.Time, h.Sequence = math.MaxInt64, maxSequence(now)+1 }, false},
		"of a wrong clock":      {func(h *crypt.Head) { h.Time = math.MaxInt64 }, true},
		"of a clock at 1970":    {func(h *crypt.Head) { h.Time = 0 }, true},
		"of a clock before":     {func(h *crypt.Head) { h.Time = math.MinInt64 }, true},
		"no sequence":           {func(h *crypt.Head) { h.Sequence = 0 }, false},
		"the last epoch":        {func(h *crypt.Head) { h.Epoch = math.MaxUint64 }, false},
		"an epoch ahead":        {func(h *crypt.Head) { h.Epoch = 11 }, false},
		"the last turn":         {func(h *crypt.Head) { h.Journals = takeTurn(nil, "a", math.MaxUint64-1) }, false},
		"a turn ahead":          {func(h *crypt.Head) { h.Journals = takeTurn(nil, "a", 10) }, false},
		"a turn of this commit": {func(h *crypt.Head) { h.Journals = takeTurn(nil, "a", 9) }, true},
		"a journal of long life": {func(h *crypt.Head) {
			h.Journals = []crypt.JournalPosition{{Device: "b", Journal: [16]byte{1}, Position: 1 << 62}}
		}, true},
	} {
		if err := plausible(head(c.change), now); (err == nil) != c.want || err != nil && !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whatever number somebody has used up, the next commit has one.
	s, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	last := maxSequence(now)
	if _, err := s.nextSequence(last, now); !errors.Is(err, ErrCounter) {
		t.Errorf("in the same instant: %v", err)
	}
	next, err := s.nextSequence(last, now.Add(time.Second))
	if err != nil || next != last+1 {
		t.Errorf("%d after %d, %v", next, last, err)
	}
	if err := plausible(head(func(h *crypt.Head) { h.Sequence, h.Time = next, now.Add(time.Second).UnixNano() }), now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	// Nor does a day of commits, as fast as a disk can sync, come near the limit.
	if grown := maxSequence(now.Add(24*time.Hour)) - maxSequence(now); grown < 24*3600*100 {
		t.Errorf("%d numbers a day", grown)
	}
	for n, want := range map[uint64]bool{0: false, 1: true, math.MaxUint64: false, maxSequence(now): true} {
		if err := CheckSequence(n, now); (err == nil) != want {
			t.Errorf("%d: %v", n, err)
		}
	}
}
