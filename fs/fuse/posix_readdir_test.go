package fuse

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dirReader lists a directory with raw calls, so that it can stop and go on anywhere.
type dirReader struct {
	fd  int
	buf []byte
}

type dirent struct {
	name string
	off  int64 // of the entry after it
	ino  uint64
}

func openDirReader(t *testing.T, dir string, size int) *dirReader {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &dirReader{fd, make([]byte, size)}
}

// next returns some entries, none at the end.
func (d *dirReader) next(t *testing.T) (out []dirent) {
	t.Helper()
	n, err := unix.ReadDirent(d.fd, d.buf)
	if err != nil {
		t.Fatal(err)
	}
	for b := d.buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:size]), "\x00")
		out = append(out, dirent{name, int64(binary.NativeEndian.Uint64(b[8:])), binary.NativeEndian.Uint64(b)})
		b = b[size:]
	}
	return out
}

func (d *dirReader) all(t *testing.T) (out []dirent) {
	t.Helper()
	for {
		more := d.next(t)
		if len(more) == 0 {
			return out
		}
		out = append(out, more...)
	}
}

func (d *dirReader) seek(t *testing.T, off int64) {
	t.Helper()
	if _, err := unix.Seek(d.fd, off, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
}

func makeFiles(t *testing.T, dir string, format string, n int) {
	t.Helper()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf(format, i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Each name that was there all the time is listed once, whatever happens meanwhile: names
// made and removed before and after the reader's place, other readers that list the
// directory anew, so that the kernel's cache of it changes hands, and seeks.
func TestReaddirUnderChange(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		r := rand.New(rand.NewPCG(1, 2))
		for round := range 30 {
			dir := filepath.Join(base, fmt.Sprint("r", round))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			stay := 50 + r.IntN(400)
			makeFiles(t, dir, "m%04d", stay)
			makeFiles(t, dir, "gone%04d", 50)
			readers := []*dirReader{}
			seen := []map[string]int{}
			for range 1 + r.IntN(3) {
				readers = append(readers, openDirReader(t, dir, 256+r.IntN(2000)))
				seen = append(seen, map[string]int{})
			}
			gone, made := 0, 0
			done := make([]bool, len(readers))
			for left := len(readers); left > 0; {
				i := r.IntN(len(readers))
				if !done[i] {
					es := readers[i].next(t)
					if len(es) == 0 {
						done[i] = true
						left--
					}
					for _, e := range es {
						seen[i][e.name]++
					}
					if len(es) > 1 && r.IntN(4) == 0 { // go back to an entry: it comes again
						readers[i].seek(t, es[0].off)
						for _, e := range es[1:] {
							seen[i][e.name]--
						}
					}
				}
				switch r.IntN(6) {
				case 0:
					makeFiles(t, dir, fmt.Sprintf("a%d-%%d", made), 1+r.IntN(3))
					made++
				case 1:
					makeFiles(t, dir, fmt.Sprintf("z%d-%%d", made), 1+r.IntN(3))
					made++
				case 2:
					if gone < 50 {
						if err := os.Remove(filepath.Join(dir, fmt.Sprintf("gone%04d", gone))); err != nil {
							t.Fatal(err)
						}
						gone++
					}
				case 3:
					d := openDirReader(t, dir, 32<<10)
					names := map[string]int{}
					for _, e := range d.all(t) {
						names[e.name]++
					}
					for j := range stay {
						if n := names[fmt.Sprintf("m%04d", j)]; n != 1 {
							t.Fatalf("round %d: a fresh listing has m%04d %d times", round, j, n)
						}
					}
					unix.Close(d.fd)
				}
			}
			for i := range readers {
				for j := range stay {
					if n := seen[i][fmt.Sprintf("m%04d", j)]; n != 1 {
						t.Fatalf("round %d: reader %d of %d saw m%04d %d times", round, i, len(readers), j, n)
					}
				}
				for name, n := range seen[i] {
					if n > 1 {
						t.Fatalf("round %d: reader %d saw %s %d times", round, i, name, n)
					}
				}
			}
		}
	})
}

// What telldir said leads seekdir to the same entry, also in a listing from the cache.
func TestSeekdir(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		dir := filepath.Join(base, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		makeFiles(t, dir, "f%03d", 300)
		d := openDirReader(t, dir, 700)
		all := d.all(t)
		if len(all) != 302 {
			t.Fatalf("%d entries", len(all))
		}
		for _, k := range []int{150, 3, 299, 0, 77, 301} {
			d.seek(t, all[k].off)
			got := d.next(t)
			if k == 301 {
				if len(got) != 0 {
					t.Fatalf("%v after the end", got)
				}
				continue
			}
			if len(got) == 0 || got[0].name != all[k+1].name {
				t.Fatalf("after entry %d comes %v, want %s", k, got, all[k+1].name)
			}
		}
		d.seek(t, 0)
		if got := d.all(t); len(got) != 302 {
			t.Fatalf("%d entries after a rewind", len(got))
		}
		makeFiles(t, dir, "new%d", 1)
		d.seek(t, 0)
		if got := d.all(t); len(got) != 303 {
			t.Fatalf("%d entries after a rewind and a new file", len(got))
		}
	})
}

// Removing all names while listing leaves none.
func TestRemoveWhileListing(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		dir := filepath.Join(base, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		makeFiles(t, dir, "file-with-a-longer-name-%05d", 3000)
		d := openDirReader(t, dir, 4096)
		for {
			es := d.next(t)
			if len(es) == 0 {
				break
			}
			for _, e := range es {
				if e.name != "." && e.name != ".." {
					if err := os.Remove(filepath.Join(dir, e.name)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	})
}

// A name that is renamed again and again is listed at most once each time, others always.
func TestReaddirWhileRenaming(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		dir := filepath.Join(base, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		makeFiles(t, dir, "stay%03d", 200)
		makeFiles(t, dir, "zz%d", 1)
		from, changes := "zz0", 0
		for i := range 200 {
			d := openDirReader(t, dir, 512)
			n := map[string]int{}
			for {
				es := d.next(t)
				if len(es) == 0 {
					break
				}
				for _, e := range es {
					n[e.name]++
				}
				changes++
				to := []string{"aa", "mm", "zz"}[i%3] + fmt.Sprint(changes)
				if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
					t.Fatal(err)
				}
				from = to
			}
			unix.Close(d.fd)
			for j := range 200 {
				if name := fmt.Sprintf("stay%03d", j); n[name] != 1 {
					t.Fatalf("listing %d has %s %d times", i, name, n[name])
				}
			}
		}
	})
}

// both runs a test on the local disk, which says whether the test is right, and on the drive.
func both(t *testing.T, f func(t *testing.T, dir, kind string)) {
	t.Run("local", func(t *testing.T) { f(t, t.TempDir(), "local") })
	t.Run("drive", func(t *testing.T) { f(t, mountTree(t, "").dir, "drive") })
}

// Many directories that are read a piece at a time, while names in them go away: each listing
// has each name that stays once. Nothing says when a listing begins or ends.
func TestManyListingsAtOnce(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		const dirs, files = 60, 200
		readers, seen := make([]*dirReader, dirs), make([]map[string]int, dirs)
		name := func(i int) string { return filepath.Join(base, fmt.Sprintf("d%03d", i)) }
		for i := range dirs {
			if err := os.Mkdir(name(i), 0o755); err != nil {
				t.Fatal(err)
			}
			makeFiles(t, name(i), "stay-with-a-longer-name-%03d", files)
			makeFiles(t, name(i), "go-with-a-longer-name-%03d", files)
			readers[i], seen[i] = openDirReader(t, name(i), 512), map[string]int{}
		}
		for round := 0; ; round++ {
			left := 0
			for i, d := range readers {
				es := d.next(t)
				left += len(es)
				for _, e := range es {
					seen[i][e.name]++
				}
				if round < files {
					if err := os.Remove(filepath.Join(name(i), fmt.Sprintf("go-with-a-longer-name-%03d", round))); err != nil {
						t.Fatal(err)
					}
				}
			}
			if left == 0 {
				break
			}
		}
		for i := range dirs {
			for j := range files {
				if n := fmt.Sprintf("stay-with-a-longer-name-%03d", j); seen[i][n] != 1 {
					t.Fatalf("directory %d lists %s %d times", i, n, seen[i][n])
				}
			}
			for n, times := range seen[i] {
				if times > 1 {
					t.Fatalf("directory %d lists %s %d times", i, n, times)
				}
			}
		}
	})
}
