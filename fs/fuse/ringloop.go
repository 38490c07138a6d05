package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Linux 6.14 and later can hand requests over by io_uring: each processor has a queue of
// its own, so that who asks and who answers run on the same one, and answering a request
// and waiting for the next is one system call. It is off until the machine's owner says
// `echo Y > /sys/module/fuse/parameters/enable_uring`. FORGET and INTERRUPT still come by
// the device, and notifications go there.
//
// What of <linux/fuse.h> is used here.
const (
	ringParameter = "/sys/module/fuse/parameters/enable_uring"
	possibleCPUs  = "/sys/devices/system/cpu/possible"

	ringRegister       = 1 // FUSE_IO_URING_CMD_REGISTER
	ringCommitAndFetch = 2 // FUSE_IO_URING_CMD_COMMIT_AND_FETCH

	// struct fuse_uring_req_header: in_out, op_in, ring_ent_in_out.
	ringOpHeader    = 128
	ringCommitID    = 256 + 8
	ringPayloadSize = 256 + 16
	ringHeaderSize  = 256 + 32
	outHeaderSize   = 16

	initFlags2  = outHeaderSize + 32 // in the answer to INIT
	overIOUring = 1 << (41 - 32)     // FUSE_OVER_IO_URING, in flags2
)

const (
	// maxQueues bounds the processors for which threads are made.
	maxQueues = 64
	// ringThreads are about as many as may work at once, over all queues: as many as the
	// device's loop has at most.
	ringThreads = maxThreads
)

const (
	markRequest = 1
	markEnd     = 2
)

// ringQueues is how many queues the kernel wants to be served, one for each processor that
// there could be; 0 if it has no rings to offer.
func ringQueues() int {
	b, err := os.ReadFile(ringParameter)
	if err != nil || !strings.HasPrefix(string(b), "Y") {
		return 0
	}
	if b, err = os.ReadFile(possibleCPUs); err != nil {
		return 0
	}
	s := strings.TrimSpace(string(b))
	last, err := strconv.Atoi(s[strings.LastIndexAny(s, "-,")+1:])
	if err != nil || last >= maxQueues {
		return 0
	}
	return last + 1
}

// ringWorker is a thread with a ring and one entry of a queue: it takes one request after
// the other, and while it works others of its queue take the next ones.
type ringWorker struct {
	worker
	cpu     int
	ring    *ring
	header  []byte // struct fuse_uring_req_header, in memory that does not move
	payload []byte
	names   []byte // copy of a small payload: the answer is written where it lay
	iovec   [2]unix.Iovec
}

// rings are the threads of all queues, made before the kernel is told of them.
type rings struct {
	begin chan bool  // true for each that may register; closed if they are not wanted
	made  chan error // one for each thread
	ready chan error // one for each thread
	n     int
}

// makeRings makes the threads and their rings.
func (l *loop) makeRings(queues int) (*rings, error) {
	each := max(ringThreads/queues, 2)
	rs := &rings{begin: make(chan bool), n: queues * each}
	rs.made, rs.ready = make(chan error, rs.n), make(chan error, rs.n)
	for i := range rs.n {
		l.wg.Add(1)
		go l.runRing(i%queues, rs)
	}
	var err error
	for range rs.n {
		err = errors.Join(err, <-rs.made)
	}
	if err != nil {
		rs.forgo()
		return nil, err
	}
	return rs, nil
}

// forgo ends the threads of rings that are not wanted.
func (rs *rings) forgo() { close(rs.begin) }

// start lets the threads serve; from INIT on the kernel waits for them.
func (rs *rings) start() error {
	for range rs.n { // all of them wait here: each was made
		rs.begin <- true
	}
	var err error
	for range rs.n {
		err = errors.Join(err, <-rs.ready)
	}
	return err
}

// begin takes up work: it answers INIT, and makes the threads that stay. quit is closed
// when they have ended.
func (l *loop) begin(queues int, quit <-chan struct{}) error {
	var rs *rings
	var err error
	if queues > 0 { // before INIT: from its answer on the kernel waits for them
		if rs, err = l.makeRings(queues); err != nil {
			return err
		}
	}
	wanted, err := l.handshake()
	switch {
	case rs == nil:
	case err != nil || !wanted:
		rs.forgo()
	default:
		l.pollers, l.rings = 1, true
		if err = rs.start(); err != nil {
			l.stop()
			break
		}
		go l.watchKilled(quit)
	}
	if err != nil {
		return err
	}
	l.start()
	return nil
}

// runRing is one thread. It stays on the processor of its queue and ends with the mount,
// so that no other goroutine gets a thread that may not move.
func (l *loop) runRing(cpu int, rs *rings) {
	defer l.wg.Done()
	runtime.LockOSThread()
	w := &ringWorker{worker: worker{l: l, fd: l.fd, alone: -1}, cpu: cpu}
	err := w.open()
	defer w.close()
	rs.made <- err
	if err != nil || !<-rs.begin {
		return
	}
	l.mu.Lock()
	l.workers[&w.worker] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.workers, &w.worker)
		l.mu.Unlock()
	}()
	err = w.register()
	rs.ready <- err
	if err != nil {
		return
	}
	for {
		if err := w.serve(); err != nil {
			if !errors.Is(err, errEnded) {
				l.log.Error("serving a ring of the kernel", "error", err)
			}
			return
		}
	}
}

func (w *ringWorker) open() error {
	var set unix.CPUSet
	set.Set(w.cpu)
	_ = unix.SchedSetaffinity(0, &set) // where it may not, or the processor is away, it is slower
	var err error
	if w.ring, err = newRing(4); err != nil {
		return err
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	if w.header, err = unix.Mmap(-1, 0, os.Getpagesize(), prot, flags); err != nil {
		return fmt.Errorf("memory of a ring: %w", err)
	}
	if w.payload, err = unix.Mmap(-1, 0, bufferSize, prot, flags); err != nil {
		return fmt.Errorf("memory of a ring: %w", err)
	}
	w.names = make([]byte, 0, namesSize)
	w.iovec[0] = unix.Iovec{Base: &w.header[0], Len: ringHeaderSize}
	w.iovec[1] = unix.Iovec{Base: &w.payload[0], Len: bufferSize}
	return nil
}

// namesSize holds the payload of a request that is answered with a payload.
const namesSize = 4096

func (w *ringWorker) close() {
	if w.ring != nil {
		w.ring.close()
	}
	for _, m := range [][]byte{w.header, w.payload} {
		if m != nil {
			_ = unix.Munmap(m) // fails for what is not mapped only
		}
	}
}

// command submits a command of FUSE for this thread's entry.
func (w *ringWorker) command(op uint32, commit uint64) []byte {
	b := w.ring.sqe()
	b[0] = ringOpURingCmd
	binary.NativeEndian.PutUint32(b[4:], uint32(w.fd))
	binary.NativeEndian.PutUint32(b[8:], op)
	binary.NativeEndian.PutUint64(b[32:], markRequest)
	binary.NativeEndian.PutUint64(b[56:], commit)
	binary.NativeEndian.PutUint16(b[64:], uint16(w.cpu))
	return b
}

// register gives the entry to the kernel, and waits for the loop's end besides.
func (w *ringWorker) register() error {
	b := w.command(ringRegister, 0)
	binary.NativeEndian.PutUint64(b[16:], uint64(uintptr(unsafe.Pointer(&w.iovec[0]))))
	binary.NativeEndian.PutUint32(b[24:], uint32(len(w.iovec)))
	b = w.ring.sqe()
	b[0] = ringOpPollAdd
	binary.NativeEndian.PutUint32(b[4:], uint32(w.l.end))
	binary.NativeEndian.PutUint32(b[28:], unix.POLLIN)
	binary.NativeEndian.PutUint64(b[32:], markEnd)
	for w.ring.submit > 0 {
		if err := w.ring.enter(false); err != nil {
			return err
		}
	}
	runtime.KeepAlive(w)
	return nil
}

// serve waits for a request, answers it, and submits the answer with the next wait.
func (w *ringWorker) serve() error {
	if err := w.ring.enter(true); err != nil {
		return err
	}
	for {
		mark, result, ok := w.ring.next()
		switch {
		case !ok:
			return nil
		case mark == markEnd:
			return errEnded
		case result == -int32(unix.ENOTCONN), result == -int32(unix.ENODEV), result == -int32(unix.ECONNABORTED):
			return errEnded // the mount is gone
		case result < 0:
			return fmt.Errorf("a ring of the kernel: %w", syscall.Errno(-result))
		}
		if err := w.answerRing(); err != nil {
			return err
		}
	}
}

// answerRing handles the request that lies in the entry.
func (w *ringWorker) answerRing() error {
	commit := binary.NativeEndian.Uint64(w.header[ringCommitID:])
	size := int(binary.NativeEndian.Uint32(w.header[ringPayloadSize:]))
	op := int(binary.NativeEndian.Uint32(w.header)) - headerSize - size
	if size > len(w.payload) || op < 0 || op > ringOpHeader {
		return fmt.Errorf("a request with %d bytes of arguments and a payload of %d: %w", op, size, unix.EPROTO)
	}
	in := w.payload[:size]
	if size <= namesSize {
		in = append(w.names[:0], in...)
	}
	w.count()
	unique := binary.NativeEndian.Uint64(w.header[8:])
	w.pid.Store(binary.NativeEndian.Uint32(w.header[32:]))
	w.unique.Store(unique)
	n, status := w.l.ps.HandleRequest(
		[][]byte{w.header[:headerSize], w.header[ringOpHeader : ringOpHeader+op], in},
		[][]byte{w.header[:outHeaderSize], w.payload})
	w.unique.Store(0)
	if n == 0 { // each entry is answered, also when nobody may hear it any more
		if status.Ok() {
			status = gofuse.EINTR
		}
		binary.NativeEndian.PutUint32(w.header, outHeaderSize)
		binary.NativeEndian.PutUint32(w.header[4:], uint32(-int32(status)))
		binary.NativeEndian.PutUint64(w.header[8:], unique)
		n = outHeaderSize
	}
	binary.NativeEndian.PutUint32(w.header[ringPayloadSize:], uint32(n-outHeaderSize))
	w.command(ringCommitAndFetch, commit)
	return nil
}
