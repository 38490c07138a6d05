package journal

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// grow starts a new segment; the header is synced, so that a lost segment is noticed.
func (j *Journal) grow() error {
	path := filepath.Join(j.cfg.Dir, segmentName(j.next))
	if n := len(j.segs); n > 0 { // its records must not be missing before a later segment
		if err := j.flush(); err != nil {
			return err
		}
		if err := j.before(); err != nil {
			return j.fail(err)
		}
		if err := unix.Fdatasync(int(j.segs[n-1].f.Fd())); err != nil {
			return j.fail(err)
		}
		j.synced = j.next - 1
	}
	var from string
	if n := len(j.spare); n > 0 {
		from, j.spare = j.spare[n-1], j.spare[:n-1]
	}
	if from == "" {
		// A journal that grows is fed a stream, not small synced records: writing its
		// segments twice would cost more than it saves.
		from = path + newSuffix
		if err := allocate(from, j.cfg.SegmentSize, len(j.segs) < spares); err != nil {
			return err
		}
	}
	s, err := createSegment(path, from, j.cfg.Derive, j.id, j.next, j.cfg.SegmentSize)
	if err != nil {
		return err
	}
	if n := len(j.segs); n > 0 && j.segs[n-1].first == s.first {
		// The one before never had a whole record: the new one has taken its name and place.
		j.segs[n-1].f.Close()
		j.segs = j.segs[:n-1]
	}
	j.segs = append(j.segs, s)
	j.begun = s.pos
	if err := j.tail.begun(s.first); err != nil {
		return j.fail(err)
	}
	return nil
}

// beginBehind is begin for what takes a while to hand to the disk.
func (j *Journal) beginBehind(s *segment, size int64) {
	fd, err := s.dup()
	if err != nil {
		return
	}
	off := s.pos - size
	j.behind.Go(func() {
		begin(fd, off, size)
		unix.Close(fd)
	})
}

// prepare makes the next segment while this one is filled. It is called with the lock held.
func (j *Journal) prepare() {
	ready := make(chan struct{})
	j.ahead = ready
	path := filepath.Join(j.cfg.Dir, fmt.Sprintf("%016x-ahead%s", j.next, spareSuffix)) // no segment retires to this name
	fill := len(j.segs) < spares
	go func() {
		defer close(ready)
		err := allocate(path+newSuffix, j.cfg.SegmentSize, fill)
		if err == nil {
			err = syncFile(path + newSuffix) // else who needs it would wait for all its zeros
		}
		if err == nil {
			err = os.Rename(path+newSuffix, path)
		}
		if err != nil {
			os.Remove(path + newSuffix)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.ahead = nil
		if err == nil {
			j.spare = append(j.spare, path)
		}
	}()
}

// awaitAhead waits for the segment that is being prepared. It gives up the lock meanwhile.
func (j *Journal) awaitAhead() {
	for j.ahead != nil {
		ready := j.ahead
		j.mu.Unlock()
		<-ready
		j.mu.Lock()
	}
}
