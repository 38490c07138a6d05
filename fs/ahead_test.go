package fs_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// traffic counts how many blocks are fetched from a store at once, which takes a while.
type traffic struct {
	mu        sync.Mutex
	now, most int
}

func watch(s *fstest.Faulty, each time.Duration) *traffic {
	w := &traffic{}
	s.Before(fstest.OpGet, func(ctx context.Context) error {
		w.mu.Lock()
		w.now++
		w.most = max(w.most, w.now)
		w.mu.Unlock()
		select {
		case <-time.After(each):
		case <-ctx.Done():
		}
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
		return ctx.Err()
	})
	return w
}

func (w *traffic) atOnce() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most
}

// Who lists a directory is going to list those in it: their pages are fetched several at
// once, and each once.
func TestListingFetchesAhead(t *testing.T) {
	const dirs = 60
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	for i := range dirs {
		d, err := v.tree.Mkdir(ctx, fs.RootIno, fmt.Sprint("dir", i), 0o700, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.tree.Mknod(ctx, d.Ino, "file", fs.ModeRegular|0o600, 0, fs.Owner{}); err != nil {
			t.Fatal(err)
		}
	}
	v.commit()
	v.wipe()
	w, before := watch(store, 10*time.Millisecond), store.Calls(fstest.OpGet)
	for _, e := range entries(t, v.tree, fs.RootIno) {
		d, err := v.tree.Lookup(ctx, fs.RootIno, e)
		if err != nil {
			t.Fatal(err)
		}
		if got := entries(t, v.tree, d.Ino); len(got) != 1 {
			t.Fatalf("%s has %v", e, got)
		}
	}
	if n := w.atOnce(); n < 4 {
		t.Errorf("at most %d pages were fetched at once", n)
	}
	v.tree.Abort()
	if n := store.Calls(fstest.OpGet) - before; n > dirs+10 {
		t.Errorf("%d blocks were fetched for %d directories", n, dirs)
	}
}

// entries are the names of a directory but for . and ..
func entries(t *testing.T, tree *fs.Tree, ino fs.Ino) (names []string) {
	t.Helper()
	d, err := tree.OpenDir(ctx, ino)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Read(ctx, 0, func(e fs.DirEntry, _ uint64) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A file that is read in order is fetched several blobs at once, and each once; one that is
// read here and there, no more than what is read.
func TestReadingFetchesAhead(t *testing.T) {
	const blobs = 24
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "file", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<20)
	for i := range blobs {
		b[0] = byte(i)
		if _, err := v.tree.Write(ctx, a.Ino, uint64(i)<<20, b); err != nil {
			t.Fatal(err)
		}
	}
	v.commit()
	open := func(each time.Duration) (read func(off uint64), fetched func() int, w *traffic) {
		t.Helper()
		store.Heal()
		v.wipe()
		f, err := v.tree.Lookup(ctx, fs.RootIno, "file")
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 128<<10)
		read = func(off uint64) {
			t.Helper()
			if n, err := v.tree.Read(ctx, f.Ino, off, p); n != len(p) || err != nil || off%(1<<20) == 0 && p[0] != byte(off>>20) {
				t.Fatalf("read at %d: %d bytes from %d on, %v", off, n, p[0], err)
			}
		}
		read(0) // the pages of its extents
		w, before := watch(store, each), store.Calls(fstest.OpGet)
		return read, func() int {
			v.tree.Abort() // what is under way comes to its end
			return store.Calls(fstest.OpGet) - before
		}, w
	}
	read, fetched, w := open(10 * time.Millisecond)
	for off := uint64(0); off < blobs<<20; off += 128 << 10 {
		read(off)
	}
	if n := w.atOnce(); n < 3 {
		t.Errorf("at most %d blobs were fetched at once", n)
	}
	if n := fetched(); n > blobs+2 {
		t.Errorf("%d blocks were fetched for %d blobs", n, blobs)
	}
	read, fetched, _ = open(10 * time.Millisecond)
	for _, i := range []uint64{20, 6, 13, 2, 17, 9} {
		read(i << 20)
	}
	if n := fetched(); n > 6 {
		t.Errorf("%d blobs were fetched for 6 reads here and there", n)
	}
	// Where each takes long, few are on their way: the one that is waited for comes soon.
	read, _, w = open(600 * time.Millisecond)
	for off := uint64(0); off < 18<<20; off += 128 << 10 {
		read(off)
	}
	if n := w.atOnce(); n > 6 {
		t.Errorf("%d blobs were fetched at once though each takes long", n)
	}
}

// Who reads the small files of one directory after the other waits for few of them; who reads
// here and there has nothing fetched in vain.
func TestSmallFilesOfDirectoriesBeside(t *testing.T) {
	const dirs, files = 60, 3
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	data := random(dirs * files * 5000)
	for i := range dirs {
		d, err := v.tree.Mkdir(ctx, fs.RootIno, fmt.Sprintf("dir%02d", i), 0o700, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		for k := range files {
			a, err := v.tree.Mknod(ctx, d.Ino, fmt.Sprint("file", k), fs.ModeRegular|0o600, 0, fs.Owner{})
			if err != nil {
				t.Fatal(err)
			}
			v.writeOn(a.Ino, 0, data[(i*files+k)*5000:][:5000], 5000)
		}
	}
	v.commit()
	// read opens the drive anew and reads the files of some directories.
	read := func(each time.Duration, order func(n int) int) (fetched int, w *traffic) {
		t.Helper()
		v.wipe()
		for _, e := range entries(t, v.tree, fs.RootIno) { // what is counted are blobs
			d, err := v.tree.Lookup(ctx, fs.RootIno, e)
			if err != nil {
				t.Fatal(err)
			}
			entries(t, v.tree, d.Ino)
		}
		before := store.Calls(fstest.OpGet)
		w = watch(store, each)
		for n := range dirs {
			i := order(n)
			d, err := v.tree.Lookup(ctx, fs.RootIno, fmt.Sprintf("dir%02d", i))
			if err != nil {
				t.Fatal(err)
			}
			for k := range files {
				a, err := v.tree.Lookup(ctx, d.Ino, fmt.Sprint("file", k))
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 5001)
				if n, err := v.tree.Read(ctx, a.Ino, 0, got); err != nil || !bytes.Equal(got[:n], data[(i*files+k)*5000:][:5000]) {
					t.Fatalf("file %d of directory %d: %d bytes, %v", k, i, n, err)
				}
			}
		}
		v.tree.Abort()
		return store.Calls(fstest.OpGet) - before, w
	}
	fetched, w := read(10*time.Millisecond, func(n int) int { return n })
	if n := w.atOnce(); n < 3 || fetched > dirs {
		t.Errorf("one after the other: %d blobs were fetched for %d directories, at most %d at once", fetched, dirs, n)
	}
	fetched, w = read(time.Millisecond, func(n int) int { return n * 37 % dirs })
	if n := w.atOnce(); n > 1 || fetched > dirs {
		t.Errorf("here and there: %d blobs were fetched for %d directories, at most %d at once", fetched, dirs, n)
	}
}

// The order of a walk through a tree is foreseen: files of several blobs in one directory, and
// directories within directories, each where its name stands.
func TestTreeInOrderIsForeseen(t *testing.T) {
	const size = 600 << 10 // two do not fit into a blob
	store := fstest.NewFaulty(fstest.NewMemory())
	v := newVault(t, store)
	blobs := 0
	var fill func(dir fs.Ino, depth int)
	fill = func(dir fs.Ino, depth int) {
		for i := range 3 {
			a, err := v.tree.Mknod(ctx, dir, fmt.Sprintf("%d-file", i), fs.ModeRegular|0o600, 0, fs.Owner{})
			if err != nil {
				t.Fatal(err)
			}
			v.writeOn(a.Ino, 0, random(size), size)
			if blobs++; depth == 0 {
				continue
			}
			d, err := v.tree.Mkdir(ctx, dir, fmt.Sprintf("%d-a-directory-before-it", i), 0o700, fs.Owner{})
			if err != nil {
				t.Fatal(err)
			}
			fill(d.Ino, depth-1)
		}
	}
	fill(fs.RootIno, 2)
	v.commit()
	v.wipe()
	var walk func(dir fs.Ino, read bool)
	walk = func(dir fs.Ino, read bool) {
		for _, name := range entries(t, v.tree, dir) {
			a, err := v.tree.Lookup(ctx, dir, name)
			if err != nil {
				t.Fatal(err)
			}
			if a.Mode&fs.ModeType == fs.ModeDir {
				walk(a.Ino, read)
			} else if read {
				if n, err := v.tree.Read(ctx, a.Ino, 0, make([]byte, size)); n != size || err != nil {
					t.Fatal(n, err)
				}
			}
		}
	}
	walk(fs.RootIno, false) // what is counted are blobs
	w, before := watch(store, 5*time.Millisecond), store.Calls(fstest.OpGet)
	walk(fs.RootIno, true)
	v.tree.Abort()
	if n := w.atOnce(); n < 4 {
		t.Errorf("at most %d blobs were fetched at once", n)
	}
	if n := store.Calls(fstest.OpGet) - before; n != blobs {
		t.Errorf("%d blobs were fetched for %d files", n, blobs)
	}
}
