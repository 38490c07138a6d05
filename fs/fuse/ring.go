package fuse

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What of <linux/io_uring.h> is used here.
const (
	ringSQE128       = 1 << 10
	ringSingleIssuer = 1 << 12
	ringDeferTaskrun = 1 << 13

	ringOffSQ   = 0
	ringOffSQEs = 0x10000000

	ringEnterGetEvents = 1
	ringFeatSingleMmap = 1

	ringOpPollAdd  = 6
	ringOpURingCmd = 46

	sqeSize = 128
	cqeSize = 16
)

type ringParams struct {
	sqEntries, cqEntries, flags, sqCPU, sqIdle, features, wq uint32
	_                                                        [3]uint32
	sq                                                       struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// ring is an io_uring with few entries of 128 bytes. It belongs to the thread that made
// it, and nobody else may use it.
type ring struct {
	fd           int
	queues, sqes []byte // mapped
	p            ringParams
	tail         uint32 // of the submissions
	submit       uint32 // of them, not given to the kernel yet
}

func newRing(entries uint32) (*ring, error) {
	r := &ring{}
	r.p.flags = ringSQE128 | ringSingleIssuer | ringDeferTaskrun
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&r.p)), 0)
	if e != 0 {
		return nil, fmt.Errorf("io_uring: %w", e)
	}
	r.fd = int(fd)
	unix.CloseOnExec(r.fd)
	if r.p.features&ringFeatSingleMmap == 0 {
		r.close()
		return nil, fmt.Errorf("io_uring: %w", errors.ErrUnsupported)
	}
	size := max(r.p.sq.array+4*r.p.sqEntries, r.p.cq.cqes+cqeSize*r.p.cqEntries)
	var err error
	if r.queues, err = unix.Mmap(r.fd, ringOffSQ, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err == nil {
		r.sqes, err = unix.Mmap(r.fd, ringOffSQEs, int(sqeSize*r.p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("io_uring: %w", err)
	}
	for i := range r.p.sqEntries {
		*r.word(r.p.sq.array + 4*i) = i
	}
	return r, nil
}

// word is a number that the kernel shares.
func (r *ring) word(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queues[off])) }

// sqe returns the next submission, cleared. There are never more than fit.
func (r *ring) sqe() []byte {
	i := r.tail & *r.word(r.p.sq.mask)
	r.tail++
	r.submit++
	b := r.sqes[i*sqeSize : (i+1)*sqeSize]
	clear(b)
	return b
}

// enter gives the submissions to the kernel and waits for a completion, if wait says so.
// A signal, or a kernel that is short of memory, may end the wait early.
func (r *ring) enter(wait bool) error {
	atomic.StoreUint32(r.word(r.p.sq.tail), r.tail)
	least := uintptr(0)
	if wait {
		least = 1
	}
	n, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.submit), least, ringEnterGetEvents, 0, 0)
	switch e { // these pass: what was not taken is given again with the next call
	case unix.EINTR, unix.EAGAIN, unix.EBUSY:
		n, e = 0, 0
	}
	if e != 0 {
		return fmt.Errorf("io_uring: %w", e)
	}
	r.submit -= uint32(n)
	return nil
}

// next takes a completion, if there is one: what the submission was marked with, and its
// result.
func (r *ring) next() (mark uint64, result int32, ok bool) {
	head := *r.word(r.p.cq.head)
	if head == atomic.LoadUint32(r.word(r.p.cq.tail)) {
		return 0, 0, false
	}
	at := r.p.cq.cqes + head&*r.word(r.p.cq.mask)*cqeSize
	mark = *(*uint64)(unsafe.Pointer(&r.queues[at]))
	result = int32(*r.word(at + 8))
	atomic.StoreUint32(r.word(r.p.cq.head), head+1)
	return mark, result, true
}

func (r *ring) close() {
	for _, m := range [][]byte{r.queues, r.sqes} {
		if m != nil {
			_ = unix.Munmap(m) // fails for what is not mapped only
		}
	}
	unix.Close(r.fd)
}
