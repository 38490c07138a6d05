package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(Config{Dir: dir, Derive: testKey(1), SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Abandon)
	return j
}

func record(n uint64) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("record %d;", n)), int(n%97)+1)
}

func fill(t *testing.T, j *Journal, n int) {
	t.Helper()
	for range n {
		want := j.Last() + 1
		got, err := j.Append(record(want)[:4], record(want)[4:])
		if err != nil || got != want {
			t.Fatal(got, want, err)
		}
	}
}

func check(t *testing.T, j *Journal, after, last uint64) {
	t.Helper()
	next := after + 1
	err := j.Replay(after, func(n uint64, p []byte) error {
		if n != next || !bytes.Equal(p, record(n)) {
			return fmt.Errorf("record %d reads %.20q, %d expected", n, p, next)
		}
		next++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if next != last+1 {
		t.Fatalf("replay ended at %d, want %d", next-1, last)
	}
}

func TestReplayAfterKill(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for range 5 { // no Close: the process died
		j := open(t, dir)
		check(t, j, 0, last)
		fill(t, j, 300)
		last += 300
		j.Abandon()
	}
	check(t, open(t, dir), 700, last)
}

func TestTrimKeepsWhatIsNeeded(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 1000)
	if err := j.Trim(500); err != nil {
		t.Fatal(err)
	}
	if err := j.flush(); err != nil {
		t.Fatal(err)
	}
	check(t, j, 500, 1000)
	if err := j.Trim(1000); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 200)
	if err := j.Trim(1000); err != nil {
		t.Fatal(err)
	}
	id := j.ID()
	j.Abandon()
	j = open(t, dir)
	if j.ID() != id {
		t.Fatal("the journal lost its id")
	}
	check(t, j, 1000, 1200)
	segs, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	if len(segs) > 3 {
		t.Fatalf("%d segments are left", len(segs))
	}
}

// lastSegment is the path of the segment that is written to, and how far.
func lastSegment(j *Journal) (string, int64) {
	s := j.segs[len(j.segs)-1]
	return s.path, s.pos
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	f.ReadAt(b[:], at)
	b[0] ^= 0x80
	f.WriteAt(b[:], at)
}

// loseTail takes the copy of the last records away that would repair a segment.
func loseTail(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, tailName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[tailHeader:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTornTailIsDropped(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 20)
	path, pos := lastSegment(j)
	j.Abandon()
	loseTail(t, dir)
	flip(t, path, pos-1)
	j = open(t, dir)
	check(t, j, 0, 19)
	fill(t, j, 5) // goes to a new segment
	j.Abandon()
	j = open(t, dir)
	check(t, j, 0, 24)
}

func TestDamageBeforeASyncedRecordIsNamed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 20)
	path, pos := lastSegment(j)
	if err := j.Sync(context.Background(), 20); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 1)
	j.Abandon()
	flip(t, path, pos-1)
	if _, err := Open(j.cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage to a synced record: %v", err)
	}
	flip(t, path, pos-1)
	// One of those that were synced together: the record after it says nothing of it.
	flip(t, path, headerSize+10)
	if _, err := Open(j.cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage to the first of many synced records: %v", err)
	}
	flip(t, path, headerSize+10)
	flip(t, path, 20) // the header
	if _, err := Open(j.cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damage to a header: %v", err)
	}
	flip(t, path, 20)
	check(t, open(t, dir), 0, 21)
	wrong := j.cfg
	wrong.Derive = testKey(2)
	if _, err := Open(wrong); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("another key: %v", err)
	}
}

func TestMissingSegmentIsNamed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 800)
	j.Abandon()
	segs, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	if len(segs) < 3 {
		t.Fatal("too few segments for the test")
	}
	os.Remove(segs[1])
	if _, err := Open(j.cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestSyncIsShared(t *testing.T) {
	j := open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				n, err := j.Append([]byte("x"))
				if err == nil {
					err = j.Sync(context.Background(), n)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if j.Last() != 400 || j.synced != 400 {
		t.Fatal(j.Last(), j.synced)
	}
}

func TestLimitsAndClose(t *testing.T) {
	j := open(t, t.TempDir())
	if _, err := j.Append(make([]byte, 64<<10)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	fill(t, j, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := j.Sync(context.Background(), 9); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestPlaintextStaysOut(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if _, err := j.Append([]byte("canary-in-the-journal")); err != nil {
		t.Fatal(err)
	}
	path, _ := lastSegment(j)
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte("canary")) {
		t.Fatal("plaintext in the journal", err)
	}
}

// What a record refers to is synced before the record.
func TestBeforeSync(t *testing.T) {
	var j *Journal
	var calls int
	before := func() error { calls++; return nil }
	j, err := Open(Config{Dir: t.TempDir(), Derive: testKey(1), SegmentSize: 16 << 10, Before: before})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Abandon)
	fill(t, j, 1)
	if err := j.Sync(context.Background(), j.Last()); err != nil || calls != 1 {
		t.Fatal(err, calls)
	}
	fill(t, j, 100) // a new segment syncs the one before it
	if calls < 2 {
		t.Error("a segment was synced without what its records refer to")
	}
	bad := errors.New("bad disk")
	j.cfg.Before = func() error { return bad }
	if err := j.Sync(context.Background(), j.Last()); !errors.Is(err, bad) || !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := j.Append([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Error("a journal that could not sync goes on:", err)
	}
}

// A record whose referent is gone ends the journal there, for good; one that had been
// synced is damage.
func TestTornRecord(t *testing.T) {
	for _, synced := range []uint64{0, 40} {
		dir := t.TempDir()
		j := open(t, dir)
		fill(t, j, int(synced))
		if synced > 0 {
			if err := j.Sync(context.Background(), synced); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, j, 400-int(synced)) // several segments, and each begins with a promise
		j.Abandon()
		j = open(t, dir)
		torn := func(at uint64) error {
			return j.Replay(0, func(n uint64, _ []byte) error {
				if n == at {
					return fmt.Errorf("a blob: %w", ErrTorn)
				}
				return nil
			})
		}
		if j.known < synced {
			t.Fatal("the promise is forgotten", j.known)
		}
		if err := torn(j.known); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record %d was synced: %v", j.known, err)
		}
		at := j.known + 3
		if err := torn(at); err != nil {
			t.Fatal(err)
		}
		check(t, j, 0, at-1)
		if j.Last() != at-1 {
			t.Fatal(j.Last())
		}
		fill(t, j, 5) // of the same length as those that were dropped
		j.Abandon()
		j = open(t, dir)
		check(t, j, 0, at+4)
	}
}

// A pattern of syncs is foreseen from its second round on, and a stream of records is not.
func TestHabit(t *testing.T) {
	foreseenIn := func(pattern []uint64) (hits, wrong int) {
		var h habit
		for round := range 10 {
			for _, n := range pattern {
				for k := uint64(1); k <= n; k++ {
					switch said := h.expects(k); {
					case round < 2:
					case said && k == n:
						hits++
					case said:
						wrong++
					}
				}
				h.synced(n)
			}
		}
		return hits, wrong
	}
	for _, x := range []struct {
		pattern     []uint64
		hits, wrong int
	}{
		{[]uint64{1}, 8, 0},
		{[]uint64{11, 1, 2}, 16, 0},
		{[]uint64{4, 3}, 16, 0},
		{[]uint64{5}, 0, 0},
		{[]uint64{1000}, 0, 0},
	} {
		if hits, wrong := foreseenIn(x.pattern); hits != x.hits || wrong != x.wrong {
			t.Errorf("%v: %d syncs foreseen, %d that did not come, want %d and %d", x.pattern, hits, wrong, x.hits, x.wrong)
		}
	}
}

// The power may go when a segment that was given up has a new header, and before the
// directory knows its new name: it has no records, and those of the others are there.
func TestRenameThatWasLost(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 10)
	if err := j.Sync(t.Context(), j.Last()); err != nil {
		t.Fatal(err)
	}
	j.Abandon()
	segs, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	old := filepath.Join(dir, segmentName(0)) // before the one that counts
	if err := allocate(old, 1<<20, false); err != nil {
		t.Fatal(err)
	}
	s, err := createSegment(filepath.Join(dir, "away"), old, j.cfg.Derive, j.id, 11, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	s.f.Close()
	if err := os.Rename(filepath.Join(dir, "away"), old); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	check(t, j, 0, 10)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there:", err)
	}
	fill(t, j, 5)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// What a process wrote that died is not synced by being read: a sync afterwards goes to the
// disk, and what it speaks of before it.
func TestSyncAfterKill(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 5)
	if err := j.Sync(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 5)
	j.Abandon()
	synced := 0
	j, err := Open(Config{Dir: dir, Derive: testKey(1), SegmentSize: 64 << 10, Before: func() error { synced++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Abandon()
	check(t, j, 0, 10)
	for range 2 {
		if err := j.Sync(context.Background(), 10); err != nil {
			t.Fatal(err)
		}
		if synced != 1 {
			t.Fatalf("%d syncs of what the records speak of, want 1", synced)
		}
	}
}

// A segment whose first record was torn gives its name to the next one, which stays when all
// before it is given up.
func TestTornFirstRecord(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	fill(t, j, 1)
	path, _ := lastSegment(j)
	j.Abandon()
	loseTail(t, dir)
	flip(t, path, headerSize+10)
	j = open(t, dir)
	check(t, j, 0, 0)
	fill(t, j, 3)
	if err := j.Trim(0); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 3)
	j.Abandon()
	j = open(t, dir)
	check(t, j, 0, 6)
	if names, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix)); len(names) != 1 || len(j.segs) != 1 {
		t.Fatalf("%d segments, files %q", len(j.segs), names)
	}
}
