package fs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/journal"
)

// space answers whether the local disk can take a change. What is in the journal will be
// written once more when it is committed, and commits and removals must always find room:
// so new data is refused while there is still space for those.
type space struct {
	dir  string
	owed atomic.Int64 // bytes in the journal that a commit will write once more
	// refused is told when new data is refused. It returns at once.
	refused func()

	mu      sync.Mutex
	free    int64 // bytes, when last asked
	spent   int64 // bytes admitted since
	asked   time.Time
	reserve int64
}

const (
	reserveMax = 64 << 20
	askEvery   = 200 * time.Millisecond
	askBytes   = 8 << 20
)

// admit returns ErrNoSpace if n more bytes of new data would eat into the reserve.
// Changes that free space, or take next to none, always pass.
func (s *space) admit(n int64, kind opKind) error {
	switch kind {
	case opWrite, opCreate, opWhiteout, opSetXattr, opLink:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.IsZero() || s.spent > askBytes || time.Since(s.asked) > askEvery {
		var st unix.Statfs_t
		if err := unix.Statfs(s.dir, &st); err != nil {
			return fmt.Errorf("asking for free space: %w", err)
		}
		total := int64(st.Blocks) * st.Bsize
		s.reserve = min(reserveMax, total/8)
		s.free, s.spent, s.asked = int64(st.Bavail)*st.Bsize, 0, time.Now()
	}
	s.spent += 2*n + 512
	if s.free-s.spent-s.owed.Load() < s.reserve {
		if s.refused != nil {
			s.refused()
		}
		return fmt.Errorf("%d MiB are left under %s: %w", s.free>>20, s.dir, ErrNoSpace)
	}
	return nil
}

// full tells whether the next new data will be refused. It asks the disk.
func (s *space) full() bool {
	var st unix.Statfs_t
	if unix.Statfs(s.dir, &st) != nil {
		return false
	}
	reserve := min(reserveMax, int64(st.Blocks)*st.Bsize/8)
	return int64(st.Bavail)*st.Bsize-s.owed.Load() < reserve
}

// forget makes the next admit ask the disk again.
func (s *space) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Time{}
}

// journalError gives a failed append its meaning.
func journalError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, journal.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrStateMissing, err)
	}
	return err
}
