package fs

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
)

const (
	// maxStreams files may be written as blobs at once; of more, the one that began
	// first goes on through the journal.
	maxStreams = 16
	// streamFrom is the least a write must have to begin a stream.
	streamFrom = crypt.PackageSize
)

// stream is a blob that grows with a file which is written from front to back: whole
// packages are sealed as they come and go to the stage; the journal only refers to them.
// Guarded by Tree.mu, but for sealer and blob while busy, which are the writer's.
type stream struct {
	in     *inode
	src    *source
	sealer *crypt.PackageSealer
	id     stageID
	blob   *stagedBlob // nil before the first write
	off    uint64      // in the file, of the blob's first byte
	limit  uint32      // bytes of plaintext that the blob will have
	busy   bool        // a write is on its way
}

// streamLimit is the size of a blob that begins at off in its file: it ends where the
// next multiple of a blob's size begins.
func streamLimit(off uint64) uint32 { return uint32(crypt.BlobMax - off%crypt.BlobMax) }

func (s *stream) end() uint64 { return s.off + uint64(len(s.src.data)) }

// promising reports whether a write looks like the next of many.
func (in *inode) promising(off uint64, n int) bool {
	return off%crypt.PackageSize == 0 && n >= streamFrom && n%crypt.PackageSize == 0 &&
		(off == in.attr.Size || off == in.lastEnd && off > 0)
}

// streamFor returns the stream that a write goes to, or nil for the journal.
func (t *Tree) streamFor(in *inode, off uint64, n int) *stream {
	s := in.stream
	if s != nil && (s.src.frozen || s.end() != off) {
		if s.busy {
			return nil
		}
		t.endStream(s)
		s = nil
	}
	if s == nil {
		if !in.promising(off, n) {
			return nil
		}
		s = &stream{in: in, off: off, limit: streamLimit(off),
			sealer: crypt.NewPackageSealer(), src: &source{}}
		rand.Read(s.id[:])
		s.src.data = make([]byte, 0, s.limit)
		if len(t.streams) >= maxStreams {
			t.endStream(t.streams[0])
		}
		in.stream = s
		t.streams = append(t.streams, s)
	}
	if s.busy {
		return nil
	}
	return s
}

// endStream lets a file go on through the journal. The bytes of the stream stay.
func (t *Tree) endStream(s *stream) {
	if s.in.stream == s {
		s.in.stream = nil
	}
	for i, o := range t.streams {
		if o == s {
			t.streams = append(t.streams[:i], t.streams[i+1:]...)
			break
		}
	}
	if !s.busy && s.blob != nil { // a busy stream's blob is its writer's
		t.stage.end(s.blob)
	}
}

// endStreams is for the freeze: what is frozen grows no more.
func (t *Tree) endStreams() {
	for len(t.streams) > 0 {
		t.endStream(t.streams[0])
	}
}

var sealBuffers = sync.Pool{New: func() any { return new([]byte) }}

// streamWrite writes what it can of p through a stream and returns how many bytes; 0
// leaves p to the journal. Sealing and writing are done without the tree's lock: meanwhile
// a commit may freeze the file, and then the bytes in the stage count for nothing.
func (t *Tree) streamWrite(ctx context.Context, ino Ino, off uint64, p []byte) (int, error) {
	if t.stage == nil || off%crypt.PackageSize != 0 || len(p) < crypt.PackageSize {
		return 0, nil
	}
	var s *stream
	var at uint32
	n := len(p) / crypt.PackageSize * crypt.PackageSize
	err := t.do(ctx, func() error {
		if err := t.writable(); err != nil {
			return err
		}
		in, err := t.loaded(ino)
		if err != nil {
			return err
		}
		if in.orphan { // what has no name dies with the process
			return nil
		}
		if s = t.streamFor(in, off, len(p)); s == nil {
			return nil
		}
		at = uint32(len(s.src.data))
		n = min(n, int(s.limit-at))
		if err := t.space.admit(int64(n), opWrite); err != nil {
			s = nil
			return err
		}
		s.busy = true
		return nil
	})
	if err != nil || s == nil {
		return 0, err
	}
	err = t.sealPackages(s, at, p[:n])
	o := &op{kind: opStream, ino: ino, off: off, size: uint64(n), stage: s.id, key: s.sealer.Key(), at: at,
		time: t.cfg.Now().UnixNano()}
	done := 0
	err2 := t.do(ctx, func() error {
		s.busy = false
		if err != nil || s.in.stream != s || s.src.frozen || s.in.orphan || t.inodes[ino] != s.in {
			t.endStream(s)
			return nil
		}
		if err := t.log(o); err != nil {
			t.endStream(s)
			return err
		}
		t.stage.refer(s.blob, t.journal.Last())
		s.src.blob = s.blob
		t.pendingBytes += int64(n)
		o.data, o.source = p[:n], s.src
		if err := t.apply(o); err != nil {
			return err
		}
		done = n
		if len(s.src.data) == int(s.limit) {
			t.endStream(s)
		}
		return nil
	})
	if err == nil {
		err = err2
	}
	return done, err
}

// sealPackages seals the bytes of a stream from at on and writes them to its blob.
func (t *Tree) sealPackages(s *stream, at uint32, p []byte) error {
	if s.blob == nil {
		b, err := t.stage.create(s.id, s.sealer.Key())
		if err != nil {
			return err
		}
		s.blob = b
	}
	buf := sealBuffers.Get().(*[]byte)
	defer sealBuffers.Put(buf)
	sealed := (*buf)[:0]
	for i := 0; i < len(p); i += crypt.PackageSize {
		n := at + uint32(i)
		final := n+crypt.PackageSize == s.limit
		sealed = s.sealer.Seal(sealed, n/crypt.PackageSize, p[i:i+crypt.PackageSize], final)
	}
	*buf = sealed
	return t.stage.write(s.blob, sealed, sealedOffset(at))
}

// applyStream puts bytes into a file that the stage has as part of a blob.
func (t *Tree) applyStream(o *op) error {
	in, err := t.loaded(o.ino)
	if err != nil {
		return err
	}
	s := o.source
	in.own()
	n := uint32(len(o.data))
	end := o.off + uint64(n)
	s.data = append(s.data, o.data...)
	t.dirty += int64(n)
	if l, at := in.ext.around(o.off); l != nil && l.src == s && l.end() == o.off && l.at+l.len == o.at {
		if at != nil && at.off < end {
			in.ext.replace(o.off, end)
			l, _ = in.ext.around(o.off)
		}
		l.len += n
	} else {
		in.ext.replace(o.off, end, extent{off: o.off, len: n, at: o.at, src: s})
	}
	if len(s.data) == int(streamLimit(o.off-uint64(o.at))) {
		s.frozen = true
		t.commits.seal(s)
	}
	if end > in.attr.Size {
		t.resize(in, end)
	}
	in.lastEnd = end
	in.attr.Mtime, in.attr.Ctime = o.time, o.time
	t.mark(in)
	return nil
}

// replayStream reads what a record of the journal refers to, before it is applied again.
func (t *Tree) replayStream(o *op, record uint64) error {
	b, err := t.stage.read(o.stage, o.key, o.at, uint32(o.size))
	if err != nil && isLost(err) {
		return fmt.Errorf("staged blob %s: %w: %w", o.stage, journal.ErrTorn, err)
	}
	if err != nil {
		return fmt.Errorf("staged blob %s: %w", o.stage, err)
	}
	o.data = b
	blob := t.stage.known(o.stage, o.key)
	t.stage.refer(blob, record)
	s := t.replayed[o.stage]
	if s == nil {
		if t.replayed == nil {
			t.replayed = map[stageID]*source{}
		}
		s = &source{blob: blob}
		t.replayed[o.stage] = s
	}
	if len(s.data) != int(o.at) {
		return fmt.Errorf("%w: staged blob %s has %d bytes, the journal goes on at %d", ErrIntegrity, o.stage, len(s.data), o.at)
	}
	if s.frozen { // shared by a copy since
		return fmt.Errorf("%w: staged blob %s grows after it was shared", ErrIntegrity, o.stage)
	}
	o.source = s
	return nil
}
