package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// load reads the segments that are there and finds where the records end.
func (j *Journal) load() error {
	names, err := filepath.Glob(filepath.Join(j.cfg.Dir, "*"+segmentSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		s, err := openSegment(n, j.cfg.Derive)
		if errors.Is(err, errUnborn) { // made, but its header was never synced: nothing in it
			if err := os.Remove(n); err != nil {
				return fmt.Errorf("removing an unused segment: %w", err)
			}
			continue
		}
		if errors.Is(err, ErrCorrupt) && j.missing(err) == nil {
			if err := os.Rename(n, n+lostSuffix); err != nil {
				return fmt.Errorf("keeping a damaged segment: %w", err)
			}
			continue
		}
		if err != nil {
			j.closeFiles()
			return err
		}
		if filepath.Base(n) != segmentName(s.first) {
			// A segment that had been given up got a new header, and the power went before
			// the directory knew its new name: it has no record that counts.
			if err := errors.Join(s.f.Close(), os.Remove(n)); err != nil {
				return fmt.Errorf("removing an unused segment: %w", err)
			}
			continue
		}
		j.segs = append(j.segs, s)
	}
	if torn, err := filepath.Glob(filepath.Join(j.cfg.Dir, "*"+newSuffix)); err == nil {
		for _, n := range torn { // its maker died
			if err := os.Remove(n); err != nil {
				return fmt.Errorf("removing an unfinished segment: %w", err)
			}
		}
	}
	if old, err := filepath.Glob(filepath.Join(j.cfg.Dir, "*"+spareSuffix)); err == nil {
		j.spare = old
	}
	left, err := readTail(j.cfg.Dir)
	if err != nil {
		return err
	}
	if err := j.checkMissing(left); err != nil {
		return err
	}
	var promised uint64 // the highest record that some record says was synced
	for i, s := range j.segs {
		if i == 0 {
			j.id, j.next = s.journal, s.first
		} else if s.journal != j.id || s.first != j.next {
			err := j.missing(fmt.Errorf("%s is missing or cut: %s begins with record %d: %w",
				filepath.Join(j.cfg.Dir, segmentName(j.next)), s.path, s.first, ErrMissing))
			if err != nil {
				return err
			}
			if err := j.part(i); err != nil {
				return err
			}
			break
		}
		end, mark, err := s.scan(nil)
		if err != nil {
			return err
		}
		promised = max(promised, mark, s.first-1)
		j.next = end
		j.bytes += s.used
	}
	if len(j.segs) == 0 {
		rand.Read(j.id[:])
		return nil
	}
	mark, err := j.takeLeft(left)
	if err != nil {
		return err
	}
	promised = max(promised, mark)
	last := j.segs[len(j.segs)-1]
	j.known = min(promised, j.next-1)
	if last.beyond(j.next) >= j.next {
		return j.gone(fmt.Errorf("record %d in %s: %w", j.next, last.path, ErrCorrupt))
	}
	if promised >= j.next {
		return j.gone(fmt.Errorf("record %d was synced and is gone from %s: %w", j.next, last.path, ErrMissing))
	}
	return nil
}

// Replay calls fn for each record after the given number, in order. Payloads are the
// callee's to keep. It must end before the first Append.
//
// A record for which fn returns ErrTorn ends the journal, if nothing says that it was
// synced: it and all behind it are dropped, as a torn tail is. Else it is ErrMissing.
func (j *Journal) Replay(after uint64, fn func(number uint64, payload []byte) error) error {
	if !j.Has(after) {
		return fmt.Errorf("the journal begins with record %d, record %d is wanted: %w", j.segs[0].first, after+1, ErrMissing)
	}
	for _, s := range j.segs {
		if s.end <= after+1 {
			continue
		}
		var at uint64
		_, _, err := s.scan(func(n uint64, _ int64, p []byte) error {
			if n <= after {
				return nil
			}
			at = n
			return fn(n, p)
		})
		if errors.Is(err, ErrTorn) && at > j.known {
			return j.cut(at)
		}
		if errors.Is(err, ErrTorn) {
			if err := j.missing(fmt.Errorf("record %d, which was synced: %w: %w", at, ErrMissing, err)); err != nil {
				return err
			}
			j.known = at - 1
			return j.cut(at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errHere ends a scan.
var errHere = errors.New("end of the scan")

// cut drops the record with this number and all behind it. What is dropped is really
// gone: a later record must not make it follow again.
func (j *Journal) cut(number uint64) error {
	state := j.tailState(number, j.known)
	for i := len(j.segs) - 1; i > 0 && j.segs[i].first >= number; i-- {
		state.newest = j.segs[i-1].first
	}
	if err := j.tail.mark(state); err != nil { // first: a segment that it names must be there
		return err
	}
	for len(j.segs) > 0 {
		s := j.segs[len(j.segs)-1]
		if s.first >= number && len(j.segs) > 1 {
			if err := errors.Join(s.f.Close(), os.Remove(s.path)); err != nil {
				return fmt.Errorf("dropping a torn segment: %w", err)
			}
			j.bytes -= s.used
			j.segs = j.segs[:len(j.segs)-1]
			continue
		}
		j.bytes -= s.used
		pos := s.pos
		_, _, err := s.scan(func(n uint64, at int64, _ []byte) error {
			if n == number {
				pos = at
				return errHere
			}
			return nil
		})
		if err != nil && !errors.Is(err, errHere) {
			return err
		}
		if err := s.f.Truncate(pos); err != nil {
			return fmt.Errorf("dropping a torn record: %w", err)
		}
		if err := s.f.Sync(); err != nil {
			return fmt.Errorf("dropping a torn record: %w", err)
		}
		s.pos, s.end, s.used, s.size, s.sealed = pos, number, pos-headerSize, pos, true
		j.bytes += s.used
		break
	}
	j.next, j.synced = number, number-1
	return nil
}
