package fuse

import (
	"encoding/binary"
	"time"
)

// retryInterrupt is how soon an interrupt that found no request is tried again.
const retryInterrupt = time.Millisecond

// interruptTries bounds that: a request that was not seen until then is answered.
const interruptTries = 20

// interrupt cancels the request with this number. The kernel sends it after the request
// was read, but perhaps before the thread that read it has begun. It could be told to
// send it again, but only on the descriptor that had the request, so the wait is here.
func (l *loop) interrupt(unique uint64) {
	for try := range interruptTries {
		if l.cancel(unique) {
			return
		}
		if try > interruptTries/4 && !l.working(unique) {
			return // answered meanwhile
		}
		time.Sleep(retryInterrupt)
	}
}

// cancel reports whether the request was found among those in work.
func (l *loop) cancel(unique uint64) bool {
	in := make([]byte, headerSize+8)
	binary.NativeEndian.PutUint32(in, uint32(len(in)))
	binary.NativeEndian.PutUint32(in[4:], opInterrupt)
	binary.NativeEndian.PutUint64(in[headerSize:], unique)
	size, status := l.ps.HandleRequest([][]byte{in}, [][]byte{make([]byte, 4096)})
	return status.Ok() && size == 0 // else it asks to try again
}

// working reports whether a thread has the request.
func (l *loop) working(unique uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.workers {
		if w.unique.Load() == unique {
			return true
		}
	}
	return false
}

// interruptAll cancels what all threads are working on.
func (l *loop) interruptAll() {
	l.mu.Lock()
	var uniques []uint64
	for w := range l.workers {
		if u := w.unique.Load(); u != 0 {
			uniques = append(uniques, u)
		}
	}
	l.mu.Unlock()
	for _, u := range uniques {
		l.cancel(u)
	}
}
