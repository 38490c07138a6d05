package auth

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const redacted = "[secret]"

// secret is a long-term key in memory of its own: outside the Go heap, so that the
// collector neither moves nor copies it; locked, so that it is never swapped out; left
// out of core dumps and of forked children; overwritten before it is given back. It has
// one owner, who sees to it that nobody reads it after wipe.
//
// An operation of the standard library works on copies on the heap while it runs, and
// may leave them there until the collector reuses the memory; HardenProcess is what
// keeps those from core dumps.
type secret struct {
	mem []byte // whole pages
	n   int
}

// newSecret returns n zero bytes.
func newSecret(n int) (*secret, error) {
	page := os.Getpagesize()
	size := (max(n, 1) + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w: %w", size, err, ErrLockedMemory)
	}
	err = unix.Mlock(mem)
	if err == nil {
		err = unix.Madvise(mem, unix.MADV_DONTDUMP)
	}
	if err == nil {
		err = unix.Madvise(mem, unix.MADV_WIPEONFORK)
	}
	if err != nil {
		_ = unix.Munmap(mem) // holds nothing yet
		return nil, fmt.Errorf("locking %d bytes (see ulimit -l): %w: %w", size, err, ErrLockedMemory)
	}
	return &secret{mem: mem, n: n}, nil
}

// moveSecret makes a secret of b and overwrites b, also when it fails.
func moveSecret(b []byte) (*secret, error) {
	defer clear(b)
	return copySecret(b)
}

func copySecret(b []byte) (*secret, error) {
	s, err := newSecret(len(b))
	if err != nil {
		return nil, err
	}
	copy(s.mem, b)
	return s, nil
}

// bytes is the secret itself, not a copy; it must not be used after wipe.
func (s *secret) bytes() []byte { return s.mem[:s.n:s.n] }

// wipe overwrites the secret and gives its memory back. Wiping twice, or nil, is fine.
func (s *secret) wipe() {
	if s == nil || s.mem == nil {
		return
	}
	clear(s.mem)
	_ = unix.Munmap(s.mem) // cannot fail for what Mmap returned
	s.mem, s.n = nil, 0
}

// Format prints a placeholder for every verb.
func (*secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }
