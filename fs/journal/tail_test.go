package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tailDir is a directory on a file system that a tail is mapped on: that of tests may be
// another one, as in a container.
func tailDir(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"", "/dev/shm"} {
		dir, err := os.MkdirTemp(dir, "journal-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && overwrites[st.Type] {
			return dir
		}
	}
	t.Skip("neither the directory for tests nor /dev/shm is on ext4 or tmpfs: no tail is mapped there")
	return ""
}

// die is what kill -9 does: what is in the tail stays there.
func die(j *Journal) {
	j.tail.used = 0
	j.Abandon()
}

func TestTailSurvivesAKill(t *testing.T) {
	dir := tailDir(t)
	last := uint64(0)
	for round := range 8 {
		j := open(t, dir)
		check(t, j, 0, last)
		// Enough for some segments now and then, and for less than a tail in between.
		n := 3 + round%2*500
		fill(t, j, n)
		last += uint64(n)
		waiting := j.tail.used
		if waiting == 0 {
			t.Fatal("nothing waits in the tail")
		}
		if round == 4 { // killed after the records went to the segment, and before that was noted
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
		}
		die(j)
	}
	check(t, open(t, dir), 0, last)
}

// What a process left in the tail and never finished is dropped, and what comes in its place
// is sealed under another salt: a number seals one text under one key.
func TestTailIsTorn(t *testing.T) {
	dir := tailDir(t)
	j := open(t, dir)
	fill(t, j, 10)
	salt := j.segs[0].now.salt
	end := tailHeader + j.tail.used
	die(j)
	flip(t, filepath.Join(dir, tailName), int64(end-1))
	j = open(t, dir)
	check(t, j, 0, 9)
	fill(t, j, 1)
	if s := j.segs[len(j.segs)-1]; s.now.salt == salt || len(j.segs) != 1 {
		t.Fatalf("%d segments, the salt of the torn record: %v", len(j.segs), s.now.salt == salt)
	}
	die(j)
	check(t, open(t, dir), 0, 10)
}

// A segment that lost its end in a power cut takes nothing that would follow on it, and says
// so if the tail knows that what is lost was synced.
func TestTailAfterALostEnd(t *testing.T) {
	for name, synced := range map[string]bool{"not synced": false, "synced": true} {
		t.Run(name, func(t *testing.T) {
			dir := tailDir(t)
			j := open(t, dir)
			fill(t, j, 5)
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
			path, pos := lastSegment(j)
			fill(t, j, 3)
			if synced {
				if err := j.Sync(context.Background(), 8); err != nil {
					t.Fatal(err)
				}
			} else if err := j.flush(); err != nil {
				t.Fatal(err)
			}
			fill(t, j, 2) // in the tail alone
			die(j)
			if err := os.Truncate(path, pos); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 64<<10); err != nil {
				t.Fatal(err)
			}
			j, err := Open(Config{Dir: dir, Derive: testKey(1), SegmentSize: 64 << 10})
			if synced {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("three synced records are gone: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer j.Abandon()
			check(t, j, 0, 5)
			fill(t, j, 4)
		})
	}
}

// The records in a tail of another journal, or of nonsense, mean nothing.
func TestForeignTail(t *testing.T) {
	dir, other := tailDir(t), tailDir(t)
	j := open(t, dir)
	fill(t, j, 4)
	if err := j.flush(); err != nil {
		t.Fatal(err)
	}
	die(j)
	k, err := Open(Config{Dir: other, Derive: testKey(1), SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, k, 9)
	die(k)
	b, err := os.ReadFile(filepath.Join(other, tailName))
	if err != nil {
		t.Fatal(err)
	}
	short := bytes.Clone(b[:tailHeader])
	lying := bytes.Clone(b)
	clear(lying[tailHeader:])
	binary.BigEndian.PutUint64(lying[tailNumber:], 5)
	binary.BigEndian.PutUint32(lying[tailHeader:], 1<<31)
	for _, text := range [][]byte{b, short, lying} {
		if err := os.WriteFile(filepath.Join(dir, tailName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir)
		check(t, j, 0, 4)
		die(j)
	}
}

// Long records go to the segment, in their order; without a tail all do.
func TestLongRecords(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		dir := tailDir(t)
		j, err := Open(Config{Dir: dir, Derive: testKey(1), SegmentSize: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if !mapped {
			if err := unix.Munmap(j.tail.m); err != nil {
				t.Fatal(err)
			}
			j.tail.m = nil
		}
		sizes := []int{10, 100 << 10, 20, tailRecord, 30, tailRecord - recordOverhead, tailRecord - recordOverhead + 1, 40, 200 << 10, 50}
		for i, n := range sizes {
			if _, err := j.Append(bytes.Repeat([]byte{byte(i)}, n)); err != nil {
				t.Fatal(err)
			}
		}
		if mapped {
			die(j)
		} else {
			j.Abandon()
		}
		if j, err = Open(j.cfg); err != nil {
			t.Fatal(err)
		}
		i := 0
		err = j.Replay(0, func(_ uint64, p []byte) error {
			if len(p) != sizes[i] || p[0] != byte(i) {
				t.Errorf("record %d has %d bytes of %d, %d expected", i, len(p), p[0], sizes[i])
			}
			i++
			return nil
		})
		if err != nil || i != len(sizes) {
			t.Fatal(i, err)
		}
		j.Abandon()
	}
}

// The tail holds ciphertext, whatever is done to it.
func TestNoPlaintextInTheTail(t *testing.T) {
	dir := tailDir(t)
	j := open(t, dir)
	secret := []byte("a very secret text that is long enough to be found")
	if _, err := j.Append(secret); err != nil {
		t.Fatal(err)
	}
	die(j)
	b, err := os.ReadFile(filepath.Join(dir, tailName))
	if err != nil || len(b) != tailSize {
		t.Fatal(len(b), err)
	}
	if bytes.Contains(b, secret[:16]) {
		t.Fatal("plaintext in the tail")
	}
}

// A record that Replay drops does not come back out of the tail.
func TestDroppedFromTheTail(t *testing.T) {
	dir := tailDir(t)
	j := open(t, dir)
	fill(t, j, 5)
	if err := j.flush(); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 3)
	die(j)
	j = open(t, dir)
	err := j.Replay(0, func(n uint64, _ []byte) error {
		if n == 7 {
			return ErrTorn
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	die(j)
	j = open(t, dir)
	check(t, j, 0, 6)
	fill(t, j, 1)
	die(j)
	check(t, open(t, dir), 0, 7)
}

// However a process ended, the next one goes on in the same segment, and can write also when
// the disk has no room for another one.
func TestTheSegmentIsKept(t *testing.T) {
	dir := tailDir(t)
	for round := range uint64(3) {
		j := open(t, dir)
		check(t, j, 0, 4*round)
		fill(t, j, 4)
		if len(j.segs) != 1 {
			t.Fatalf("%d segments", len(j.segs))
		}
		if round == 1 {
			die(j)
		} else if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that fails below the mapped file ends the journal, and not the process.
func TestTailFaults(t *testing.T) {
	j := open(t, tailDir(t))
	fill(t, j, 2)
	if err := os.Truncate(filepath.Join(j.cfg.Dir, tailName), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte("x")); !errors.Is(err, unix.EIO) || !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// Records that were damaged come back from the tail, and those that follow upon them stay.
func TestTailMendsTheMiddle(t *testing.T) {
	cfg := Config{Dir: tailDir(t), Derive: testKey(1), SegmentSize: 256 << 10}
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, j, 5)
	path, sixth := lastSegment(j)
	fill(t, j, 5)
	for range 2 {
		if _, err := j.Append(make([]byte, tailRecord)); err != nil { // too long for the tail
			t.Fatal(err)
		}
	}
	die(j)
	flip(t, path, sixth+20)
	if j, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer j.Abandon()
	n := uint64(0)
	if err := j.Replay(0, func(k uint64, _ []byte) error { n = k; return nil }); err != nil || n != 12 {
		t.Fatalf("%d records, %v", n, err)
	}
}

// A synced record that is damaged is noticed also if it is the last one.
func TestDamagedLastRecord(t *testing.T) {
	dir := tailDir(t)
	j := open(t, dir)
	fill(t, j, 10)
	if err := j.Sync(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	path, pos := lastSegment(j)
	die(j)
	loseTail(t, dir)
	flip(t, path, pos-1)
	if _, err := Open(j.cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("the last synced record is dropped: %v", err)
	}
}
