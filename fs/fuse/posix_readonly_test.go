package fuse

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// fillReadOnly makes what the tables about read-only mounts find.
func fillReadOnly(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644),
		os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.WriteFile(filepath.Join(dir, "dir/inner"), []byte("more"), 0o644),
		os.Symlink("file", filepath.Join(dir, "link")),
		unix.Setxattr(filepath.Join(dir, "file"), "user.kept", []byte("value"), 0),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadOnly runs the tables about read-only mounts: a drive that was filled and is
// mounted again with ro, and a directory of the local disk.
func TestReadOnly(t *testing.T) {
	needRoot(t)
	cases := loadCases(t, "testdata/readonly/*.txt")
	t.Run("ext4", func(t *testing.T) {
		g := local(t)
		fillReadOnly(t, g.dir)
		if err := unix.Mount(g.dir, g.dir, "", unix.MS_BIND, ""); err != nil {
			t.Skip("no bind mounts here: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(g.dir, unix.MNT_DETACH) })
		if err := unix.Mount("", g.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		g.fixed = true
		runCases(t, g, cases)
	})
	t.Run("drive", func(t *testing.T) {
		base := t.TempDir()
		openWay(t, base)
		m := startKept(t, base, "allow_other")
		fillReadOnly(t, m.dir)
		m.stop()
		m = startKept(t, base, "allow_other,ro")
		g := &ground{t: t, kind: "drive", dir: m.dir, other: elsewhere(t), actors: map[string]*actor{}, fixed: true}
		runCases(t, g, cases)
		if out, err := exec.Command("stat", "-f", m.dir).CombinedOutput(); err != nil {
			t.Errorf("statfs: %v: %s", err, out)
		}
	})
}
