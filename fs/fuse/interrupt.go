package fuse

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// retryInterrupt is how soon an interrupt that found no request is tried again.
const retryInterrupt = time.Millisecond

// interruptTries bounds that: a request that was not seen until then was answered. With
// rings it may still lie in one, if its thread has to wait for the processor: then there
// are patientTries more, with watchEvery between them.
const (
	interruptTries = 20
	patientTries   = 40
)

// watchEvery is how soon it is seen that a process which had a signal is being killed.
const watchEvery = 50 * time.Millisecond

// caller is what is known of the process that waits for a request.
type caller int

const (
	callerNone    caller = iota // no thread has the request: not begun yet, or answered
	callerLives                 // it may have a signal, but lives on
	callerKilled                // it is gone or being killed
	callerUnknown               // it is of another namespace
)

// interrupt is told that the process which waits for this request has a signal. The kernel
// says so of any signal, and once, and perhaps before the thread that read the request has
// begun with it. Programs do not expect that rename, fsync or lseek of a file end with
// EINTR because a timer ran out, and no local file system does that: so the request is
// cancelled only if its process is being killed, now or later.
func (l *loop) interrupt(unique uint64) {
	l.wg.Add(1) // the thread that is here has kept it above 0
	go func() {
		defer l.wg.Done()
		begun := false
		for try := 0; ; try++ {
			wait := watchEvery
			switch l.caller(unique) {
			case callerNone:
				if begun || try > interruptTries && !l.rings || try > interruptTries+patientTries {
					return
				}
				if try <= interruptTries {
					wait = retryInterrupt
				}
			case callerLives:
				begun = true
			case callerKilled, callerUnknown:
				if begun = true; l.cancel(unique) {
					return
				}
				wait = retryInterrupt
			}
			time.Sleep(wait)
		}
	}()
}

// killedEvery is how soon it is seen that the process of a request in a ring was killed.
const killedEvery = 250 * time.Millisecond

// watchKilled cancels requests whose process is being killed. The kernel tells of that but
// for requests in rings, if the signal comes before they are handed over: then nobody does.
func (l *loop) watchKilled(quit <-chan struct{}) {
	tick := time.NewTicker(killedEvery)
	defer tick.Stop()
	var before map[uint64]bool // what was in work at the last tick
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		now := map[uint64]bool{}
		l.mu.Lock()
		for w := range l.workers {
			if u := w.unique.Load(); u != 0 {
				now[u] = true
			}
		}
		l.mu.Unlock()
		for u := range now {
			if before[u] && l.caller(u) == callerKilled {
				l.cancel(u)
			}
		}
		before = now
	}
}

// caller tells who waits for a request. The kernel gives each thread of a process that
// dies a SIGKILL, whatever signal it dies of.
func (l *loop) caller(unique uint64) caller {
	pid := uint32(0)
	found := false
	l.mu.Lock()
	for w := range l.workers {
		if w.unique.Load() == unique {
			found, pid = true, w.pid.Load()
		}
	}
	l.mu.Unlock()
	switch {
	case !found:
		return callerNone
	case pid == 0:
		return callerUnknown
	}
	b, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return callerKilled
	}
	for line := range strings.Lines(string(b)) {
		if set, ok := strings.CutPrefix(line, "SigPnd:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			if err == nil && n&(1<<(unix.SIGKILL-1)) == 0 {
				return callerLives
			}
		}
	}
	return callerKilled
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
