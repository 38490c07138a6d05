package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// tail is where the newest records wait until they are handed to the segment that they are
// sealed for, many at once: a file that is mapped into memory. It survives the death of this
// process as what was written does, and takes no system call for each record.
//
//	tail: number of the first record (8), its place in the segment (8), records
//
// A number of zero is what a process leaves that closed its journal. Records that the segment
// has, or that are not sealed for it, do not count. Where a mapped file is of no use it keeps
// the number alone.
type tail struct {
	f    *os.File
	m    []byte // the file, if it is mapped
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

// overwrites are file systems that write a mapped page to where it lies, and share it with no
// copy of the file: one that looked for a new place could find none, and stop the process.
var overwrites = map[int64]bool{unix.EXT4_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true}

// open makes the tail of a journal whose next record has this number.
func (t *tail) open(dir string, next uint64) (err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	path, mapped := filepath.Join(dir, tailName), overwrites[st.Type]
	if fi, err := os.Stat(path); mapped && (err != nil || fi.Size() != tailSize) {
		mapped = allocate(path, tailSize, true) == nil // if not, the disk is full
	}
	if t.f, err = safefile.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	if mapped {
		t.m, err = unix.Mmap(int(t.f.Fd()), 0, tailSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("journal tail: %w", err)
		}
	}
	return t.mark(next)
}

// mark says on the disk that no records are here, and the number of the next one.
func (t *tail) mark(next uint64) error {
	if t.f == nil {
		return nil
	}
	var h [tailHeader + 4]byte
	binary.BigEndian.PutUint64(h[:], next)
	_, err := t.f.WriteAt(h[:], 0)
	if err == nil {
		err = t.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	return nil
}

// records returns what is not handed over yet.
func (t *tail) records() []byte { return t.m[tailHeader : tailHeader+t.used] }

// put seals a record behind the others. An error is one of the disk below the mapped file.
func (t *tail) put(s *segment, n, synced uint64, parts [][]byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer faulted(&err)
	b := s.seal(t.records(), n, synced, parts)
	if t.used == 0 { // the other order would be for a record that is not there
		binary.BigEndian.PutUint64(t.m[8:], uint64(s.pos))
		binary.BigEndian.PutUint64(t.m, n)
	}
	t.used = len(b)
	return nil
}

// faulted makes an error of a panic that an access to mapped memory ended in.
func faulted(err *error) {
	switch r := recover().(type) {
	case nil:
	case interface {
		runtime.Error
		Addr() uintptr
	}:
		*err = fmt.Errorf("journal tail: %w: %w", unix.EIO, r)
	default:
		panic(r)
	}
}

// left returns the records of the tail b that a process which died left for a segment, from
// its end on, and the highest synced mark of all that it left for it.
func left(b []byte, s *segment) (records []byte, mark uint64) {
	n, at := binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))
	end, pos := s.end, s.pos
	for rest := b[tailHeader:]; len(rest) > 4; n++ {
		size := int64(binary.BigEndian.Uint32(rest)) + 4
		if size < recordOverhead || size > int64(len(rest)) {
			break
		}
		plain, err := s.aead.Open(nil, nonce(n), rest[4:size], rest[:4])
		if err != nil {
			break
		}
		mark = max(mark, binary.BigEndian.Uint64(plain))
		if n == end && at == pos {
			records = append(records, rest[:size]...)
			end, pos = end+1, pos+size
		}
		rest, at = rest[size:], at+size
	}
	return records, mark
}

func (t *tail) close() error {
	if t.f == nil {
		return nil
	}
	err := t.f.Close()
	if t.m != nil {
		err = errors.Join(err, unix.Munmap(t.m))
	}
	*t = tail{}
	return err
}

// flush hands the records of the tail to the segment. After an error they stay where they
// are. It is called with the lock held.
func (j *Journal) flush() (err error) {
	if j.tail.used == 0 {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer faulted(&err)
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
	records, mark := left(b, s)
	if s.pos+int64(len(records)) > s.size {
		return 0, fmt.Errorf("records beyond the end of %s: %w", s.path, ErrCorrupt)
	}
	if len(records) > 0 {
		// No zeros behind them: there may be more, if it was a damage that ended the segment.
		if _, err := s.f.WriteAt(records, s.pos); err != nil {
			return 0, fmt.Errorf("writing the journal: %w", err)
		}
		j.bytes -= s.used
		end, more, err := s.scan(nil)
		if err != nil {
			return 0, err
		}
		j.next, mark = end, max(mark, more)
		j.bytes += s.used
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
	b, err := safefile.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("journal tail: %w", err)
	}
	return b, nil
}
