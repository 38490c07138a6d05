package fs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// stage keeps large writes as the sealed blobs that they will be, so that they are sealed
// and written once: as files beside the journal, whose records say what of a file they
// hold. A blob goes from here into the store, and its file away when a commit has it.
//
// Its lock order: syncing, then mu.
type stage struct {
	path string
	dir  *os.File // open from the start: the kernel tells a failed write-back to it

	syncing sync.Mutex // held while files are synced, and while they are closed

	mu    sync.Mutex
	blobs map[stageID]*stagedBlob
	dirty map[*stagedBlob]struct{} // with bytes that are not synced
	names bool                     // the directory is not synced
	found bool                     // what another process left is not synced
}

type stageID [16]byte

func (id stageID) String() string { return hex.EncodeToString(id[:]) }

// stagedBlob is a blob that is being written, or waits for its commit.
type stagedBlob struct {
	id   stageID
	key  crypt.Key
	file *os.File // closed, and then nil, by end or by sync: whichever comes last

	// Guarded by stage.mu.
	last    uint64 // the newest record of the journal that speaks of it
	done    bool   // nothing more is written to it
	syncing bool   // a sync has it in hand, and not in stage.dirty any more
}

const (
	stageName = "blobs" // in the journal's directory, with which it is set aside
	// syncEach: more files than this are synced together with their file system.
	syncEach = 4
)

// openStage opens the stage beside a journal. What lies there is known by its name alone,
// until the journal tells more.
func openStage(journalDir string) (*stage, error) {
	s := &stage{path: filepath.Join(journalDir, stageName), blobs: map[stageID]*stagedBlob{}, dirty: map[*stagedBlob]struct{}{}}
	if err := safefile.MakeDir(s.path); err != nil {
		return nil, fmt.Errorf("stage for blobs: %w", err)
	}
	var err error
	if s.dir, err = safefile.OpenDir(s.path); err != nil {
		return nil, fmt.Errorf("stage for blobs: %w", err)
	}
	names, err := s.dir.Readdirnames(-1)
	if err != nil {
		s.dir.Close()
		return nil, fmt.Errorf("stage for blobs: %w", err)
	}
	for _, n := range names {
		var id stageID
		if b, err := hex.DecodeString(n); err == nil && len(b) == len(id) {
			copy(id[:], b)
			s.blobs[id] = &stagedBlob{id: id, done: true}
			s.found = true
		}
	}
	return s, nil
}

func (s *stage) file(id stageID) string { return filepath.Join(s.path, id.String()) }

// create begins a blob.
func (s *stage) create(id stageID, key crypt.Key) (*stagedBlob, error) {
	f, err := safefile.OpenIn(s.dir, id.String(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, journalError(fmt.Errorf("staging a blob: %w", err))
	}
	b := &stagedBlob{id: id, key: key, file: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[id], s.names = b, true
	return b, nil
}

// write gives sealed packages to the kernel, where they survive the death of this process.
func (s *stage) write(b *stagedBlob, sealed []byte, off int64) error {
	if _, err := b.file.WriteAt(sealed, off); err != nil {
		return journalError(fmt.Errorf("staging a blob: %w", err))
	}
	s.mu.Lock()
	s.dirty[b] = struct{}{} // not before: a sync meanwhile would take it off too early
	s.mu.Unlock()
	return nil
}

// refer notes the number of a record that speaks of a blob.
func (s *stage) refer(b *stagedBlob, record uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.last = record
}

// end says that nothing more is written to a blob. The disk may begin with it.
func (s *stage) end(b *stagedBlob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.done = true
	if _, dirty := s.dirty[b]; !dirty && !b.syncing && b.file != nil {
		b.file.Close()
		b.file = nil
	}
}

// sync makes all that was written before the call survive a power cut.
func (s *stage) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	names, found := s.names, s.found
	var dirty map[*stagedBlob]struct{}
	if len(s.dirty) > 0 {
		dirty, s.dirty = s.dirty, map[*stagedBlob]struct{}{}
	}
	for b := range dirty {
		b.syncing = true
	}
	s.names, s.found = false, false
	s.mu.Unlock()
	var err error
	if found || len(dirty) > syncEach {
		err = unix.Syncfs(int(s.dir.Fd()))
	} else {
		for b := range dirty {
			err = errors.Join(err, unix.Fdatasync(int(b.file.Fd())))
		}
		if names {
			err = errors.Join(err, s.dir.Sync())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range dirty {
		b.syncing = false
		if _, again := s.dirty[b]; b.done && !again {
			b.file.Close()
			b.file = nil
		}
	}
	if err != nil {
		return fmt.Errorf("syncing staged blobs: %w", err)
	}
	return nil
}

// read returns the plaintext of whole packages of a blob, from byte at on.
func (s *stage) read(id stageID, key crypt.Key, at, n uint32) ([]byte, error) {
	f, err := safefile.OpenIn(s.dir, id.String(), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed := make([]byte, int64(n)/crypt.PackageSize*crypt.SealedPackage)
	if _, err := f.ReadAt(sealed, sealedOffset(at)); err != nil {
		return nil, err
	}
	return crypt.OpenPackages(make([]byte, 0, n), key, at/crypt.PackageSize, sealed)
}

// isLost tells from other errors of read that the bytes are not there, as after a power cut.
func isLost(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, crypt.ErrIntegrity)
}

func sealedOffset(at uint32) int64 { return int64(at) / crypt.PackageSize * crypt.SealedPackage }

// known returns a blob that a record speaks of.
func (s *stage) known(id stageID, key crypt.Key) *stagedBlob {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[id]
	if b == nil {
		b = &stagedBlob{id: id, done: true}
		s.blobs[id] = b
	}
	b.key = key
	return b
}

// trim removes the blobs of which no record behind number upto speaks.
func (s *stage) trim(upto uint64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	var gone []*stagedBlob
	for id, b := range s.blobs {
		if b.done && b.last <= upto {
			gone = append(gone, b)
			delete(s.blobs, id)
			delete(s.dirty, b)
		}
	}
	s.mu.Unlock()
	var err error
	for _, b := range gone {
		if b.file != nil {
			b.file.Close()
		}
		if e := os.Remove(s.file(b.id)); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// close gives the descriptors up.
func (s *stage) close() {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blobs {
		if b.file != nil {
			b.file.Close()
			b.file = nil
		}
	}
	s.dir.Close()
}

// fileStore is a Store that can take a block out of a file without copying it.
type fileStore interface {
	// PutFile is Put of the block that lies in a file, which is not changed any more.
	// ErrNotSupported if the file is on another file system.
	PutFile(ctx context.Context, cid CID, path string) error
}

// sealSource gives a source a pointer. A blob that lies in the stage is only named, and
// goes to the store as the file it is; of others, and where the store takes no file, it
// returns the block to put.
func (t *Tree) sealSource(ctx context.Context, s *source, birth uint64) (crypt.Pointer, Block, error) {
	if s.blob == nil {
		p, sealed, err := crypt.SealBlob(s.data, birth)
		return p, Block{p.CID, sealed}, err
	}
	path := t.stage.file(s.blob.id)
	cid, size, err := sumFile(path)
	if err != nil {
		return crypt.Pointer{}, Block{}, fmt.Errorf("reading a staged blob: %w", err)
	}
	if uint64(size) != crypt.SealedBlobSize(len(s.data)) {
		return crypt.Pointer{}, Block{}, fmt.Errorf("staged blob %s has %d bytes: %w", s.blob.id, size, ErrIntegrity)
	}
	p := crypt.Pointer{CID: cid, Key: s.blob.key, Length: uint32(len(s.data)), Birth: birth}
	if f, ok := t.cfg.Store.(fileStore); ok {
		err := f.PutFile(ctx, p.CID, path)
		if err == nil || !errors.Is(err, ErrNotSupported) {
			return p, Block{}, err
		}
	}
	sealed, err := safefile.ReadFile(path)
	if err == nil && !cid.Verify(sealed) {
		err = ErrIntegrity
	}
	if err != nil {
		return crypt.Pointer{}, Block{}, fmt.Errorf("reading a staged blob: %w", err)
	}
	return p, Block{p.CID, sealed}, nil
}

// sumFile returns the CID of a file's bytes. It lets the disk begin with the file, which
// the next sync wants.
func sumFile(path string) (cid CID, size int64, err error) {
	f, err := safefile.Open(path)
	if err != nil {
		return cid, 0, err
	}
	defer f.Close()
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // that sync would tell of a failure
	buf := sealBuffers.Get().(*[]byte)
	defer sealBuffers.Put(buf)
	if cap(*buf) < crypt.SealedPackage {
		*buf = make([]byte, 2*crypt.SealedPackage)
	}
	h := sha256.New()
	// Neither side is a file to CopyBuffer, which would take a buffer of its own.
	size, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, (*buf)[:cap(*buf)])
	return CID{Codec: crypt.Raw, Digest: [sha256.Size]byte(h.Sum(nil))}, size, err
}
