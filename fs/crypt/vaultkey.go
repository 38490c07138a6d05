package crypt

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrLockedMemory: there is no memory for a key that is never swapped out.
var ErrLockedMemory = errors.New("no locked memory for a key (see ulimit -l)")

// VaultKey is a key that lives as long as the drive is mounted: a vault's, or its journal's.
// It lies in memory of its own, outside the Go heap, so that the collector neither moves nor
// copies it; locked, so that it is never swapped out; left out of core dumps and of forked
// children. When nobody refers to it any more, it is overwritten and its memory given back.
//
// Nothing returns its bytes. What it is needed for happens here, and overwrites what the
// standard library keeps of it on the heap.
type VaultKey struct{ mem []byte }

// NewVaultKey draws a key.
func NewVaultKey() (*VaultKey, error) {
	k, err := lockedKey()
	if err == nil {
		rand.Read(k.mem[:keySize])
	}
	return k, err
}

const keySize = len(Key{})

// moveVaultKey makes a key of b and overwrites b, also when it fails.
func moveVaultKey(b []byte) (*VaultKey, error) {
	defer clear(b)
	if len(b) != keySize {
		return nil, fmt.Errorf("a vault key has %d bytes, not %d: %w", keySize, len(b), ErrFormat)
	}
	k, err := lockedKey()
	if err == nil {
		copy(k.mem, b)
	}
	return k, err
}

func lockedKey() (*VaultKey, error) {
	mem, err := lockedPage()
	if err != nil {
		// Keys that nobody needs may wait for the collector.
		runtime.GC()
		if mem, err = lockedPage(); err != nil {
			return nil, err
		}
	}
	k := &VaultKey{mem: mem}
	runtime.AddCleanup(k, func(mem []byte) {
		clear(mem)
		_ = unix.Munmap(mem) // cannot fail for what Mmap returned
	}, mem)
	return k, nil
}

func lockedPage() ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLockedMemory, err)
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
		return nil, fmt.Errorf("%w: %w", ErrLockedMemory, err)
	}
	return mem, nil
}

// Derive makes the key for one purpose: HKDF-SHA256 with the salt and the label, as Key.Derive
// does.
func (k *VaultKey) Derive(salt []byte, label string) Key {
	var out Key
	k.derive(out[:0], salt, label)
	return out
}

// DeriveBytes is Derive for a caller that overwrites the result when it is done with it.
func (k *VaultKey) DeriveBytes(salt []byte, label string) []byte {
	out := make([]byte, keySize)
	k.derive(out[:0], salt, label)
	return out
}

// DeriveVaultKey makes a key that lives as long.
func (k *VaultKey) DeriveVaultKey(salt []byte, label string) (*VaultKey, error) {
	d, err := lockedKey()
	if err == nil {
		k.derive(d.mem[:0], salt, label)
	}
	return d, err
}

// derive appends 32 bytes to out, which has the room. SHA-256 keeps the end of its input in
// memory until it gets more: hence the step that hashes zeros in the same place, and with the
// same depth of the stack.
func (k *VaultKey) derive(out, salt []byte, label string) {
	var prk, scratch [sha256.Size]byte
	h := hmac.New(sha256.New, salt)
	h.Write(k.mem[:keySize])
	h.Sum(prk[:0])
	h.Reset()
	h.Write(scratch[:])
	h.Sum(scratch[:0])

	h = hmac.New(sha256.New, prk[:])
	_, _ = io.WriteString(h, label)
	h.Write([]byte{1})
	h.Sum(out)
	clear(prk[:])
	runtime.KeepAlive(k)
}

// Equal tells whether two keys are the same.
func (k *VaultKey) Equal(o *VaultKey) bool {
	defer runtime.KeepAlive(o)
	defer runtime.KeepAlive(k)
	return hmac.Equal(k.mem[:keySize], o.mem[:keySize])
}

// Format prints a placeholder for every verb.
func (*VaultKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "key") }
