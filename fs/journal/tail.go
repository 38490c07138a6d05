package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// tail is where the newest records wait until they are handed to the segment that they are
// sealed for, many at once: a file that is mapped into memory. It survives the death of this
// process as what was written does, and takes no system call for each record.
//
//	tail: number of the first record (8), zeros to 16, records as in a segment
//
// A number of zero is what a process leaves that closed its journal. Records that the segment
// has, or that are not sealed for it, do not count.
type tail struct {
	m    []byte // the mapped file
	used int    // bytes of records that the segment does not have
}

const (
	tailName   = "tail"
	tailHeader = 16
	// tailFull: with so many bytes of records they are handed to the segment.
	tailFull = 128 << 10
	// tailRecord: a longer record goes to the segment itself.
	tailRecord = 32 << 10
	tailSize   = tailHeader + tailFull + tailRecord + 2*pageSize // room for the last page's zeros
	// tailMost is the size of the largest file that is looked at for what a process left.
	tailMost = 16 << 20
)

// overwrites are file systems that write a mapped page to where it lies: one that looked for
// a new place could find none, and would kill the process for that.
var overwrites = map[int64]bool{unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true}

// openTail maps the tail of a journal whose next record has this number. It returns nil where
// a mapped file is of no use, or cannot be made: the journal does without.
func openTail(dir string, next uint64) (*tail, error) {
	path := filepath.Join(dir, tailName)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != tailSize || !overwrites[st.Type] {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("journal tail: %w", err)
		}
		if !overwrites[st.Type] || allocate(path, tailSize, true) != nil {
			return nil, nil
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, tailSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	_ = unix.Mlock(m) // where that is allowed no access waits for the disk
	t := &tail{m: m}
	if err := t.mark(next); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// mark says on the disk that no records are here, and the number of the next one.
func (t *tail) mark(next uint64) error {
	clear(t.m[:tailHeader+4])
	binary.BigEndian.PutUint64(t.m, next)
	if err := unix.Msync(t.m[:pageSize], unix.MS_SYNC); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	return nil
}

// records returns what is not handed over yet.
func (t *tail) records() []byte { return t.m[tailHeader : tailHeader+t.used] }

// put seals a record behind the others.
func (t *tail) put(s *segment, n, synced uint64, parts [][]byte) {
	b := s.seal(t.records(), n, synced, parts)
	if t.used == 0 {
		binary.BigEndian.PutUint64(t.m, n)
	}
	t.used = len(b)
}

// left returns the records of the tail b that a process which died left for a segment, from
// number next on, how many they are, and the highest synced mark of all that it left for it.
func left(b []byte, s *segment, next uint64) (records []byte, count, mark uint64) {
	n := binary.BigEndian.Uint64(b)
	rest := b[tailHeader:]
	for len(rest) > 4 {
		size := int64(binary.BigEndian.Uint32(rest))
		if size < 8+16 || 4+size > int64(len(rest)) {
			break
		}
		plain, err := s.aead.Open(nil, nonce(n), rest[4:4+size], rest[:4])
		if err != nil {
			break
		}
		mark = max(mark, binary.BigEndian.Uint64(plain))
		if n == next+count {
			records = append(records, rest[:4+size]...)
			count++
		}
		rest = rest[4+size:]
		n++
	}
	return records, count, mark
}

func (t *tail) close() error {
	if err := unix.Munmap(t.m); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	return nil
}

// flush hands the records of the tail to the segment. After an error they stay where they
// are. It is called with the lock held.
func (j *Journal) flush() error {
	if j.tail == nil || j.tail.used == 0 {
		return nil
	}
	s := j.segs[len(j.segs)-1]
	if err := s.write(j.tail.records(), s.pos-int64(j.tail.used)); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.tail.used = 0
	return nil
}

// takeLeft appends to the last segment what a process that died left in the tail.
func (j *Journal) takeLeft() (mark uint64, err error) {
	b, err := readTail(j.cfg.Dir)
	if len(b) < tailHeader || binary.BigEndian.Uint64(b) == 0 || len(j.segs) == 0 {
		return 0, err
	}
	s := j.segs[len(j.segs)-1]
	records, count, mark := left(b, s, s.end)
	if s.pos+int64(len(records)) > s.size {
		return 0, fmt.Errorf("records beyond the end of %s: %w", s.path, ErrCorrupt)
	}
	if count > 0 {
		if err := s.write(slices.Grow(records, 2*pageSize), s.pos); err != nil {
			return 0, fmt.Errorf("writing the journal: %w", err)
		}
		s.pos += int64(len(records))
		s.used += int64(len(records))
		s.end += count
		j.bytes += int64(len(records))
		j.next = s.end
	}
	// Others may have been sealed for this segment, and lie on the disk although they are lost:
	// no record must be sealed for it under a number of theirs.
	s.sealed = true
	return mark, nil
}

// readTail returns what lies in a directory as a tail, if it can be one.
func readTail(dir string) ([]byte, error) {
	path := filepath.Join(dir, tailName)
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() > tailMost {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	return b, nil
}
