package fs_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// partStore is a store that can read parts of blocks, as the embedded node can.
type partStore struct {
	*fstest.Memory
	parts, wholes atomic.Int64                    // reads of a package at most, and of more
	gets          atomic.Int64                    // of them, those that the store verifies
	damage        func(b []byte, off int64) error // of a part that was read; nil for none
}

func (s *partStore) Get(ctx context.Context, c fs.CID) ([]byte, error) {
	s.wholes.Add(1)
	s.gets.Add(1)
	return s.Memory.Get(ctx, c)
}

func (s *partStore) GetPart(ctx context.Context, c fs.CID, off int64, p []byte) error {
	b, err := s.Memory.Get(ctx, c)
	if err != nil {
		return err
	}
	if len(p) > crypt.SealedPackage {
		s.wholes.Add(1)
	} else {
		s.parts.Add(1)
	}
	copy(p, b[off:])
	if s.damage != nil {
		err = s.damage(p, off)
	}
	return err
}

// TestReadHereAndThere: who reads little of a large file here and there gets the right
// bytes and has single packages read; who reads in order has whole blobs read.
func TestReadHereAndThere(t *testing.T) {
	store := &partStore{Memory: fstest.NewMemory()}
	v := newVault(t, store)
	data := random(32<<20 + 3*crypt.PackageSize + 77)
	v.streamed("large", data, 128<<10)
	v.wipe()
	a, err := v.tree.Lookup(ctx, fs.RootIno, "large")
	if err != nil {
		t.Fatal(err)
	}
	defer v.tree.Forget(a.Ino, 1)
	before := store.wholes.Load()
	r := rand.New(rand.NewPCG(1, 2))
	read := func(off, n int) {
		t.Helper()
		got := make([]byte, n)
		k, err := v.tree.Read(ctx, a.Ino, uint64(off), got)
		if want := data[off:min(off+n, len(data))]; err != nil || !bytes.Equal(got[:k], want) {
			t.Fatalf("%d of %d bytes at %d, %v", k, len(want), off, err)
		}
	}
	last := 0
	for range 300 {
		off, n := 1+r.IntN(len(data)-1), 1+r.IntN(8<<10)
		if off <= last && off > last-5<<20 {
			continue // that may look like reading in order, by several at once
		}
		read(off, n)
		last = off + n
	}
	// The end of the file is read whole: it is in no large blob.
	if parts, wholes := store.parts.Load(), store.wholes.Load()-before; parts < 20 || wholes > 2 {
		t.Errorf("%d parts and %d whole blobs were read", parts, wholes)
	}
	parts := store.parts.Load()
	for off := 0; off < len(data); off += 128 << 10 {
		read(off, 128<<10)
	}
	if n := store.parts.Load() - parts; n > 0 {
		t.Errorf("reading in order read %d single packages", n)
	}
}

// TestDamagedPart: a part that does not verify, or is not there, is never served; the whole
// blob is asked for in its place, which may still be right.
func TestDamagedPart(t *testing.T) {
	away := errors.New("away")
	for name, damage := range map[string]func([]byte, int64) error{
		"a bit":             func(b []byte, _ int64) error { b[len(b)/2] ^= 1; return nil },
		"a header":          func(b []byte, _ int64) error { b[5] ^= 1; return nil },
		"all but the final": func(b []byte, off int64) error { b[100] ^= byte(min(off^15*crypt.SealedPackage, 1)); return nil },
		"not there":         func([]byte, int64) error { return away },
	} {
		t.Run(name, func(t *testing.T) {
			store := &partStore{Memory: fstest.NewMemory()}
			v := newVault(t, store)
			data := random(4 << 20)
			v.streamed("large", data, 128<<10)
			v.wipe()
			store.damage = damage
			a, err := v.tree.Lookup(ctx, fs.RootIno, "large")
			if err != nil {
				t.Fatal(err)
			}
			defer v.tree.Forget(a.Ino, 1)
			got := make([]byte, 4096)
			if n, err := v.tree.Read(ctx, a.Ino, 2<<20+5000, got); err != nil || !bytes.Equal(got[:n], data[2<<20+5000:][:4096]) {
				t.Errorf("%d bytes, %v", n, err)
			}
			if store.parts.Load() == 0 {
				t.Error("no part was read: this tests nothing")
			}
		})
	}
}

// TestDamagedLocalBlob: a blob of this machine whose seals do not verify is asked for once
// more, verified by its CID, which may mend it; it is never served.
func TestDamagedLocalBlob(t *testing.T) {
	for name, damage := range map[string]func([]byte, int64) error{
		"none":         nil,
		"a bit":        func(b []byte, _ int64) error { b[len(b)/2] ^= 1; return nil },
		"the last bit": func(b []byte, _ int64) error { b[len(b)-1] ^= 0x80; return nil },
		"packages exchanged": func(b []byte, _ int64) error {
			for i := range crypt.SealedPackage {
				b[i], b[crypt.SealedPackage+i] = b[crypt.SealedPackage+i], b[i]
			}
			return nil
		},
		"cut":       func(b []byte, _ int64) error { clear(b[len(b)-100:]); return nil },
		"not there": func([]byte, int64) error { return fs.ErrNotFound },
	} {
		t.Run(name, func(t *testing.T) {
			store := &partStore{Memory: fstest.NewMemory()}
			v := newVault(t, store)
			data := random(4 << 20)
			v.streamed("large", data, 128<<10)
			v.wipe()
			a, err := v.tree.Lookup(ctx, fs.RootIno, "large")
			if err != nil {
				t.Fatal(err)
			}
			defer v.tree.Forget(a.Ino, 1)
			store.damage = damage
			before := store.gets.Load()
			got := make([]byte, 128<<10)
			for off := 0; off < len(data); off += len(got) {
				if n, err := v.tree.Read(ctx, a.Ino, uint64(off), got); err != nil || !bytes.Equal(got[:n], data[off:off+n]) {
					t.Fatalf("%d bytes at %d, %v", n, off, err)
				}
			}
			if n := store.gets.Load() - before; (n > 0) != (damage != nil) {
				t.Errorf("%d blobs were verified by their CIDs", n)
			}
		})
	}
}
