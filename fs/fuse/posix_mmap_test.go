package fuse

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What was written into a hole through a mapping is data to SEEK_DATA at once, before
// anything made the kernel write it back: else cp(1), which skips holes, would lose it.
func TestMappedDataIsNoHole(t *testing.T) {
	both(t, func(t *testing.T, dir, kind string) {
		const size, at = 8 << 20, 5<<20 + 123
		path := filepath.Join(dir, "sparse")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("begin"), 0); err != nil {
			t.Fatal(err)
		}
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(m) }()
		copy(m[at:], "mapped")
		other, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if data, err := unix.Seek(int(other.Fd()), 1<<20, unix.SEEK_DATA); err != nil || data > at {
			t.Errorf("after 1 MiB data begins at %d, %v", data, err)
		}
		if hole, err := unix.Seek(int(other.Fd()), at, unix.SEEK_HOLE); err != nil || hole < at+6 {
			t.Errorf("at mapped data a hole begins at %d, %v", hole, err)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.Command("cp", path, copied).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		b, err := os.ReadFile(copied)
		if err != nil || !bytes.Equal(b, m) {
			t.Errorf("the copy of %d bytes lacks something, %v", len(b), err)
		}
		if !bytes.Equal(m[at:at+6], []byte("mapped")) {
			t.Error("the mapping lost it")
		}
		copy(m[at+1<<20:], "again") // the mapping still works
		if err := unix.Msync(m, unix.MS_SYNC); err != nil {
			t.Fatal(err)
		}
		if data, err := unix.Seek(int(other.Fd()), at+512<<10, unix.SEEK_DATA); err != nil || data > at+1<<20 {
			t.Errorf("data begins at %d, %v", data, err)
		}
	})
}

// Archivers may take a file without blocks for zeros and not read it (tar -S, by version).
// What a program has written through a mapping, and the kernel has not written back, must not
// be lost that way.
func TestMappedDataIsArchived(t *testing.T) {
	both(t, func(t *testing.T, dir, kind string) {
		const size = 1 << 20
		path := filepath.Join(dir, "mapped")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil { // the kernel keeps these attributes
			t.Fatal(err)
		}
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Munmap(m) }()
		copy(m, "bytes")
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Blocks == 0 {
			t.Errorf("the file shows %d blocks, %v", st.Blocks, err)
		}
		out := t.TempDir()
		tar := exec.Command("sh", "-c", `tar -C "$1" -Scf - mapped | tar -C "$2" -xf -`, "sh", dir, out)
		if b, err := tar.CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, b)
		}
		b, err := os.ReadFile(filepath.Join(out, "mapped"))
		if err != nil || !bytes.Equal(b, m) {
			t.Errorf("the archive of %d bytes differs, %v", len(b), err)
		}
	})
}
