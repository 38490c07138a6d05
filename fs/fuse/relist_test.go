package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A directory is to be listed anew when a third of what was listed was read, and no sooner.
func TestRelists(t *testing.T) {
	var l relists
	if l.read(1) {
		t.Error("a directory that was never listed")
	}
	for _, x := range []struct{ entries, reads int }{{3, 0}, {4, 4}, {12, 4}, {30, 10}, {plusFirst, (plusFirst + 2) / 3}, {plusFirst + 1, 0}} {
		l.listed(1, true, x.entries/2, false)
		l.listed(1, false, x.entries-x.entries/2, false)
		for range x.entries {
			if l.read(1) {
				t.Fatalf("of %d entries, in the midst of the listing", x.entries)
			}
		}
		l.listed(1, true, x.entries, false)
		l.listed(1, false, 0, true)
		got := 0
		for i := 1; i <= 2*plusFirst && got == 0; i++ {
			if l.read(1) {
				got = i
			}
		}
		if got != x.reads {
			t.Errorf("of %d entries, after %d reads, want %d", x.entries, got, x.reads)
		}
	}
	l.listed(1, true, 10, false)
	l.listed(1, false, 0, true)
	l.drop(1)
	for range 100 {
		if l.read(1) {
			t.Fatal("a directory that the kernel has forgotten")
		}
	}
	for node := range uint64(2 * relistsKept) {
		l.listed(node, true, 10, false)
	}
	if len(l.of) > relistsKept {
		t.Errorf("%d directories are noted", len(l.of))
	}
}

// The size of the kernel's cache, and whether it may keep it.
func TestKernelCache(t *testing.T) {
	name := func(n int) string { return fmt.Sprintf("%0*d", n, 1) }
	for _, x := range []struct {
		names int
		len   int
		size  int
	}{{1, 1, 32}, {1, 8, 32}, {1, 9, 40}, {127, 8, 4064}, {128, 8, 4096}, {129, 8, 4128}, {103, 9, 4096 + 40}} {
		var c kernelCache
		c.read(0)
		for i := range x.names {
			if i == x.names/2 {
				c.read(uint64(i)) // goes on
			}
			c.add(name(x.len), uint64(i+1))
		}
		if c.size != x.size || c.unfit() != (x.size == 4096) {
			t.Errorf("%d names of %d bytes: %d bytes, unfit %v; want %d", x.names, x.len, c.size, c.unfit(), x.size)
		}
		if c.read(7); x.names > 7 && !c.unfit() {
			t.Error("read in another order: fit")
		}
		if c.read(0); c.size != 0 || c.torn {
			t.Error("read from the beginning: not new")
		}
	}
}

// After its files were read a directory's attributes come with its names once more, and are
// those that it has.
func TestRelisted(t *testing.T) {
	m := mountTree(t, "")
	makeFiles(t, m.dir, "f%02d", 20)
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(m.dir, fmt.Sprintf("f%02d", i)), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
	for round := range 3 {
		for i := range 20 {
			path := filepath.Join(m.dir, fmt.Sprintf("f%02d", i))
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, long, 0); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 10)
			if n, err := f.Read(b); n != 4 {
				t.Fatalf("%d bytes, %v", n, err)
			}
			f.Close()
		}
		es, err := os.ReadDir(m.dir)
		if err != nil || len(es) != 20 {
			t.Fatalf("round %d: %d entries, %v", round, len(es), err)
		}
		for _, e := range es {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(m.dir, e.Name()), &st); err != nil || st.Size != 4 || st.Mtim.Sec != 2000 {
				t.Errorf("round %d: %s: %d bytes of %v, %v", round, e.Name(), st.Size, st.Mtim, err)
			}
		}
	}
}

// lookups counts the references that a listing takes.
type lookups struct {
	*fs.Tree
	n int
}

func (l *lookups) Lookup(ctx context.Context, parent fs.Ino, name string) (fs.Attr, error) {
	l.n++
	return l.Tree.Lookup(ctx, parent, name)
}

// A listing of the names of a large directory takes no references on most of it; but it does
// on all that follows upon a name that is looked up.
func TestNamesOfLargeDirectory(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	id, err := fstest.NewIdentity(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	cfg := fs.Config{Store: fstest.NewMemory(), Identity: id, StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal")}
	if cfg.Vault, err = fs.Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	const names = 4 * plusFirst
	for i := range names {
		if _, err := tree.Mknod(ctx, fs.RootIno, fmt.Sprintf("name-%05d", i), fs.ModeRegular|0o600, 0, fs.Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	count := &lookups{Tree: tree}
	r := newRaw(count, &Options{Log: slog.New(slog.DiscardHandler)})
	r.writeBack = func(uint64, int64, int64) error { return nil }
	list := func(lookAt uint64) int {
		count.n = 0
		looked := false
		for off := uint64(0); ; {
			out := gofuse.NewDirEntryList(make([]byte, 32<<10), off)
			in := &gofuse.ReadIn{InHeader: gofuse.InHeader{NodeId: uint64(fs.RootIno)}, Offset: off, Size: 32 << 10}
			if s := r.ReadDirPlus(make(chan struct{}), in, out); !s.Ok() {
				t.Fatal(s)
			}
			if out.Offset == off {
				return count.n
			}
			off = out.Offset
			if at := off & (1<<32 - 1); at >= lookAt && !looked { // the cookie's index
				looked = true
				var e gofuse.EntryOut
				if s := r.Lookup(make(chan struct{}), &gofuse.InHeader{NodeId: uint64(fs.RootIno)}, "name-00001", &e); !s.Ok() {
					t.Fatal(s)
				}
			}
		}
	}
	if n := list(names + 10); n < plusFirst-2 || n > plusFirst {
		t.Errorf("%d references for names alone, %d are enough", n, plusFirst)
	}
	if n := list(names / 2); n < plusFirst+names/2-256 || n > plusFirst+names/2 {
		t.Errorf("%d references when a name is looked up in the midst of %d", n, names)
	}
}

// A program may list a directory into a mapping of a file in it: the kernel then holds the
// listing while it waits for the file, whose read must not wait for the listing.
func TestListIntoMapping(t *testing.T) {
	m := mountTree(t, "")
	var files []*os.File
	for i := range relistLeast {
		path := filepath.Join(m.dir, fmt.Sprint("f", i))
		if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	for range 2 { // from the second time on out of the kernel's cache
		if es, err := os.ReadDir(m.dir); err != nil || len(es) != relistLeast {
			t.Fatal(len(es), err)
		}
	}
	for _, f := range files[1:] {
		if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	mapped, err := unix.Mmap(int(files[0].Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "listing into a mapping", func() error {
		n, err := unix.ReadDirent(int(dir.Fd()), mapped)
		if err == nil && n == 0 {
			err = errors.New("nothing is listed")
		}
		return err
	})
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
}
