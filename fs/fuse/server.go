package fuse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Server is a mounted tree.
type Server struct {
	path string
	dev  string // major:minor, as mountinfo has it; "" if that could not be read
	opts Options
	loop *loop          // LoopOwn
	lib  *gofuse.Server // LoopGoFuse
	fd   int
	done chan struct{}

	noPrune atomic.Bool // the kernel cannot take several inodes at once

	mu        sync.Mutex
	unmounted bool
}

// Mount mounts a tree at a directory and serves it until Unmount, or until somebody else
// unmounts it.
func Mount(ctx context.Context, tree Tree, mountpoint string, o Options) (*Server, error) {
	o.fill()
	if err := o.check(); err != nil {
		return nil, err
	}
	path, err := prepare(mountpoint, o.NonEmpty)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	queues, err := o.queues()
	if err != nil {
		return nil, err
	}
	s, err := mountWith(tree, path, o, queues)
	if err != nil && queues > 0 && o.Loop == LoopAuto && ctx.Err() == nil {
		o.Log.Warn("the kernel's rings cannot be used", "error", err)
		s, err = mountWith(tree, path, o, 0)
	}
	if err != nil {
		return nil, err
	}
	if m, ok, err := findMount(path); err == nil && ok {
		s.dev = m.dev
	}
	if os.Geteuid() == 0 {
		if err := readAhead(path); err != nil {
			o.Log.Warn("setting the read-ahead", "error", err)
		}
	}
	return s, nil
}

// queues is how many queues of rings are to be served; 0 is the device alone.
func (o *Options) queues() (int, error) {
	n := 0
	if o.Loop == LoopAuto || o.Loop == LoopRing {
		n = ringQueues()
	}
	if n == 0 && o.Loop == LoopRing {
		return 0, fmt.Errorf("%w: the kernel has no rings to offer (%s)", ErrMount, ringParameter)
	}
	return n, nil
}

func mountWith(tree Tree, path string, o Options, queues int) (*Server, error) {
	fd, err := mountKernel(path, &o)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, opts: o, fd: fd, done: make(chan struct{})}
	r := newRaw(tree, &o)
	r.writeBack = s.InvalidateInode
	if err := s.serve(r, queues); err != nil {
		_ = unmount(path, true)
		return nil, err
	}
	return s, nil
}

func (s *Server) serve(r *raw, queues int) error {
	opts := &gofuse.MountOptions{
		MaxWrite:                 maxWrite,
		MaxBackground:            64,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities:        gofuse.CAP_HANDLE_KILLPRIV_V2,
		DisabledCapabilities:     gofuse.CAP_PASSTHROUGH | gofuse.CAP_ALLOW_IDMAP,
		FsName:                   s.opts.FSName,
		Name:                     subtype,
		Logger:                   log.New(io.Discard, "", 0), // requests may name files
		PanicHandler:             s.panicked,
	}
	if s.opts.ACL {
		// The umask comes with the request then: a default ACL takes its place.
		opts.EnableAcl = true
		opts.ExtraCapabilities |= gofuse.CAP_DONT_MASK | gofuse.CAP_SETXATTR_EXT
	}
	if s.opts.Loop == LoopGoFuse {
		lib, err := gofuse.NewServer(r, fmt.Sprintf("/dev/fd/%d", s.fd), opts)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMount, err)
		}
		s.lib = lib
		go func() {
			lib.Serve()
			close(s.done)
		}()
		return nil
	}
	if queues > 0 {
		opts.ExtraCapabilities |= gofuse.CAP_OVER_IO_URING
	}
	l, err := newLoop(gofuse.NewProtocolServer(r, opts), s.fd, s.opts.Log)
	if err != nil {
		unix.Close(s.fd)
		return err
	}
	if !s.opts.NoPoll {
		l.polling = newPolling(s.opts.Log)
	}
	s.loop = l // the threads that begin makes use it
	if err := l.begin(queues, s.done); err != nil {
		l.close()
		return err
	}
	go func() { // owner of the end: when the threads are gone, so is the mount
		l.wg.Wait()
		l.close()
		close(s.done)
	}()
	return nil
}

// Path is the mountpoint, absolute and without links.
func (s *Server) Path() string { return s.path }

// Done is closed when the mount has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// endWait is for the end of a mount whose name is gone: then no program has it open.
const endWait = 15 * time.Second

// Unmount ends the mount. In use, it is fs.ErrBusy, unless lazy: then the names are gone
// at once, and the mount ends with its last user. It is fs.ErrBusy too where another mount
// hides it, or keeps it when its name is gone (a container may have it).
func (s *Server) Unmount(lazy bool) error {
	if err := s.detach(lazy); err != nil || lazy {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(endWait):
		return fmt.Errorf("%s is unmounted, and still used by a program that had it open, or seen in another mount namespace: %w", s.path, fs.ErrBusy)
	}
}

func (s *Server) detach(lazy bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	if s.unmounted {
		return nil
	}
	// What is at the mountpoint now may be another's: on top of ours, or after it.
	if ours, named := s.named(); !named {
		s.unmounted = true // somebody else has done it
		return nil
	} else if !ours {
		return fmt.Errorf("another mount at %s hides the drive: %w", s.path, fs.ErrBusy)
	}
	err := unmount(s.path, lazy)
	if err != nil {
		if _, named := s.named(); !named { // somebody else was faster
			err = nil
		}
	}
	s.unmounted = err == nil
	return err
}

// named tells whether the mount has a name still, and whether its mountpoint leads to it.
func (s *Server) named() (ours, named bool) {
	top := ""
	err := eachMount(func(m mounted) {
		named = named || m.dev == s.dev
		if m.point == s.path {
			top = m.dev
		}
	})
	if err != nil || s.dev == "" { // unmount(2) will tell
		return true, true
	}
	return top == s.dev, named
}

// Abort gives the mount up without waiting for its users: they get errors.
func (s *Server) Abort() {
	if err := s.detach(true); err != nil {
		s.opts.Log.Warn("giving the mount up", "error", err)
	}
	if s.loop != nil {
		s.loop.stop()
	}
}

// panicked ends the process: a tree that stopped in the middle of a change must not
// answer any more. The journal has all that was acknowledged.
func (s *Server) panicked(v any) gofuse.Status {
	s.opts.Log.Error("a request failed in a way that it must not; ending")
	panic(v)
}

// InvalidateEntry makes the kernel forget a name, InvalidateInode what it keeps of a file.
func (s *Server) InvalidateEntry(parent uint64, name string) error {
	b := make([]byte, 0, 16+len(name)+1)
	b = appendU64(b, parent)
	b = appendU32(appendU32(b, uint32(len(name))), 0)
	return s.notify(notifyInvalEntry, append(append(b, name...), 0))
}

// InvalidateInode makes the kernel forget attributes and, from off on, n bytes of data;
// n 0 is all.
func (s *Server) InvalidateInode(ino uint64, off, n int64) error {
	b := appendU64(nil, ino)
	b = appendU64(appendU64(b, uint64(off)), uint64(n))
	return s.notify(notifyInvalInode, b)
}

// KeepsUsed reports whether the kernel takes several inodes at once to forget, of which it
// keeps those that are in use; Linux has it since 6.18.
func (s *Server) KeepsUsed() bool { return !s.noPrune.Load() }

// Forget makes the kernel drop what nobody uses of these inodes, and give them back. A
// kernel that cannot do that is asked to forget one name after the other, used or not, but
// for directories and what has several.
func (s *Server) Forget(places []fs.Place) error {
	if !s.noPrune.Load() {
		b := appendU64(appendU32(appendU32(nil, uint32(len(places))), 0), 0)
		for _, p := range places {
			b = appendU64(b, uint64(p.Ino))
		}
		err := s.notify(notifyPrune, b)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		s.noPrune.Store(true)
	}
	for _, p := range places {
		if p.Dir || p.Name == "" {
			continue
		}
		if err := s.InvalidateEntry(uint64(p.Parent), p.Name); err != nil {
			return err
		}
	}
	return nil
}

const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyPrune      = 9
)

func appendU32(b []byte, v uint32) []byte { return binary.NativeEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.NativeEndian.AppendUint64(b, v) }

// notify writes a message to the kernel: a header whose unique number is 0.
func (s *Server) notify(code int32, body []byte) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	h := appendU32(nil, uint32(16+len(body)))
	h = appendU64(appendU32(h, uint32(code)), 0)
	err := s.write(append(h, body...))
	if errors.Is(err, unix.ENOENT) { // the kernel does not have it
		return nil
	}
	return err
}

func (s *Server) write(b []byte) error {
	if s.loop != nil {
		return s.loop.write(b)
	}
	_, err := unix.Write(s.fd, b)
	return err
}

// Check reports whether a directory could be mounted on, without mounting. A dead mount
// that is found there is removed.
func Check(mountpoint string, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	_, err := prepare(mountpoint, o.NonEmpty)
	return err
}
