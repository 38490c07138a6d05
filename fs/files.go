package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/deadline"
)

// piece is a part of a read that comes from a stored blob.
type piece struct {
	ptr crypt.Pointer
	at  uint32
	dst []byte
	few bool // of the blob, no more is wanted soon
}

// Read fills p with the bytes of a file from off on, and returns how many there are:
// fewer than len(p) only at the end of the file.
func (t *Tree) Read(ctx context.Context, ino Ino, off uint64, p []byte) (int, error) {
	for try := 0; ; try++ {
		n, pieces, err := t.plan(ctx, ino, off, p)
		if err != nil || len(pieces) == 0 {
			return n, err
		}
		if err = t.readPieces(ctx, pieces); err == nil {
			return n, nil
		}
		if try > 0 || !errors.Is(err, errBlockMissing) { // a commit may just have replaced the blob
			t.noteError(err)
			return 0, deadlineError(ctx, err)
		}
	}
}

// plan copies what is in memory and tells what must be fetched.
func (t *Tree) plan(ctx context.Context, ino Ino, off uint64, p []byte) (n int, pieces []piece, err error) {
	err = t.do(ctx, func() error {
		in, err := t.loaded(ino)
		if err != nil {
			return err
		}
		if off >= in.attr.Size {
			return nil
		}
		n = int(min(uint64(len(p)), in.attr.Size-off))
		end := off + uint64(n)
		at := off
		for e := range in.ext.from(off) {
			if e.off >= end {
				break
			}
			if e.off > at {
				clear(p[at-off : e.off-off])
				at = e.off
			}
			skip := uint32(at - e.off)
			to := min(e.end(), end)
			dst := p[at-off : to-off]
			if e.src.data != nil {
				copy(dst, e.src.data[e.at+skip:])
			} else {
				pieces = append(pieces, piece{ptr: e.src.ptr, at: e.at + skip, dst: dst})
			}
			at = to
		}
		clear(p[at-off : n])
		if len(pieces) > 0 {
			// Who begins at the start will go on.
			if inOrder := t.ahead.after(in, off, end); off > 0 && !inOrder {
				for i := range pieces {
					pieces[i].few = true
				}
			}
			if in.attr.Size < crypt.BlobMax {
				t.foresee(in, pieces[0].ptr.CID)
			}
		}
		return nil
	})
	return n, pieces, err
}

func (t *Tree) readPieces(ctx context.Context, pieces []piece) error {
	ctx, cancel := deadline.With(ctx, t.cfg.Deadline)
	defer cancel()
	for _, x := range pieces {
		if err := t.reader.read(ctx, x.ptr, x.at, x.dst, x.few); err != nil {
			return err
		}
	}
	return nil
}

// loaded returns a regular file with its extents in memory.
func (t *Tree) loaded(ino Ino) (*inode, error) {
	in, err := t.get(ino)
	if err != nil {
		return nil, err
	}
	if !in.isRegular() {
		if in.isDir() {
			return nil, ErrIsDir
		}
		return nil, ErrInvalid
	}
	if in.unloaded {
		if err := t.loadExtents(in); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// Write puts p at off. The caller may use p again when it returns.
func (t *Tree) Write(ctx context.Context, ino Ino, off uint64, p []byte) (int, error) {
	if off > FileMax || uint64(len(p)) > FileMax-off {
		return 0, ErrTooLarge
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := t.room(ctx); err != nil {
		return 0, err
	}
	done, committed := 0, false
	for done < len(p) { // one record holds at most a blob
		part := p[done:min(len(p), done+crypt.BlobMax)]
		n, err := t.streamWrite(ctx, ino, off+uint64(done), p[done:])
		if n > 0 {
			done += n
			continue
		}
		if err == nil {
			n = len(part)
			o := &op{kind: opWrite, ino: ino, off: off + uint64(done), data: part}
			err = t.change(ctx, o, func() error {
				_, err := t.loaded(ino)
				return err
			})
		}
		if errors.Is(err, ErrNoSpace) && !committed && t.writable() == nil {
			// What waits takes space twice until it is committed: then try again.
			committed = true
			t.makeRoom(ctx)
			continue
		}
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += n
	}
	return done, nil
}

// makeRoom commits what waits, so that the journal gives its space back. If that fails,
// the disk stays full.
func (t *Tree) makeRoom(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Deadline)
	defer cancel()
	if err := t.commits.wait(ctx); err != nil {
		t.cfg.Log.Warn("committing because the disk is full", "error", err)
	}
	t.space.forget()
}

// room waits while too many bytes are in memory only, until the committer has sealed some.
func (t *Tree) room(ctx context.Context) error {
	limit := t.dirtyLimit()
	var timer *time.Timer
	for {
		t.mu.Lock()
		over, done := t.dirty > limit, t.dirtyDone
		t.mu.Unlock()
		if !over {
			return nil
		}
		if !t.commits.busySealing() { // else that gives room, and costs no commit
			t.commits.hurry()
		}
		if timer == nil {
			timer = time.NewTimer(t.cfg.Deadline)
			defer timer.Stop()
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("%d MiB wait for the store: %w", limit>>20, ErrUnavailable)
		}
	}
}

func (t *Tree) applyWrite(o *op) error {
	in, err := t.loaded(o.ino)
	if err != nil {
		return err
	}
	in.own()
	off, p := o.off, o.data
	for len(p) > 0 {
		// No source crosses a multiple of a blob's size: sealed whole, it is a blob.
		n := min(uint64(len(p)), crypt.BlobMax-off%crypt.BlobMax)
		t.insert(in, off, p[:n])
		off, p = off+n, p[n:]
	}
	if off > in.attr.Size {
		t.resize(in, off)
	}
	in.lastEnd = off
	in.attr.Mtime, in.attr.Ctime = o.time, o.time
	t.mark(in)
	return nil
}

// insert puts p, which lies within one blob's range, into the extents of in.
func (t *Tree) insert(in *inode, off uint64, p []byte) {
	end := off + uint64(len(p))
	before, at := in.ext.around(off)
	if e := at; e != nil && e.off <= off && end <= e.end() && e.src.data != nil && !e.src.frozen && e.src.blob == nil {
		copy(e.src.data[uint64(e.at)+off-e.off:], p)
		return
	}
	if e := before; e != nil {
		s := e.src
		if e.end() == off && s.data != nil && !s.frozen && s.blob == nil && int(e.at+e.len) == len(s.data) &&
			(end-1)/crypt.BlobMax == e.off/crypt.BlobMax {
			if at != nil && at.off < end {
				in.ext.replace(off, end)
				e, _ = in.ext.around(off)
			}
			had := cap(s.data)
			s.data = grow(s.data, p)
			t.dirtied(int64(cap(s.data) - had))
			e.len += uint32(len(p))
			t.full(s)
			return
		}
	}
	s := &source{data: t.keepPiece(p, off < in.attr.Size)}
	t.dirtied(int64(cap(s.data)))
	in.ext.replace(off, end, extent{off: off, len: uint32(len(p)), src: s})
	t.full(s)
}

// slabSize is how many bytes small pieces are allocated at once.
const slabSize = 64 << 10

// keepPiece copies p. What is written inside a file will not grow, so that many pieces can
// share an allocation: they live until the same commit, as a rule.
func (t *Tree) keepPiece(p []byte, inside bool) []byte {
	if !inside || len(p) > slabSize/8 {
		return append(make([]byte, 0, max(len(p), 512)), p...)
	}
	if len(t.slab) < len(p) {
		t.slab = make([]byte, slabSize)
	}
	b := t.slab[:len(p):len(p)]
	t.slab = t.slab[len(p):]
	copy(b, p)
	return b
}

// grow appends p; its capacity doubles up to the size of a blob.
func grow(data, p []byte) []byte {
	if need := len(data) + len(p); need > cap(data) {
		bigger := make([]byte, len(data), min(max(2*cap(data), need), max(crypt.BlobMax, need)))
		copy(bigger, data)
		data = bigger
	}
	return append(data, p...)
}

// full gives a source that has the size of a blob to the committer, to be sealed early.
func (t *Tree) full(s *source) {
	if len(s.data) == crypt.BlobMax {
		s.frozen = true
		t.commits.seal(s)
	}
}

// Fallocate works as fallocate(2): mode 0, FallocKeepSize, FallocPunchHole|FallocKeepSize,
// FallocZeroRange with or without FallocKeepSize; others are ErrNotSupported.
func (t *Tree) Fallocate(ctx context.Context, ino Ino, off, size uint64, mode uint32) error {
	switch mode {
	case 0, FallocKeepSize, FallocPunchHole | FallocKeepSize, FallocZeroRange, FallocZeroRange | FallocKeepSize:
	default:
		return ErrNotSupported
	}
	if size == 0 {
		return ErrInvalid
	}
	if off > FileMax || size > FileMax-off {
		return ErrTooLarge
	}
	if mode&FallocPunchHole == 0 {
		// Nothing is reserved; but what cannot fit is refused now, not at some write.
		half := int64(min(size, 1<<40)) / 2
		if err := t.space.admit(half, opWrite); err != nil {
			return err
		}
		t.space.giveBack(half)
	}
	o := &op{kind: opFallocate, ino: ino, off: off, size: size, flags: mode}
	return t.change(ctx, o, func() error {
		_, err := t.loaded(ino)
		return err
	})
}

func (t *Tree) applyFallocate(o *op) error {
	in, err := t.loaded(o.ino)
	if err != nil {
		return err
	}
	end := o.off + o.size
	if o.flags&(FallocPunchHole|FallocZeroRange) != 0 {
		in.own()
		in.ext.replace(o.off, end)
	}
	if o.flags&FallocKeepSize == 0 && end > in.attr.Size {
		t.resize(in, end)
	}
	in.attr.Mtime, in.attr.Ctime = o.time, o.time
	t.mark(in)
	return nil
}

// Seek finds the next data or hole at or after off. Data begins and ends at multiples of
// SpaceUnit, or with the file.
func (t *Tree) Seek(ctx context.Context, ino Ino, off uint64, whence uint32) (at uint64, err error) {
	err = t.do(ctx, func() error {
		in, err := t.loaded(ino)
		if err != nil {
			return err
		}
		if off >= in.attr.Size {
			return ErrNoSeek
		}
		at = off
		switch whence {
		case SeekData:
			_, e := in.ext.around(unitDown(off))
			if e == nil || e.off >= in.attr.Size {
				return ErrNoSeek
			}
			at = max(at, unitDown(e.off))
		case SeekHole:
			for e := range in.ext.from(unitDown(off)) {
				if unitDown(e.off) > at {
					break
				}
				at = max(at, unitUp(e.end()))
			}
			at = min(at, in.attr.Size)
		default:
			return ErrInvalid
		}
		return nil
	})
	return at, err
}

// CopyRange copies n bytes by sharing blobs and returns how many there were to copy.
func (t *Tree) CopyRange(ctx context.Context, from Ino, fromOff uint64, to Ino, toOff, n uint64) (copied uint64, err error) {
	if toOff > FileMax || n > FileMax-toOff || fromOff > FileMax {
		return 0, ErrTooLarge
	}
	o := &op{kind: opCopy, ino: to, ino2: from, off: toOff, off2: fromOff}
	err = t.change(ctx, o, func() error {
		src, err := t.loaded(from)
		if err != nil {
			return err
		}
		if _, err := t.loaded(to); err != nil {
			return err
		}
		if src.orphan && from != to {
			return ErrNotSupported // its bytes may be known to this process alone
		}
		if fromOff >= src.attr.Size {
			return errNothingToDo
		}
		o.size = min(n, src.attr.Size-fromOff)
		if from == to && fromOff < toOff+o.size && toOff < fromOff+o.size {
			return ErrInvalid
		}
		if o.size == 0 {
			return errNothingToDo
		}
		copied = o.size
		return nil
	})
	if errors.Is(err, errNothingToDo) {
		return 0, nil
	}
	if err != nil {
		copied = 0
	}
	return copied, err
}

func (t *Tree) applyCopy(o *op) error {
	from, err := t.loaded(o.ino2)
	if err != nil {
		return err
	}
	to, err := t.loaded(o.ino)
	if err != nil {
		return err
	}
	part := from.ext.slice(o.off2, o.off2+o.size)
	for i := range part {
		part[i].src.frozen = true // two files use it now
		part[i].off = part[i].off - o.off2 + o.off
		if part[i].src.data != nil {
			t.dirty += int64(part[i].len)
		}
	}
	to.own()
	to.ext.replace(o.off, o.off+o.size, part...)
	if end := o.off + o.size; end > to.attr.Size {
		t.resize(to, end)
	}
	to.attr.Mtime, to.attr.Ctime = o.time, o.time
	t.mark(to)
	return nil
}

// giveBack takes back what was admitted and not written.
func (s *space) giveBack(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent -= 2 * n
}
