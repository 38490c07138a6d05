package fuse

import (
	"encoding/binary"
	"log/slog"
	"os"
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
	go func() { answered <- request(getattr, make([]byte, 16)).answer(headerSize + 16) }()
	for _, c := range []chan error{interrupted, answered} {
		select {
		case err := <-c:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the request waits for ever")
		}
	}
	<-fs.cancelled
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
