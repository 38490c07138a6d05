package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// All state lies on a small file system, which fills up. Writers are told so, nothing is
// lost, what is there can be read and removed, and then there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "mkfs.ext4", "mount", "umount")
	disk := newHome(t)
	image, at := disk.path("image"), disk.path("disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := shell(disk.dir, `truncate -s 256M image; mkfs.ext4 -q -m 0 image`); err != nil {
		t.Fatal(err)
	}
	if _, err := shell(disk.dir, `mount -o loop image disk`); err != nil {
		t.Skip("this system mounts no loop devices: ", err)
	}
	t.Cleanup(func() {
		if _, err := shell(disk.dir, "umount disk"); err != nil {
			t.Error("unmounting ", image, ": ", err)
			_ = syscall.Unmount(at, syscall.MNT_DETACH)
		}
	})
	home := filepath.Join(at, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	d := homeAt(t, home)
	d.init()
	d.login()
	d.mount()

	content := func(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("file %08d\n", i)), 100<<10) } // 1.4 MB
	written := 0
	var full error
	for ; written < 400; written++ {
		if full = saveSynced(d.on(fmt.Sprint("f", written)), content(written)); full != nil {
			break
		}
	}
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatalf("after %d files: %v%s", written, full, d.log())
	}
	if written < 20 {
		t.Fatalf("only %d files fitted", written)
	}
	t.Logf("%d files of 1.4 MB fitted onto 256 MiB: %v", written, full)
	whole := func(when string, from int) {
		t.Helper()
		for i := from; i < written; i++ {
			if b, err := os.ReadFile(d.on(fmt.Sprint("f", i))); err != nil || !bytes.Equal(b, content(i)) {
				t.Fatalf("%s: file %d: %d bytes, %v", when, i, len(b), err)
			}
		}
	}
	whole("on the full disk", 0)
	var st unix.Statfs_t
	if err := unix.Statfs(d.mnt, &st); err != nil || int64(st.Bavail)*st.Bsize > 96<<20 {
		t.Errorf("statfs of a full drive: %+v, %v", st, err)
	}
	if n := d.metric("ipfscloud_store_full"); n != 1 {
		t.Errorf("the metric of a full disk is %g", n)
	}
	d.ok("sync") // there is room for commits

	if err := os.Rename(d.on("f0"), d.on("renamed")); err != nil {
		t.Error("rename on the full disk: ", err)
	}
	for i := range written / 2 {
		name := d.on(fmt.Sprint("f", i))
		if i == 0 {
			name = d.on("renamed")
		}
		if err := os.Remove(name); err != nil {
			t.Fatal("unlink on the full disk: ", err)
		}
	}
	// A commit or two later the blocks are gone from the node, too.
	eventually(t, "room for new files", func() bool {
		d.ok("sync")
		err := saveSynced(d.on("new"), content(written))
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		return err == nil
	})
	if n := d.metric("ipfscloud_store_full"); n != 0 {
		t.Errorf("the metric of a disk with room is %g", n)
	}
	d.umount()
	d.mount()
	whole("after a remount", written/2)
	if b, err := os.ReadFile(d.on("new")); err != nil || !bytes.Equal(b, content(written)) {
		t.Errorf("the new file: %d bytes, %v", len(b), err)
	}
	if alerts := d.status().Alerts; len(alerts) > 0 {
		t.Error("alerts: ", alerts)
	}
	d.umount()
}

// saveSynced writes a file and syncs it, as one who wants to know.
func saveSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
