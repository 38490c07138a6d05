package ipfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// staging keeps blocks on local disk until a node elsewhere has them for sure. It is a row
// of append-only segment files. A record is a header of recordSize bytes and, for a
// block, its bytes. A record that a kill or a power cut has torn ends its segment.
//
// A foreign node cannot show that it has synced what it was sent. So the blocks of the
// newest linked commit stay until a further commit is linked and verified: if the node
// loses its last seconds in a power cut, they can be sent again.
type staging struct {
	dir   *os.File // flocked
	syncs syncer

	mu       sync.RWMutex
	segments []*segment // the last is the active one
	blocks   map[[32]byte]staged
	newFiles bool // since the directory was synced
}

type segment struct {
	number uint64
	file   *os.File
	size   int64
	live   int64 // bytes of blocks that are still staged
	dirty  bool
}

type staged struct {
	segment *segment
	offset  int64 // of the block's bytes
	size    int
	codec   crypt.Codec
	linked  bool // in the newest linked commit
}

const (
	recordSize  = 44
	recordBlock = 'B'
	recordLink  = 'L' // the block is in a linked commit
	recordDrop  = 'D' // the block is no longer staged

	// segmentSize is the size in bytes from which a new segment is begun.
	segmentSize   = 64 << 20
	segmentSuffix = ".staged"
)

func openStaging(dir string) (_ *staging, err error) {
	if err := safefile.MakeDir(dir); err != nil {
		return nil, err
	}
	s := &staging{blocks: make(map[[32]byte]staged)}
	s.syncs.sync = s.syncNow
	if s.dir, err = lockDir(dir, "staging directory"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+segmentSuffix))
	if err != nil {
		return nil, err
	}
	slices.Sort(names) // the numbers have leading zeroes
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%016x", &n); err != nil {
			return nil, fmt.Errorf("%s is no segment: %w", name, err)
		}
		file, err := safefile.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		seg := &segment{number: n, file: file}
		s.segments = append(s.segments, seg)
		if err := s.load(seg); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	return s, s.reclaim()
}

// escapeGlob keeps the characters of a path from being a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// load reads a segment up to its end or to the first record that is torn.
func (s *staging) load(seg *segment) error {
	r := bufio.NewReaderSize(seg.file, 1<<20)
	var header [recordSize]byte
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return endOfSegment(err)
		}
		kind, codec, digest, size, ok := parseRecord(header)
		if !ok {
			return nil
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(r, data); err != nil {
			return endOfSegment(err)
		}
		old, had := s.blocks[digest]
		switch kind {
		case recordBlock:
			c := fs.CID{Codec: codec, Digest: digest}
			if c.Verify(data) {
				s.forget(digest)
				seg.live += int64(size)
				s.blocks[digest] = staged{segment: seg, offset: seg.size + recordSize, size: size, codec: codec}
			}
		case recordLink:
			if had {
				old.linked = true
				s.blocks[digest] = old
			}
		case recordDrop:
			s.forget(digest)
		}
		seg.size += recordSize + int64(size)
	}
}

func endOfSegment(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func appendRecord(b []byte, kind byte, codec crypt.Codec, digest [32]byte, size int) []byte {
	at := len(b)
	b = append(b, kind, byte(codec), 0, 0)
	b = append(b, digest[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli()))
}

func parseRecord(h [recordSize]byte) (kind byte, codec crypt.Codec, digest [32]byte, size int, ok bool) {
	n := binary.BigEndian.Uint32(h[36:])
	ok = crc32.Checksum(h[:40], castagnoli()) == binary.BigEndian.Uint32(h[40:]) && n <= maxBlock
	return h[0], crypt.Codec(h[1]), [32]byte(h[4:36]), int(n), ok
}

// begin makes a new active segment.
func (s *staging) begin() error {
	n := uint64(1)
	if last := len(s.segments) - 1; last >= 0 {
		n = s.segments[last].number + 1
	}
	name := filepath.Join(s.dir.Name(), fmt.Sprintf("%016x%s", n, segmentSuffix))
	file, err := safefile.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.segments = append(s.segments, &segment{number: n, file: file})
	s.newFiles = true
	return nil
}

func (s *staging) active() *segment { return s.segments[len(s.segments)-1] }

// write appends bytes to the active segment; a write that fails leaves no trace.
func (s *staging) write(b []byte) error {
	if s.active().size >= segmentSize {
		if err := s.begin(); err != nil {
			return err
		}
	}
	seg := s.active()
	seg.dirty = true
	if _, err := seg.file.WriteAt(b, seg.size); err != nil {
		return errors.Join(err, seg.file.Truncate(seg.size))
	}
	seg.size += int64(len(b))
	return nil
}

// put stages blocks; those that are staged already, whole and not yet linked, stay.
func (s *staging) put(blocks []fs.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blocks {
		if at, ok := s.blocks[b.CID.Digest]; ok && !at.linked {
			if data, err := at.read(); err == nil && b.CID.Verify(data) {
				continue
			}
		}
		if err := s.append(b); err != nil {
			return fmt.Errorf("stage %s: %w", b.CID, err)
		}
	}
	return nil
}

func (s *staging) append(b fs.Block) error {
	record := make([]byte, 0, recordSize+len(b.Data))
	record = appendRecord(record, recordBlock, b.CID.Codec, b.CID.Digest, len(b.Data))
	if err := s.write(append(record, b.Data...)); err != nil {
		return err
	}
	s.forget(b.CID.Digest)
	seg := s.active()
	seg.live += int64(len(b.Data))
	s.blocks[b.CID.Digest] = staged{
		segment: seg, offset: seg.size - int64(len(b.Data)), size: len(b.Data), codec: b.CID.Codec,
	}
	return nil
}

func (s *staging) forget(digest [32]byte) {
	if at, ok := s.blocks[digest]; ok {
		at.segment.live -= int64(at.size)
		delete(s.blocks, digest)
	}
}

func (at staged) read() ([]byte, error) {
	data := make([]byte, at.size)
	_, err := at.segment.file.ReadAt(data, at.offset)
	return data, err
}

// get returns a staged block; fs.ErrNotFound if it is not staged, fs.ErrIntegrity if it
// does not verify.
func (s *staging) get(c fs.CID) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, ok := s.blocks[c.Digest]
	if !ok {
		return nil, fs.ErrNotFound
	}
	data, err := at.read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err != nil || !c.Verify(data) {
		return nil, fmt.Errorf("staged block %s: %w", c, fs.ErrIntegrity)
	}
	return data, nil
}

// size returns the length in bytes of a block, if it is staged.
func (s *staging) size(c fs.CID) (n int, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, ok := s.blocks[c.Digest]
	return at.size, ok
}

// linked notes that a commit with these blocks is linked and verified. The blocks of the
// commit before are dropped.
func (s *staging) linked(cids []fs.CID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := make(map[[32]byte]bool, len(cids))
	for _, c := range cids {
		newest[c.Digest] = true
	}
	var records []byte
	var drop [][32]byte
	for digest, at := range s.blocks {
		switch {
		case newest[digest] && !at.linked:
			records = appendRecord(records, recordLink, at.codec, digest, 0)
			at.linked = true
			s.blocks[digest] = at
		case at.linked && !newest[digest]:
			records = appendRecord(records, recordDrop, at.codec, digest, 0)
			drop = append(drop, digest)
		}
	}
	if err := s.write(records); err != nil {
		return err
	}
	for _, digest := range drop {
		s.forget(digest)
	}
	return s.reclaim()
}

// drop ends the staging of blocks.
func (s *staging) drop(cids []fs.CID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var records []byte
	for _, c := range cids {
		if at, ok := s.blocks[c.Digest]; ok {
			records = appendRecord(records, recordDrop, at.codec, c.Digest, 0)
		}
	}
	if err := s.write(records); err != nil {
		return err
	}
	for _, c := range cids {
		s.forget(c.Digest)
	}
	return s.reclaim()
}

// reclaim removes segments without live blocks, oldest first: a record that drops a block
// never goes before the block does. What little lives on in an old segment moves on.
func (s *staging) reclaim() error {
	if a := s.active(); a.live == 0 && a.size >= segmentSize/4 {
		if err := s.begin(); err != nil {
			return err
		}
	}
	for len(s.segments) > 1 {
		seg := s.segments[0]
		if seg.live > seg.size/4 {
			return nil
		}
		if err := s.moveOn(seg); err != nil {
			return err
		}
		if err := os.Remove(seg.file.Name()); err != nil {
			return err
		}
		s.segments = s.segments[1:]
		if err := seg.file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// moveOn appends the live blocks of a segment to the active one and syncs that, so that
// the old copies may go.
func (s *staging) moveOn(seg *segment) error {
	if seg.live == 0 {
		return nil
	}
	for digest, at := range s.blocks {
		if at.segment != seg {
			continue
		}
		data, err := at.read()
		if err != nil {
			return err
		}
		b := fs.Block{CID: fs.CID{Codec: at.codec, Digest: digest}, Data: data}
		if err := s.append(b); err != nil {
			return err
		}
		if !at.linked {
			continue
		}
		if err := s.write(appendRecord(nil, recordLink, at.codec, digest, 0)); err != nil {
			return err
		}
		moved := s.blocks[digest]
		moved.linked = true
		s.blocks[digest] = moved
	}
	for _, to := range s.segments[1:] {
		if to.dirty {
			if err := to.file.Sync(); err != nil {
				return err
			}
		}
	}
	return s.dir.Sync()
}

// sync returns when all that was put before the call survives a power cut.
func (s *staging) sync(ctx context.Context) error { return s.syncs.wait(ctx) }

func (s *staging) syncNow() error {
	s.mu.Lock()
	var dirty []*segment
	for _, seg := range s.segments {
		if seg.dirty {
			dirty = append(dirty, seg)
			seg.dirty = false
		}
	}
	newFiles := s.newFiles
	s.newFiles = false
	s.mu.Unlock()

	var errs []error
	for _, seg := range dirty {
		// A segment that is closed by now was reclaimed: nothing in it is needed.
		if err := seg.file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if newFiles {
		errs = append(errs, s.dir.Sync())
	}
	err := errors.Join(errs...)
	if err != nil {
		s.mu.Lock()
		for _, seg := range dirty {
			seg.dirty = true
		}
		s.newFiles = s.newFiles || newFiles
		s.mu.Unlock()
	}
	return err
}

func (s *staging) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.segments {
		errs = append(errs, seg.file.Close())
	}
	return errors.Join(append(errs, s.dir.Close())...)
}
