package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxWrite is the largest read or write request, in bytes.
	maxWrite = 1 << 20
	// bufferSize holds a request or an answer with its headers.
	bufferSize = maxWrite + 64<<10

	// pollers threads wait for requests. Each answers in the thread that read the
	// request: on few cores waking another one costs more than the work.
	pollers = 2
	// maxThreads bounds the threads that are made when requests wait.
	maxThreads = 64
	// patience is how long the last free thread may work before another is made: a
	// request that waits for a disk must not keep others waiting.
	patience = 2 * time.Millisecond

	iocClone = 0x8004e500 // FUSE_DEV_IOC_CLONE

	// fuse_in_header: length, opcode, unique number, …
	headerSize  = 40
	opInit      = 26
	opInterrupt = 36
)

// loop reads requests from the device and writes the answers. Its threads poll(2) and
// then read without blocking, each on a descriptor of its own: poll wakes them all, and
// the one on the caller's core is there first. Where idle processors poll for work it is
// better to wake one alone.
type loop struct {
	ps  *gofuse.ProtocolServer
	fd  int // of the mount
	end int // eventfd: readable when the threads must end
	log *slog.Logger
	wg  sync.WaitGroup

	pollers int  // threads that stay
	rings   bool // most requests come by rings
	polling *polling

	mu      sync.Mutex // guards all below
	threads int
	free    int         // threads that wait for a request
	watch   *time.Timer // runs while free is 0
	ended   bool
	workers map[*worker]struct{}
	users   int // of the descriptors, besides the threads
	closed  bool
}

func newLoop(ps *gofuse.ProtocolServer, fd int, log *slog.Logger) (*loop, error) {
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMount, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(end)
		return nil, fmt.Errorf("%w: %w", ErrMount, err)
	}
	l := &loop{ps: ps, fd: fd, end: end, log: log, pollers: pollers, workers: map[*worker]struct{}{}}
	l.watch = time.AfterFunc(time.Hour, l.spare)
	l.watch.Stop()
	return l, nil
}

// handshake answers the first request, INIT; until then the device cannot be cloned. It
// reports whether the kernel is going to use rings.
func (l *loop) handshake() (rings bool, err error) {
	w := l.newWorker(l.fd)
	for {
		n, err := w.next()
		if err != nil {
			return false, fmt.Errorf("%w: waiting for the kernel: %w", ErrMount, err)
		}
		init := n >= headerSize && binary.NativeEndian.Uint32(w.in[4:]) == opInit
		if err := w.answer(n); err != nil {
			return false, fmt.Errorf("%w: answering the kernel: %w", ErrMount, err)
		}
		if init {
			return binary.NativeEndian.Uint32(w.out[initFlags2:])&overIOUring != 0, nil
		}
	}
}

// start makes the threads that stay. With rings one is enough for what still comes by the
// device.
func (l *loop) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range l.pollers {
		l.add()
	}
}

// add makes a thread; the caller holds mu.
func (l *loop) add() {
	l.threads++
	l.free++
	l.wg.Add(1)
	go l.run()
}

// spare makes one more thread if all have been busy for a while.
func (l *loop) spare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 && !l.ended && l.threads < maxThreads {
		l.add()
	}
}

// busy and idle count the threads that wait for a request.
func (l *loop) busy() {
	l.mu.Lock()
	l.free--
	if l.free == 0 {
		l.watch.Reset(patience)
	}
	l.mu.Unlock()
}

// idle reports whether the thread is still needed.
func (l *loop) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free >= l.pollers {
		l.threads--
		return false
	}
	if l.free == 0 {
		l.watch.Stop()
	}
	l.free++
	return true
}

// run is one thread of the loop.
func (l *loop) run() {
	defer l.wg.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := clone(l.fd)
	if err != nil {
		l.log.Warn("the device cannot be cloned", "error", err)
		fd = l.fd
	} else {
		defer unix.Close(fd)
	}
	w := l.newWorker(fd)
	if l.polling != nil {
		if err := w.wakeAlone(); err != nil {
			l.log.Warn("waking one thread alone", "error", err)
		} else {
			defer unix.Close(w.alone)
		}
	}
	l.mu.Lock()
	l.workers[w] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.workers, w)
		l.mu.Unlock()
	}()
	for {
		n, err := w.next()
		if err != nil {
			if !errors.Is(err, errEnded) {
				l.log.Error("reading from the kernel", "error", err)
			}
			return
		}
		l.busy()
		if err := w.answer(n); err != nil {
			l.log.Error("answering the kernel", "error", err)
		}
		if !l.idle() {
			return
		}
	}
}

// clone opens another descriptor of the same mount.
func clone(fd int) (int, error) {
	c, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(c, iocClone, fd); err != nil {
		unix.Close(c)
		return -1, err
	}
	return c, nil
}

// stop ends the threads and waits for them. What they wait for is interrupted.
func (l *loop) stop() {
	l.mu.Lock()
	l.ended = true
	l.watch.Stop()
	if !l.closed {
		one := [8]byte{1}
		if _, err := unix.Write(l.end, one[:]); err != nil {
			l.log.Error("ending the device loop", "error", err)
		}
	}
	l.mu.Unlock()
	gone := make(chan struct{})
	go func() { l.wg.Wait(); close(gone) }()
	tick := time.NewTicker(retryInterrupt)
	defer tick.Stop()
	for {
		l.interruptAll()
		select {
		case <-gone:
			return
		case <-tick.C: // a request may have been read meanwhile
		}
	}
}

// close gives the descriptors up; the kernel then ends the mount, if it still stands. A
// notification that the kernel has not taken yet keeps them until then.
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.polling.close()
	unix.Close(l.end)
	if l.users == 0 {
		unix.Close(l.fd)
	}
}

// write sends the kernel a message that answers no request.
func (l *loop) write(b []byte) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.users++
	l.mu.Unlock()
	_, err := unix.Write(l.fd, b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	if l.closed && l.users == 0 {
		unix.Close(l.fd)
	}
	return err
}

// errEnded: the mount is gone, or the loop was stopped.
var errEnded = errors.New("end of the mount")

// worker is what a thread needs to serve requests.
type worker struct {
	l       *loop
	fd      int
	in, out []byte
	poll    [2]unix.PollFd
	alone   int           // epoll that is woken only if no other thread is; -1 if there is none
	polls   int           // so often poll goes before the read, for no request was there
	unique  atomic.Uint64 // of the request in work, 0 for none
	pid     atomic.Uint32 // of the thread that waits for it, 0 if it cannot be known
	counted uint32        // requests that polling does not know of yet
}

// count tells polling of a request.
func (w *worker) count() {
	if w.counted++; w.counted == countBy {
		w.l.polling.add(w.counted)
		w.counted = 0
	}
}

func (l *loop) newWorker(fd int) *worker {
	w := &worker{l: l, fd: fd, in: make([]byte, bufferSize), out: make([]byte, bufferSize), alone: -1}
	w.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	w.poll[1] = unix.PollFd{Fd: int32(l.end), Events: unix.POLLIN}
	return w
}

// pollsFirst is how many requests are polled for before one is read at once again. Who
// asks one thing after the other has not asked the next one yet, and a read that finds
// nothing costs a system call; where many ask, each poll does.
const pollsFirst = 16

// next waits for a request and returns its length.
func (w *worker) next() (int, error) {
	for {
		if w.polls > 0 {
			w.polls--
			if err := w.await(); err != nil && !errors.Is(err, unix.EINTR) {
				return 0, err
			}
		}
		n, err := unix.Read(w.fd, w.in)
		switch {
		case err == nil && n > 0:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			w.polls = pollsFirst
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // ENOENT: interrupted before it was read
		case errors.Is(err, unix.ENODEV), err == nil:
			return 0, errEnded
		default:
			return 0, err
		}
	}
}

// await waits until there seems to be a request.
func (w *worker) await() error {
	if w.alone >= 0 && w.l.polling.active() {
		var events [2]unix.EpollEvent
		n, err := unix.EpollWait(w.alone, events[:], -1)
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == w.l.end {
				return errEnded
			}
		}
		return err
	}
	w.poll[0].Revents, w.poll[1].Revents = 0, 0
	if _, err := unix.Poll(w.poll[:], -1); err != nil {
		return err
	}
	if w.poll[1].Revents != 0 {
		return errEnded
	}
	return nil
}

// wakeAlone makes the epoll that await uses while idle processors poll.
func (w *worker) wakeAlone() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for on, events := range map[int]uint32{w.fd: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, w.l.end: unix.EPOLLIN} {
		if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, on, &unix.EpollEvent{Events: events, Fd: int32(on)}); err != nil {
			unix.Close(fd)
			return err
		}
	}
	w.alone = fd
	return nil
}

// answer handles a request and writes the answer.
func (w *worker) answer(n int) error {
	if h := w.in[:n]; n >= headerSize+8 && binary.NativeEndian.Uint32(h[4:]) == opInterrupt {
		w.l.interrupt(binary.NativeEndian.Uint64(h[headerSize:]))
		return nil
	}
	w.count()
	if n >= headerSize {
		w.pid.Store(binary.NativeEndian.Uint32(w.in[32:]))
		w.unique.Store(binary.NativeEndian.Uint64(w.in[8:]))
		defer w.unique.Store(0)
	}
	size, status := w.l.ps.HandleRequest([][]byte{w.in[:n]}, [][]byte{w.out})
	if !status.Ok() {
		return fmt.Errorf("request of %d bytes: %w", n, syscall.Errno(status))
	}
	if size == 0 { // FORGET has none
		return nil
	}
	for {
		_, err := unix.Write(w.fd, w.out[:size])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV): // nobody waits any more
			return nil
		}
		return err
	}
}
