package fs_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// A file that was unlinked while it is open may be larger than memory, also if it is
// written at random: what commits never write is sealed all the same. With its last user
// its blobs go.
func TestUnlinkedFilesLeaveMemory(t *testing.T) {
	v := newVault(t, nil)
	if err := v.tree.Close(ctx); err != nil {
		t.Fatal(err)
	}
	v.cfg.MemoryLimit, v.cfg.Deadline = 32<<20, time.Minute
	tree := v.open()
	used := func() uint64 {
		n, _, err := v.store.Usage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, err := tree.Mknod(ctx, fs.RootIno, "temporary", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(off uint64, p []byte) {
		t.Helper()
		if n, err := tree.Write(ctx, a.Ino, off, p); err != nil || n != len(p) {
			t.Fatalf("writing %d at %d: %d, %v", len(p), off, n, err)
		}
	}
	const size, piece = 24 << 20, 4 << 10
	want := make([]byte, size)
	put(0, want[:3*piece/2]) // some of it from before
	if err := tree.Unlink(ctx, fs.RootIno, "temporary"); err != nil {
		t.Fatal(err)
	}
	before := used()
	r := rand.New(rand.NewPCG(1, 2))
	check := func(when string) {
		t.Helper()
		got := make([]byte, size)
		n, err := tree.Read(ctx, a.Ino, 0, got)
		if err != nil || !bytes.Equal(got[:n], want[:n]) || len(bytes.Trim(want[n:], "\x00")) > 0 {
			t.Fatalf("%s: %d bytes, not what was written: %v", when, n, err)
		}
	}
	for round := range 2 {
		for _, i := range r.Perm(size / piece) {
			if i%8 == 0 { // stays a hole, or old
				continue
			}
			off := i*piece + r.IntN(100)
			p := want[off:min(size, off+piece)]
			for k := range p {
				p[k] = byte(i>>(k&8)) ^ byte(k) ^ byte(round)
			}
			put(uint64(off), p)
		}
		v.commit()
		check("after a commit")
	}
	if stored := used() - before; stored < size/8*7-5<<20 {
		t.Errorf("of %d bytes %d are in the store", size, stored)
	}
	change := func(name string) {
		t.Helper()
		m, err := tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		tree.Forget(m.Ino, 1)
		v.commit()
	}
	for _, name := range []string{"a", "b", "c", "d"} { // blobs that are used no more are freed
		change(name)
		check("later")
	}
	tree.Forget(a.Ino, 1)
	for _, name := range []string{"e", "f", "g", "h"} {
		change(name)
	}
	if left := int64(used()) - int64(before); left > 1<<20 {
		t.Errorf("%d bytes stay in the store", left)
	}
}
