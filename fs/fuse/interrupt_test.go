package fuse

import (
	"encoding/binary"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// waiting is a file system whose GETATTR waits for its interruption.
type waiting struct {
	gofuse.RawFileSystem
	begun, cancelled chan struct{}
}

func (w *waiting) GetAttr(c <-chan struct{}, _ *gofuse.GetAttrIn, _ *gofuse.AttrOut) gofuse.Status {
	close(w.begun)
	<-c
	close(w.cancelled)
	return gofuse.EINTR
}

// An interrupt that is read before its request has begun is not lost.
func TestInterruptOvertakesItsRequest(t *testing.T) {
	fs := &waiting{gofuse.NewDefaultRawFileSystem(), make(chan struct{}), make(chan struct{})}
	l := &loop{ps: gofuse.NewProtocolServer(fs, &gofuse.MountOptions{}), log: slog.New(slog.DiscardHandler),
		workers: map[*worker]struct{}{}}
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	const unique = 77
	request := func(opcode uint32, body []byte) *worker {
		w := l.newWorker(int(sink.Fd()))
		binary.NativeEndian.PutUint32(w.in, uint32(headerSize+len(body)))
		binary.NativeEndian.PutUint32(w.in[4:], opcode)
		binary.NativeEndian.PutUint64(w.in[8:], unique)
		binary.NativeEndian.PutUint64(w.in[16:], 1) // node
		copy(w.in[headerSize:], body)
		return w
	}
	interrupt := request(opInterrupt, binary.NativeEndian.AppendUint64(nil, unique))
	interrupted := make(chan error, 1)
	go func() { interrupted <- interrupt.answer(headerSize + 8) }()
	const getattr = 3
	answered := make(chan error, 1)
	late := request(getattr, make([]byte, 16))
	l.mu.Lock()
	l.workers[late] = struct{}{}
	l.mu.Unlock()
	go func() { answered <- late.answer(headerSize + 16) }()
	for _, c := range []chan error{interrupted, answered} {
		select {
		case err := <-c:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the request waits for ever")
		}
	}
	<-fs.cancelled
}

// A signal that its process lives through does not end a request; one that kills it does.
func TestInterruptOnlyOfTheKilled(t *testing.T) {
	fs := &waiting{gofuse.NewDefaultRawFileSystem(), make(chan struct{}), make(chan struct{})}
	l := &loop{ps: gofuse.NewProtocolServer(fs, &gofuse.MountOptions{}), log: slog.New(slog.DiscardHandler),
		workers: map[*worker]struct{}{}}
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	caller := exec.Command("sleep", "1000")
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = caller.Process.Kill() }()

	const unique, getattr = 77, 3
	w := l.newWorker(int(sink.Fd()))
	binary.NativeEndian.PutUint32(w.in, uint32(headerSize+16))
	binary.NativeEndian.PutUint32(w.in[4:], getattr)
	binary.NativeEndian.PutUint64(w.in[8:], unique)
	binary.NativeEndian.PutUint64(w.in[16:], 1) // node
	binary.NativeEndian.PutUint32(w.in[32:], uint32(caller.Process.Pid))
	clear(w.in[headerSize : headerSize+16])
	l.workers[w] = struct{}{}
	answered := make(chan error, 1)
	go func() { answered <- w.answer(headerSize + 16) }()
	<-fs.begun
	l.interrupt(unique)
	select {
	case <-fs.cancelled:
		t.Fatal("interrupted, though its process lives")
	case <-time.After(4 * watchEvery):
	}
	if err := caller.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = caller.Wait()
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the request of a killed process waits for ever")
	}
	<-fs.cancelled
	l.wg.Wait() // who watched is gone too
}

// A message after the end goes nowhere: the number of the descriptor may be another file's.
func TestNotifyAfterTheEnd(t *testing.T) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0) // the loop closes it
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoop(nil, null, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	l.close()
	if err := l.write([]byte("x")); err != nil {
		t.Fatalf("after the end: %v", err)
	}
	l.stop()
	l.close()
}
