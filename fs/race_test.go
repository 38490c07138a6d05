package fs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// Files change while they are committed: crowded ranges are rewritten, copies share blobs
// that the commit gives up, and nothing is freed that anybody still uses.
func TestChangesDuringCommits(t *testing.T) {
	const files, size, block = 4, 4 << 20, 4096
	store := fstest.NewMemory()
	v := newVault(t, store)
	want := make([][]byte, files)
	inos := make([]fs.Ino, files)
	for i := range files {
		a, err := v.tree.Mknod(ctx, fs.RootIno, fmt.Sprint("f", i), fs.ModeRegular|0o600, 0, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		inos[i], want[i] = a.Ino, make([]byte, size)
		for off := 0; off < size; off += 1 << 20 {
			if _, err := v.tree.Write(ctx, a.Ino, uint64(off), want[i][off:off+1<<20]); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // commits, one after the other, and collections of garbage between them
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := v.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
				t.Error("commit:", err)
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(5, 6))
	for step := range 20000 {
		i := r.IntN(files)
		if step%50 == 0 { // a copy from one file to another
			k, n := (i+1)%files, block*(1+r.IntN(300))
			from, to := block*r.IntN((size-n)/block), block*r.IntN((size-n)/block)
			got, err := v.tree.CopyRange(ctx, inos[i], uint64(from), inos[k], uint64(to), uint64(n))
			if err != nil || got != uint64(n) {
				t.Fatal(got, err)
			}
			copy(want[k][to:to+n], want[i][from:from+n])
			continue
		}
		p := bytes.Repeat([]byte{byte(step), byte(step >> 8), byte(i), 1}, block/4)
		off := block * r.IntN(size/block)
		if _, err := v.tree.Write(ctx, inos[i], uint64(off), p); err != nil {
			t.Fatal(err)
		}
		copy(want[i][off:], p)
	}
	close(stop)
	wg.Wait()
	check := func(when string) {
		t.Helper()
		for i := range files {
			a, err := v.tree.Lookup(ctx, fs.RootIno, fmt.Sprint("f", i))
			if err != nil {
				t.Fatal(when, err)
			}
			got := make([]byte, size)
			if n, err := v.tree.Read(ctx, a.Ino, 0, got); err != nil || n != size {
				t.Fatal(when, n, err)
			}
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("%s: file %d differs", when, i)
			}
		}
	}
	check("at once")
	for range 3 {
		v.commit()
	}
	v.wipe()
	check("from the store alone")
	store.Collect()
	for i := range files { // everything is given up: everything must be freed
		f, err := v.tree.Lookup(ctx, fs.RootIno, fmt.Sprint("f", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.tree.Unlink(ctx, fs.RootIno, fmt.Sprint("f", i)); err != nil {
			t.Fatal(err)
		}
		v.tree.Forget(f.Ino, 2) // of here and of the check: nobody has it open
	}
	for i := range 4 {
		if _, err := v.tree.Mkdir(ctx, fs.RootIno, fmt.Sprint("d", i), 0o700, fs.Owner{}); err != nil {
			t.Fatal(err)
		}
		v.commit()
	}
	if s := v.tree.Status(); s.LastError != "" || len(s.Alerts) > 0 {
		t.Fatalf("%+v", s)
	}
	if n := len(store.CIDs()); n > 30 {
		t.Fatalf("%d blocks are left of nothing", n)
	}
}
