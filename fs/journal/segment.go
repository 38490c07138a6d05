package journal

import (
	"bufio"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// A segment is a file: a header, then records and re-key entries. All integers are big-endian.
//
//	header:  magic "ICJL\x02", 11 zero bytes, salt (32), journal id (16), first record (8),
//	         tag (16) of the 72 bytes before, zeros up to 4096
//	record:  length of the sealed part (4), sealed part
//	sealed:  hedge (6, random), AES-256-GCM of {records since the highest synced one (2),
//	         payload}, nonce = hedge, number of the record (6); associated data = the four
//	         bytes of the length
//
// Keys are HKDF-SHA256(journal key, salt, label), with the salt of the header or of the
// re-key entry that came last: label "ipfscloud/v2/journal" for records, "ipfscloud/v2/journal
// tag" for tags, which are HMAC-SHA256, cut to 16 bytes. A length of zero, or what does not
// verify, ends a segment.
//
// Version 1, which is read, has its number in the magic, no re-key entries, the label
// "ipfscloud/v1/journal"; the header's tag is the seal of an empty text under nonce 2^96-1
// with the header before it as associated data; and
//
//	sealed:  AES-256-GCM of {highest synced record (8), payload}, nonce = number of the
//	         record in 12 bytes, associated data = the four bytes of the length
const (
	segmentSuffix  = ".seg"
	spareSuffix    = ".old"
	newSuffix      = ".new"
	segmentMagic   = "ICJL"
	headerSize     = 4096
	headerFields   = 16 + 32 + 16 + 8
	recordOverhead = 4 + sealedMin
	sealedMin      = 8 + 16 // of either version
	pageSize       = 4096   // of the kernel's cache; a larger one costs a read and no more
)

// errUnborn: a segment whose header was never written whole.
var errUnborn = errors.New("segment without a header")

// segmentName is the name of the segment with this first record.
func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

type segment struct {
	f       *os.File
	path    string
	size    int64 // of the file
	derive  Deriver
	journal [16]byte
	first   uint64  // number of the first record
	end     uint64  // number after the last record
	pos     int64   // where the next record goes
	used    int64   // bytes of records and re-key entries
	sealed  bool    // no more records: pos is past a torn record, or all is committed
	header  *sealer // with the salt of the header
	now     *sealer // what the records at pos are sealed with
	own     bool    // now's salt was drawn by this process: it may seal with it
	plain   []byte  // scratch for seal
	buf     []byte  // scratch for append
}

func magic(version byte) string {
	return segmentMagic + string(version) + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
}

// headerNonce1 is the nonce of a header's tag in version 1.
func headerNonce1() []byte {
	b := make([]byte, 12)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

// createSegment makes a segment at path out of the file from, new or used. What a used
// one still holds was sealed with another key and reads as the end.
func createSegment(path, from string, derive Deriver, id [16]byte, first uint64, size int64) (_ *segment, err error) {
	f, err := safefile.OpenFile(from, os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("new journal segment: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(from)
		}
	}()
	k, err := freshSealer(derive)
	if err != nil {
		return nil, err
	}
	h := make([]byte, 0, headerSize+4)
	h = append(h, magic(k.version)...)
	h = append(h, k.salt[:]...)
	h = append(h, id[:]...)
	h = binary.BigEndian.AppendUint64(h, first)
	h = append(h, k.tag(h)...)
	h = append(h, make([]byte, headerSize+4-len(h))...) // and a length of zero: no record yet
	if _, err := f.WriteAt(h, 0); err != nil {
		return nil, fmt.Errorf("new journal segment: %w", err)
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return nil, fmt.Errorf("new journal segment: %w", err)
	}
	if err := os.Rename(from, path); err != nil {
		return nil, fmt.Errorf("new journal segment: %w", err)
	}
	from = path // an earlier segment may still take the record that this one was made for
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &segment{f: f, path: path, size: size, derive: derive, journal: id, first: first, end: first, pos: headerSize,
		header: k, now: k, own: true}, nil
}

// allocate makes a file of size bytes: a full disk shows now and not later. With fill its
// zeros are really written, and syncing a record then changes no metadata of the file
// system.
func allocate(path string, size int64, fill bool) error {
	f, err := safefile.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("new journal segment: %w", err)
	}
	zero := make([]byte, 1<<20)
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err, fill = nil, true
	}
	if !fill {
		size = 0
	}
	for off := int64(0); err == nil && off < size; off += int64(len(zero)) {
		_, err = f.WriteAt(zero[:min(int64(len(zero)), size-off)], off)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("new journal segment: %w", err)
	}
	return nil
}

func syncDir(dir string) error { return safefile.SyncDir(dir) }

func syncFile(path string) error {
	f, err := safefile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func openSegment(path string, derive Deriver) (*segment, error) {
	f, err := safefile.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("journal segment: %w", err)
	}
	s := &segment{f: f, path: path, derive: derive, pos: headerSize}
	if err := s.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *segment) readHeader() error {
	st, err := s.f.Stat()
	if err != nil {
		return fmt.Errorf("journal segment: %w", err)
	}
	s.size = st.Size()
	h := make([]byte, headerFields+16)
	if _, err := s.f.ReadAt(h, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return errUnborn
		}
		return fmt.Errorf("journal segment: %w", err)
	}
	version := h[len(segmentMagic)]
	switch {
	case string(h[:len(segmentMagic)]) != segmentMagic:
		return fmt.Errorf("%s is no journal segment: %w", s.path, ErrCorrupt)
	case version == 0 || version > version2:
		return fmt.Errorf("%s has version %d, this program knows versions up to %d: %w", s.path, version, version2, ErrVersion)
	case string(h[:16]) != magic(version):
		return fmt.Errorf("%s is no journal segment: %w", s.path, ErrCorrupt)
	}
	if s.header, err = newSealer(version, s.derive, h[16:48]); err != nil {
		return err
	}
	good := false
	if version == version1 {
		_, err := s.header.aead.Open(nil, headerNonce1(), h[headerFields:], h[:headerFields])
		good = err == nil
	} else {
		good = hmac.Equal(s.header.tag(h[:headerFields]), h[headerFields:])
	}
	if !good {
		return fmt.Errorf("header of %s: %w", s.path, ErrCorrupt)
	}
	s.now = s.header
	copy(s.journal[:], h[48:64])
	s.first = binary.BigEndian.Uint64(h[64:72])
	s.end = s.first
	return nil
}

// scan reads the records from the start, calls fn if it is not nil, with the place where each
// begins, and sets where they end. It returns the number after the last record and the highest
// synced mark.
func (s *segment) scan(fn func(n uint64, pos int64, payload []byte) error) (end, mark uint64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(s.f, headerSize, s.size-headerSize), 1<<20)
	pos, n, k := int64(headerSize), s.first, s.header
	for {
		var l [4]byte
		if _, err := io.ReadFull(r, l[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil { // of the disk: what comes then is not known
			return 0, 0, fmt.Errorf("reading %s: %w", s.path, err)
		}
		size := int64(binary.BigEndian.Uint32(l[:]))
		rekey := size == rekeyMark && k.version == version2
		if rekey {
			size = rekeySize - 4
		}
		if size < sealedMin || pos+4+size > s.size {
			s.sealed = s.sealed || size != 0
			break
		}
		b := make([]byte, 4+size)
		copy(b, l[:])
		if _, err := io.ReadFull(r, b[4:]); err != nil {
			return 0, 0, fmt.Errorf("reading %s: %w", s.path, err)
		}
		if rekey {
			next, err := s.openRekey(b, n, pos)
			if err != nil {
				return 0, 0, err
			}
			if next == nil {
				s.sealed = true
				break
			}
			k, pos = next, pos+rekeySize
			continue
		}
		m, payload, ok := k.open(n, l[:], b[4:])
		if !ok {
			s.sealed = true // never write after a torn record
			break
		}
		mark = max(mark, m)
		if fn != nil {
			if err := fn(n, pos, payload); err != nil {
				return 0, 0, err
			}
		}
		pos += 4 + size
		n++
	}
	s.pos, s.end, s.used, s.now, s.own = pos, n, pos-headerSize, k, false
	return n, mark, nil
}

// beyond looks for records after a bad one at the end, by the length that the bad one claims,
// and returns the highest synced mark of all of them: if it covers the bad one, that one was
// damaged and not torn.
func (s *segment) beyond(bad uint64) (mark uint64) {
	pos, n, k := s.pos, bad, s.now
	var l [4]byte
	for missed := 0; missed < 16; n++ {
		if _, err := s.f.ReadAt(l[:], pos); err != nil {
			break
		}
		size := int64(binary.BigEndian.Uint32(l[:]))
		rekey := size == rekeyMark && k.version == version2
		if rekey {
			size = rekeySize - 4
		}
		if size < sealedMin || pos+4+size > s.size {
			break
		}
		b := make([]byte, 4+size)
		if _, err := s.f.ReadAt(b, pos); err != nil {
			break
		}
		pos += 4 + size
		if rekey {
			if next, err := s.openRekey(b, n, pos-4-size); err == nil && next != nil {
				k = next
			}
			n-- // it is no record
			continue
		}
		missed++
		if m, _, ok := k.open(n, l[:], b[4:]); ok {
			mark, missed = max(mark, m), 0
		}
	}
	return mark
}

// seal appends a sealed record to b.
func (s *segment) seal(b []byte, n, synced uint64, parts [][]byte) []byte {
	size := sealedMin
	for _, p := range parts {
		size += len(p)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return s.now.seal(b, &s.plain, n, synced, parts)
}

// takes reports whether a record of this size has room. Where another process began the
// segment, this one must seal with a salt of its own.
func (s *segment) takes(size int64, fresh bool, limit int64) bool {
	if s.sealed || !s.own && (!fresh || s.header.version == version1) {
		return false
	}
	if !s.own {
		size += rekeySize
	}
	return s.pos+size <= min(limit, s.size)
}

// rekey makes the segment ready for records of this process: in one that another process
// began, they are sealed under a salt of their own. The salt is taken before it is written: if
// that fails, nobody seals anything under it.
func (s *segment) rekey(k *sealer) error {
	entry := s.rekeyEntry(k, s.end, s.pos)
	if err := s.write(slices.Grow(entry, 2*pageSize), s.pos); err != nil {
		s.sealed, s.size = true, s.pos
		return errors.Join(err, s.f.Truncate(s.pos))
	}
	s.pos += rekeySize
	s.used += rekeySize
	s.now, s.own = k, true
	return nil
}

// append writes one record. If that fails, nothing of it stays and no other one may have its
// number here; broken says that it may have stayed.
func (s *segment) append(n, synced uint64, parts [][]byte) (broken bool, err error) {
	s.buf = s.seal(s.buf[:0], n, synced, parts)
	if err := s.write(slices.Grow(s.buf, 2*pageSize), s.pos); err != nil {
		s.sealed, s.size = true, s.pos
		return s.f.Truncate(s.pos) != nil, err
	}
	s.added(len(s.buf))
	return false, nil
}

// added notes a record that is written, or will be before the next segment.
func (s *segment) added(size int) {
	s.pos += int64(size)
	s.used += int64(size)
	s.end++
}

// write writes records to where they belong. b must have room for two pages more.
func (s *segment) write(b []byte, at int64) error {
	// What a used segment holds behind must not be read, so zeros follow. They go on to the
	// end of a page: a page that is written in part would first be read from the disk.
	end := at + int64(len(b))
	zeros := -end & (pageSize - 1)
	if zeros < 4 {
		zeros += pageSize
	}
	out := b
	if zeros = min(zeros, s.size-end); zeros > 0 {
		out = b[:int64(len(b))+zeros]
		clear(out[len(b):])
	}
	_, err := s.f.WriteAt(out, at)
	return err
}

// begin lets the disk start to write the newest bytes, which a sync is expected to want.
// It waits for nothing and promises nothing: a failure shows in the sync.
func (s *segment) begin(size int64) { begin(int(s.f.Fd()), s.pos-size, size) }

func begin(fd int, off, size int64) {
	_ = unix.SyncFileRange(fd, off, size, unix.SYNC_FILE_RANGE_WRITE)
}

// dup gives a second descriptor, which stays open when Trim closes the segment.
func (s *segment) dup() (fd int, err error) {
	return unix.FcntlInt(s.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
