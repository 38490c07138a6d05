package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// lostSuffix: segments that do not follow on the others keep their bytes under such a name,
// for rescue, when somebody has decided to go on without them.
const lostSuffix = ".lost"

// checkMissing compares what the directory has with what the tail says there was. A file that
// somebody removed leaves no trace of its own, and what it held had been acknowledged.
func (j *Journal) checkMissing(t *leftTail) error {
	newest, version := uint64(0), byte(0)
	if n := len(j.segs); n > 0 {
		newest, version = j.segs[n-1].first, j.segs[n-1].header.version
	}
	switch {
	case version == version2 && (t == nil || t.version != version2):
		return j.missing(fmt.Errorf("%s is missing, empty or cut: changes that were acknowledged and not synced yet may have been in it: %w",
			filepath.Join(j.cfg.Dir, tailName), ErrMissing))
	case t != nil && newest == 0 && (t.newest > 0 || t.next > 1):
		return j.missing(fmt.Errorf("%s has no segment (*%s), and there was one: %w", j.cfg.Dir, segmentSuffix, ErrMissing))
	case t != nil && newest < t.newest:
		return j.missing(fmt.Errorf("%s is missing, which has record %d and those behind it: %w",
			filepath.Join(j.cfg.Dir, segmentName(t.newest)), t.newest, ErrMissing))
	}
	return nil
}

// missing returns an error that nobody has accepted, and keeps one that was.
func (j *Journal) missing(err error) error {
	if !j.cfg.AcceptMissing {
		return err
	}
	j.accepted = append(j.accepted, err)
	return nil
}

// Accepted tells what was missing when the journal was opened with AcceptMissing.
func (j *Journal) Accepted() []error { return j.accepted }

// part opens what is there up to the segment with this index, which does not follow on the one
// before. It and those behind are kept beside.
func (j *Journal) part(from int) error {
	for _, s := range j.segs[from:] {
		if err := errors.Join(s.f.Close(), os.Rename(s.path, s.path+lostSuffix)); err != nil {
			return fmt.Errorf("keeping a segment that does not follow on the others: %w", err)
		}
	}
	j.segs = j.segs[:from]
	j.segs[from-1].sealed = true
	return syncDir(j.cfg.Dir)
}

// gone says that synced records are not there or do not verify. If that is accepted the journal
// ends before them, and goes on in another segment.
func (j *Journal) gone(err error) error {
	if err := j.missing(err); err != nil {
		return err
	}
	j.segs[len(j.segs)-1].sealed = true
	return nil
}

// Has reports whether the record after this one, and all behind it, are there or were never
// written: the older segments may be gone, and only those whose records a commit has may.
func (j *Journal) Has(after uint64) bool {
	return len(j.segs) == 0 || j.segs[0].first <= after+1
}

// Exists reports whether a directory has a journal, or a part of one.
func Exists(dir string) (bool, error) {
	if err := safefile.CheckPrivate(dir); err != nil {
		return false, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(names) > 0 {
		return err == nil, err
	}
	t, err := readTail(dir)
	return t != nil && t.version == version2, err // one of version 1 is not made first
}

// Began reports whether a record may have been written to the journal of a directory.
func Began(dir string) (bool, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(names) > 0 {
		return err == nil, err
	}
	t, err := readTail(dir)
	return t != nil && t.newest > 0, err
}

// corrupt is an ErrCorrupt with words of its own.
type corrupt string

func (e corrupt) Error() string        { return string(e) }
func (e corrupt) Is(target error) bool { return target == ErrCorrupt }
