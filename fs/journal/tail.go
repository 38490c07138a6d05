package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
//	tail: magic "ICJT\x02", 3 zero bytes, number of the first record (8), its place in the
//	      segment (8), highest record that was synced (8), first record
//	      of the newest segment (8; 0: there is none yet), salt (32), zeros up to 128, records
//
// A number of zero is what a process leaves that closed its journal. Records that the segment
// has, or that are not sealed for it, do not count. Where a mapped file is of no use it keeps
// the header alone.
//
// The file is there before the first segment, so that a segment without it tells that it was
// lost. The salt is that of the process which wrote the header, for its records in a segment
// that another process began: a second copy, in case the first one in the segment is damaged.
type tail struct {
	f    *os.File
	m    []byte // the file, if it is mapped
	used int    // bytes of records that the segment does not have
	salt [saltSize]byte
}

const (
	tailName   = "tail"
	tailMagic  = "ICJT\x02\x00\x00\x00"
	tailHeader = 128
	// tailFull: with so many bytes of records they are handed to the segment.
	tailFull = 128 << 10
	// tailRecord: a longer record goes to the segment itself.
	tailRecord = 32 << 10
	tailSize   = tailHeader + tailFull + tailRecord + 2*pageSize // room for the last page's zeros
	// tailMost is the size of the largest file that is looked at for what a process left.
	tailMost = 16 << 20

	// Where in the header they are.
	tailNumber = 8
	tailPlace  = 16
	tailSynced = 24
	tailNewest = 32
	tailSalt   = 40
)

// overwrites are file systems that write a mapped page to where it lies, and share it with no
// copy of the file: one that looked for a new place could find none, and stop the process.
var overwrites = map[int64]bool{unix.EXT4_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true}

// tailState is what a header says, beside the salt.
type tailState struct {
	next   uint64 // number of the next record; 0: the journal was closed
	synced uint64 // records up to here survive a power cut
	newest uint64 // first record of the newest segment; 0: there is none
}

func (t *tail) header(s tailState) []byte {
	h := make([]byte, tailHeader+4) // and a length of zero: no record
	copy(h, tailMagic)
	binary.BigEndian.PutUint64(h[tailNumber:], s.next)
	binary.BigEndian.PutUint64(h[tailSynced:], s.synced)
	binary.BigEndian.PutUint64(h[tailNewest:], s.newest)
	copy(h[tailSalt:], t.salt[:])
	return h
}

// open makes the tail of a journal, for a process that seals with this salt.
func (t *tail) open(dir string, salt [saltSize]byte, s tailState) (err error) {
	t.salt = salt
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	path, mapped := filepath.Join(dir, tailName), overwrites[st.Type]
	old, _ := readTail(dir)
	if fi, err := os.Stat(path); err != nil || old == nil || old.version != version2 || mapped && fi.Size() != tailSize {
		if mapped, err = t.create(dir, mapped, s); err != nil {
			return err
		}
	}
	if t.f, err = safefile.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	if mapped {
		t.m, err = unix.Mmap(int(t.f.Fd()), 0, tailSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("journal tail: %w", err)
		}
	}
	return t.mark(s)
}

// create makes a new file. Whenever this process dies, the old one or the new one is there:
// none would look like one that was lost. If the disk has no room to map it, it gets the
// header alone.
func (t *tail) create(dir string, mapped bool, s tailState) (bool, error) {
	path := filepath.Join(dir, tailName)
	from := path + newSuffix
	if mapped {
		mapped = allocate(from, tailSize, true) == nil // if not, the disk is full
	}
	f, err := safefile.OpenFile(from, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("journal tail: %w", err)
	}
	_, err = f.WriteAt(t.header(s), 0)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(from, path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		os.Remove(from)
		return false, fmt.Errorf("journal tail: %w", err)
	}
	return mapped, nil
}

// mark says on the disk that no records are here, and how the journal stands.
func (t *tail) mark(s tailState) error {
	if t.f == nil {
		return nil
	}
	_, err := t.f.WriteAt(t.header(s), 0)
	if err == nil {
		err = t.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal tail: %w", err)
	}
	return nil
}

// begun notes the newest segment. It need not survive a power cut: an older one is no lie.
func (t *tail) begun(first uint64) error {
	if t.f == nil {
		return nil
	}
	if _, err := t.f.WriteAt(binary.BigEndian.AppendUint64(nil, first), tailNewest); err != nil {
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
		binary.BigEndian.PutUint64(t.m[tailPlace:], uint64(s.pos))
		binary.BigEndian.PutUint64(t.m[tailNumber:], n)
	}
	t.used = len(b)
	return nil
}

// noteSynced says how much survives a power cut, so that the loss of a last record is noticed
// too. It takes no system call, and need not survive a power cut: a lower number is no lie.
func (t *tail) noteSynced(n uint64) (err error) {
	if t.m == nil {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer faulted(&err)
	binary.BigEndian.PutUint64(t.m[tailSynced:], n)
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

// leftTail is a tail that another process left.
type leftTail struct {
	version byte
	tailState
	place   int64
	salt    []byte // nil in version 1
	records []byte
}

// left returns the records of the tail that a process which died left for a segment, from its
// end on, and the highest synced mark of all that it left for it.
func (t *leftTail) left(s *segment, k *sealer) (records []byte, mark uint64) {
	n, at := t.next, t.place
	end, pos := s.end, s.pos
	for rest := t.records; len(rest) > 4; n++ {
		size := int64(binary.BigEndian.Uint32(rest)) + 4
		if size < recordOverhead || size > int64(len(rest)) {
			break
		}
		m, _, ok := k.open(n, rest[:4], append([]byte(nil), rest[4:size]...))
		if !ok {
			break
		}
		mark = max(mark, m)
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
func (j *Journal) takeLeft(t *leftTail) (mark uint64, err error) {
	s := j.segs[len(j.segs)-1]
	if s.header.version == version1 {
		s.sealed = true // nobody may seal with a salt that another process drew
	}
	if t == nil || t.version != s.header.version {
		return 0, nil
	}
	if err := j.mendRekey(t, s); err != nil {
		return 0, err
	}
	mark = t.synced
	if t.next == 0 { // closed: nothing is here
		return mark, nil
	}
	records, more := t.left(s, s.now)
	mark = max(mark, more)
	if s.pos+int64(len(records)) > s.size {
		return mark, j.gone(fmt.Errorf("%s is cut: records beyond its end are in %s: %w", s.path, tailName, ErrMissing))
	}
	if len(records) > 0 {
		// No zeros behind them: there may be more, if it was a damage that ended the segment.
		if _, err := s.f.WriteAt(records, s.pos); err != nil {
			return 0, fmt.Errorf("writing the journal: %w", err)
		}
		more, err := j.rescan(s)
		if err != nil {
			return 0, err
		}
		mark = max(mark, more)
	}
	return mark, nil
}

// rescan reads the last segment again, after something was added to it.
func (j *Journal) rescan(s *segment) (mark uint64, err error) {
	j.bytes -= s.used
	s.sealed = false
	end, mark, err := s.scan(nil)
	if err != nil {
		return 0, err
	}
	j.next = end
	j.bytes += s.used
	return mark, nil
}

// mendRekey writes a re-key entry again that was damaged or lost, out of the salt in the tail,
// if records that were sealed under it follow: else one bad sector would take all of them.
func (j *Journal) mendRekey(t *leftTail, s *segment) error {
	if t.salt == nil || s.pos+rekeySize > s.size || string(t.salt) == string(s.now.salt[:]) {
		return nil
	}
	k, err := newSealer(version2, j.cfg.Derive, t.salt)
	if err != nil {
		return err
	}
	follows := t.next == s.end && t.place == s.pos+rekeySize && firstOpens(k, s.end, t.records)
	if !follows {
		at := io.NewSectionReader(s.f, s.pos+rekeySize, s.size-s.pos-rekeySize)
		b := make([]byte, 4)
		if _, err := at.ReadAt(b, 0); err != nil {
			return nil // no room for a record
		}
		if size := int64(binary.BigEndian.Uint32(b)); size >= sealedMin && size <= at.Size()-4 {
			b = append(b, make([]byte, size)...)
			if _, err := at.ReadAt(b, 0); err != nil {
				return fmt.Errorf("reading %s: %w", s.path, err)
			}
		}
		follows = firstOpens(k, s.end, b)
	}
	if !follows {
		return nil
	}
	if _, err := s.f.WriteAt(s.rekeyEntry(k, s.end, s.pos), s.pos); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	_, err = j.rescan(s)
	return err
}

// firstOpens reports whether record n stands at the start of b.
func firstOpens(k *sealer, n uint64, b []byte) bool {
	if len(b) < recordOverhead {
		return false
	}
	size := int64(binary.BigEndian.Uint32(b)) + 4
	if size < recordOverhead || size > int64(len(b)) {
		return false
	}
	_, _, ok := k.open(n, b[:4], append([]byte(nil), b[4:size]...))
	return ok
}

// readTail returns what lies in a directory as a tail; nil if it is none or is not there.
func readTail(dir string) (*leftTail, error) {
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
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	switch {
	case len(b) >= tailHeader && string(b[:len(tailMagic)]) == tailMagic:
		return &leftTail{version: version2, place: int64(u64(tailPlace)), salt: b[tailSalt : tailSalt+saltSize], records: b[tailHeader:],
			tailState: tailState{next: u64(tailNumber), synced: u64(tailSynced), newest: u64(tailNewest)}}, nil
	case len(b) >= tailHeader1 && b[0] == 0: // a number has no more than 56 bits
		return &leftTail{version: version1, place: int64(u64(8)), records: b[tailHeader1:], tailState: tailState{next: u64(0)}}, nil
	}
	return nil, nil
}

// tailHeader1 is what a tail of version 1 has before its records: the number of the first one
// and its place.
const tailHeader1 = 16
