package fuse

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Containers keep the changes of their root file system in the upper layer of an overlayfs.
// A drive can be that layer: what is renamed or removed in the overlay becomes a whiteout on
// the drive, which another mount of the overlay finds there.
func TestOverlayOnDrive(t *testing.T) {
	m := mountTree(t, "")
	lower, merged := t.TempDir(), t.TempDir()
	upper, work := filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(upper, 0o755))
	must(os.Mkdir(work, 0o755))
	for _, name := range []string{"kept", "renamed", "removed", "replaced"} {
		must(os.WriteFile(filepath.Join(lower, name), []byte("lower "+name), 0o644))
	}
	must(os.Mkdir(filepath.Join(lower, "dir"), 0o755))
	must(os.WriteFile(filepath.Join(lower, "dir", "inside"), nil, 0o644))
	mount := func() {
		t.Helper()
		options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
		must(unix.Mount("overlay", merged, "overlay", 0, options))
	}
	on := func(name string) string { return filepath.Join(merged, name) }

	mount()
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = unix.Unmount(merged, unix.MNT_DETACH)
		}
	})
	must(os.Rename(on("renamed"), on("new")))
	must(os.Remove(on("removed")))
	must(os.WriteFile(on("made"), []byte("upper"), 0o644))
	must(os.Rename(on("made"), on("replaced")))
	must(os.RemoveAll(on("dir")))
	must(os.Mkdir(on("dir"), 0o755))
	for range 2 { // as it is, and mounted anew
		entries, err := os.ReadDir(merged)
		must(err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if want := []string{"dir", "kept", "new", "replaced"}; !slices.Equal(names, want) {
			t.Errorf("the overlay shows %q, want %q", names, want)
		}
		for name, want := range map[string]string{"new": "lower renamed", "replaced": "upper", "kept": "lower kept"} {
			if b, err := os.ReadFile(on(name)); err != nil || string(b) != want {
				t.Errorf("%s is %q, %v", name, b, err)
			}
		}
		if inside, err := os.ReadDir(on("dir")); err != nil || len(inside) > 0 {
			t.Errorf("the new directory shows %v of the old one, %v", inside, err)
		}
		must(unix.Unmount(merged, 0))
		mounted = false
		mount()
		mounted = true
	}
}
