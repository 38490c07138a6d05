package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

var (
	// ErrCorrupt: a record that had been synced does not verify.
	ErrCorrupt = errors.New("journal does not verify")
	// ErrMissing: a part of the journal that was there is not, or is empty or cut. It is an
	// ErrCorrupt too.
	ErrMissing error = corrupt("a part of the journal is missing")
	// ErrVersion: a later version of this program wrote the journal.
	ErrVersion = errors.New("the journal is of a later version of this program")
	// ErrTooLarge: a record is larger than a segment can hold.
	ErrTooLarge = errors.New("journal record too large")
	// ErrTorn is what the callee of Replay returns for a record that refers to something
	// which a power cut may have taken.
	ErrTorn = errors.New("record refers to what is not there")
	// ErrClosed: the journal was closed, or failed and cannot be written any more.
	ErrClosed = errors.New("journal closed")
)

// Config says where a journal is and how it is sealed.
type Config struct {
	Dir         string  // 0700, used by this journal alone
	Derive      Deriver // makes the keys that seal the records
	SegmentSize int64   // bytes; 0 means 32 MiB
	// AcceptMissing opens a journal of which a part is missing, with what is there up to
	// that part. Without it that is ErrMissing.
	AcceptMissing bool
	// Before is called before records are synced, and must sync what the records that
	// were appended before the call refer to; nil if they refer to nothing.
	Before func() error
}

const (
	defaultSegment = 32 << 20
	spares         = 3 // trimmed segments that are kept, so that their blocks need no allocation
	// writeEvery: the disk begins to write a segment each time so many bytes are new, so
	// that little is left when the segment is full and must be synced.
	writeEvery = 4 << 20
)

// Journal is an open journal. Its methods may be called from many goroutines.
type Journal struct {
	cfg      Config
	id       [16]byte
	accepted []error // what is missing
	fresh    *sealer // with this process's own salt, for a segment that another one began; nil when it is used

	mu     sync.Mutex    // guards all below
	segs   []*segment    // oldest first; the last is written to
	next   uint64        // number of the next record
	synced uint64        // records up to here survive a power cut
	known  uint64        // records up to here had been synced when the journal was opened
	failed error         // after a failed write or sync nothing is promised any more
	spare  []string      // paths of segments to use again
	bytes  int64         // payload bytes in all segments
	marked uint64        // number of the newest record when a sync began last
	tried  uint64        // first record of the segment that was last being filled while the next one was prepared
	begun  int64         // the disk has begun with the newest segment up to here
	ahead  chan struct{} // closed when the segment that is being prepared is among the spare ones; nil if none is
	habit  habit         // of those who sync
	tail   tail          // the newest records, where it can have any

	syncMu sync.Mutex     // held by the one that syncs
	behind sync.WaitGroup // goroutines that let the disk begin
}

// Open opens or makes the journal in cfg.Dir. A torn tail, never synced, is dropped;
// a synced record that does not verify is ErrCorrupt.
func Open(cfg Config) (*Journal, error) {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = defaultSegment
	}
	if err := safefile.MakeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("journal directory: %w", err)
	}
	if err := syncDir(filepath.Dir(filepath.Clean(cfg.Dir))); err != nil { // its name must survive too
		return nil, fmt.Errorf("journal directory: %w", err)
	}
	j := &Journal{cfg: cfg, next: 1}
	if err := j.load(); err != nil {
		j.closeFiles()
		return nil, err
	}
	err := j.openTail()
	if err != nil {
		j.closeFiles()
		return nil, err
	}
	j.synced = j.known // the rest survived the death of a process, and may lie in the kernel's memory alone
	return j, nil
}

// openTail draws this process's salt before anything is sealed, and keeps it in the tail.
func (j *Journal) openTail() (err error) {
	if j.fresh, err = freshSealer(j.cfg.Derive); err != nil {
		return err
	}
	return j.tail.open(j.cfg.Dir, j.fresh.salt, j.tailState(j.next, j.known))
}

func (j *Journal) tailState(next, synced uint64) tailState {
	s := tailState{next: next, synced: synced}
	if n := len(j.segs); n > 0 {
		s.newest = j.segs[n-1].first
	}
	return s
}

// ID names this journal; a journal that starts empty has a new one.
func (j *Journal) ID() [16]byte { return j.id }

// Append seals a record of the joined parts and writes it. When it returns, the record
// survives the death of this process. The number it got counts up by one each time.
func (j *Journal) Append(parts ...[]byte) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return 0, j.failed
	}
	size := int64(recordOverhead)
	for _, p := range parts {
		size += int64(len(p))
	}
	if size > j.cfg.SegmentSize-headerSize {
		return 0, fmt.Errorf("%d bytes: %w", size, ErrTooLarge)
	}
	for n := len(j.segs); n == 0 || !j.segs[n-1].takes(size, j.fresh != nil, j.cfg.SegmentSize); n = len(j.segs) {
		if j.ahead != nil {
			j.awaitAhead()
			if j.failed != nil {
				return 0, j.failed
			}
			continue
		}
		if err := j.grow(); err != nil {
			return 0, err // nothing was written: the next Append may have more luck
		}
	}
	s := j.segs[len(j.segs)-1]
	if !s.own {
		k := j.fresh
		j.fresh = nil
		if err := s.rekey(k); err != nil {
			return 0, fmt.Errorf("writing the journal: %w", err)
		}
		j.bytes += rekeySize
	}
	inTail := j.tail.m != nil && size <= tailRecord
	if !inTail || j.tail.used >= tailFull {
		if err := j.flush(); err != nil {
			return 0, err
		}
	}
	if inTail {
		if err := j.tail.put(s, j.next, j.synced, parts); err != nil {
			return 0, j.fail(err)
		}
		s.added(int(size))
	} else if broken, err := s.append(j.next, j.synced, parts); err != nil {
		err = fmt.Errorf("writing the journal: %w", err)
		if broken {
			err = j.fail(err)
		}
		return 0, err
	}
	j.bytes += size
	j.next++
	switch {
	case j.habit.expects(j.next - 1 - j.marked):
		if j.flush() == nil { // if not, the sync will tell
			s.begin(s.pos - j.begun)
			j.begun = s.pos
		}
	case s.pos-j.begun >= writeEvery:
		if j.flush() == nil {
			j.beginBehind(s, s.pos-j.begun)
			j.begun = s.pos
		}
	}
	if s.pos > j.cfg.SegmentSize/2 && len(j.spare) == 0 && j.ahead == nil && j.tried != s.first {
		j.tried = s.first // once: if it fails, grow will say why
		j.prepare()
	}
	return j.next - 1, nil
}

func (j *Journal) before() error {
	if j.cfg.Before == nil {
		return nil
	}
	return j.cfg.Before()
}

func (j *Journal) fail(err error) error {
	j.failed = fmt.Errorf("%w: %w", ErrClosed, err)
	return j.failed
}

// Last is the number of the newest record, 0 if there was none.
func (j *Journal) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next - 1
}

// Bytes is the size of all records that are kept.
func (j *Journal) Bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes
}

// Sync makes every record up to number upto survive a power cut. Callers at the same
// time share one sync of the disk. A disk that cannot sync ends the journal's promises:
// every later call fails.
func (j *Journal) Sync(ctx context.Context, upto uint64) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	if j.failed != nil || j.synced >= upto || len(j.segs) == 0 {
		err := j.failed
		j.mu.Unlock()
		return err
	}
	if err := ctx.Err(); err != nil {
		j.mu.Unlock()
		return err
	}
	if err := j.flush(); err != nil {
		j.mu.Unlock()
		return err
	}
	last := j.next - 1
	j.habit.synced(last - j.marked)
	j.marked = last
	fd, err := j.segs[len(j.segs)-1].dup()
	j.mu.Unlock()
	if err != nil {
		return fmt.Errorf("syncing the journal: %w", err)
	}
	defer unix.Close(fd)
	if err = j.before(); err == nil {
		err = unix.Fdatasync(fd)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil { // the kernel may have dropped the pages: a second sync would lie
		return j.fail(err)
	}
	j.synced = max(j.synced, last)
	if err := j.tail.noteSynced(j.synced); err != nil {
		return j.fail(err)
	}
	return nil
}

// Trim gives up the segments whose records all have numbers up to upto.
func (j *Journal) Trim(upto uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.segs); n > 0 && j.next-1 <= upto && j.segs[n-1].pos > j.cfg.SegmentSize/4 {
		// Everything is committed: the next record begins a segment, so that this one
		// can go too. A segment that is hardly used is written on instead: a new one
		// costs two syncs.
		j.segs[n-1].sealed = true
	}
	for len(j.segs) > 0 {
		s := j.segs[0]
		if s.end > upto+1 || len(j.segs) == 1 {
			break // the newest segment stays: it carries the journal's id and count
		}
		if err := j.retire(s); err != nil {
			return err
		}
		j.segs = j.segs[1:]
		j.bytes -= s.used
	}
	return nil
}

func (j *Journal) retire(s *segment) error {
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("closing a segment: %w", err)
	}
	if len(j.spare) < spares && s.size == j.cfg.SegmentSize {
		to := s.path[:len(s.path)-len(segmentSuffix)] + spareSuffix
		if err := os.Rename(s.path, to); err != nil {
			return fmt.Errorf("keeping a segment: %w", err)
		}
		j.spare = append(j.spare, to)
		return nil
	}
	if err := os.Remove(s.path); err != nil {
		return fmt.Errorf("removing a segment: %w", err)
	}
	return nil
}

// Close syncs and closes the journal.
func (j *Journal) Close() error {
	err := j.Sync(context.Background(), j.Last())
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = ErrClosed
	j.awaitAhead()
	j.behind.Wait()
	if j.synced == j.next-1 && j.tail.used == 0 {
		err = errors.Join(err, j.tail.mark(j.tailState(0, j.synced)))
	}
	return errors.Join(err, j.closeFiles())
}

// Abandon closes the files and syncs nothing. It waits for a segment that is being prepared.
func (j *Journal) Abandon() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = ErrClosed
	j.awaitAhead()
	_ = j.flush() // what stays in the tail, the next process finds there
	j.closeFiles()
}

func (j *Journal) closeFiles() error {
	var err error
	for _, s := range j.segs {
		err = errors.Join(err, s.f.Close())
	}
	j.segs = nil
	return errors.Join(err, j.tail.close())
}
