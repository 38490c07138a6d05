package fuse

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWherePOSIXEnds holds what fs/POSIX.md says of the limits against the real mount. A
// line here that fails is a line there that is not true any more.
func TestWherePOSIXEnds(t *testing.T) {
	needRoot(t)
	m := mountTree(t, "allow_other")
	on := func(name string) string { return filepath.Join(m.dir, name) }
	f, err := os.Create(on("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	is := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	ioctl := func(request uintptr) error {
		_, err := unix.IoctlGetInt(fd, uint(request))
		return err
	}

	// Refused.
	_, err = unix.Open(m.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	is("O_TMPFILE", err, unix.EOPNOTSUPP)
	is("FS_IOC_GETFLAGS", ioctl(unix.FS_IOC_GETFLAGS), unix.ENOTTY)
	is("FALLOC_FL_COLLAPSE_RANGE", unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), unix.EOPNOTSUPP)
	is("FALLOC_FL_INSERT_RANGE", unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 0, 4096), unix.EOPNOTSUPP)
	is("file capabilities", unix.Setxattr(on("file"), "security.capability", []byte{1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0), unix.EOPNOTSUPP)
	is("the state of a file is not set", unix.Setxattr(on("file"), "user.ipfscloud.state", []byte("x"), 0), unix.EPERM)
	_, err = unix.Preadv2(fd, [][]byte{make([]byte, 4)}, 0, unix.RWF_NOWAIT)
	is("RWF_NOWAIT", err, unix.EOPNOTSUPP)
	is("trimming", runs("fstrim", m.dir), errFailed)
	is("freezing", runs("fsfreeze", "-f", m.dir), errFailed)

	// Devices and setuid are stored, not honoured.
	if err := unix.Mknod(on("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Error(err)
	}
	_, err = unix.Open(on("null"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	is("opening a device", err, unix.EACCES)
	var st unix.Statfs_t
	if err := unix.Statfs(m.dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 || st.Namelen != 255 || st.Bsize != 4096 {
		t.Errorf("statfs: %+v", st)
	}

	// Limits.
	is("the largest file", unix.Ftruncate(fd, 1<<62-1), nil)
	is("a larger file", unix.Ftruncate(fd, 1<<62), unix.EFBIG)
	is("a name of 256 bytes", unix.Mkdir(on(strings.Repeat("x", 256)), 0o755), unix.ENAMETOOLONG)
	is("the largest attributes", unix.Setxattr(on("file"), "user.x", make([]byte, 64<<10-len("user.x")), 0), nil)
	is("one byte more", unix.Setxattr(on("file"), "user.x", make([]byte, 64<<10-len("user.x")+1), 0), unix.ENOSPC)

	// Directories count their subdirectories.
	var d unix.Stat_t
	if err := errors.Join(os.MkdirAll(on("dir/a/b"), 0o755), os.Mkdir(on("dir/c"), 0o755), unix.Stat(on("dir"), &d)); err != nil {
		t.Fatal(err)
	}
	if d.Nlink != 4 || d.Size < 4096 {
		t.Errorf("a directory with two others: %+v", d)
	}

	// Times.
	for want, sec := range map[string]int64{"9223372036.854775807": 1 << 40, "-9223372037.145224192": -1 << 40} {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, on("dir"), []unix.Timespec{{Sec: sec}, {Sec: sec}}, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(on("dir"), &d); err != nil || fmt.Sprintf("%d.%d", d.Mtim.Sec, d.Mtim.Nsec) != want {
			t.Errorf("a time of %d s is kept as %d.%d, %v", sec, d.Mtim.Sec, d.Mtim.Nsec, err)
		}
	}

	// Leases are local, as locks are.
	if err := os.WriteFile(on("leased"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	leased, err := os.Open(on("leased"))
	if err != nil {
		t.Fatal(err)
	}
	defer leased.Close()
	_, err = unix.FcntlInt(leased.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	is("a lease", err, nil)
	if err == nil {
		_, err = unix.FcntlInt(leased.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		is("giving up a lease", err, nil)
	}

	// Handles lead to what is in use; NFS would need them to outlive that.
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, on("file"), 0)
	is("name_to_handle_at", err, nil)
	gone, _, err := unix.NameToHandleAt(unix.AT_FDCWD, on("dir/a/b"), 0)
	is("name_to_handle_at", err, nil)
	root, err := unix.Open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	x, err := unix.OpenByHandleAt(root, h, unix.O_RDONLY|unix.O_CLOEXEC)
	if is("open_by_handle_at", err, nil); err == nil {
		unix.Close(x)
	}
	if err := os.RemoveAll(on("dir/a")); err != nil {
		t.Fatal(err)
	}
	_, err = unix.OpenByHandleAt(root, gone, unix.O_RDONLY|unix.O_CLOEXEC)
	is("open_by_handle_at of what is gone", err, unix.ESTALE)

	// Where a file's newest version is can be asked for, and is in no list.
	b := make([]byte, 64)
	if n, err := unix.Getxattr(on("leased"), "user.ipfscloud.state", b); err != nil || string(b[:max(n, 0)]) != "journal" {
		t.Errorf("the state of a new file: %q, %v", b[:max(n, 0)], err)
	}
	if n, err := unix.Listxattr(on("leased"), b); n != 0 || err != nil {
		t.Errorf("the attributes of a new file: %q, %v", b[:max(n, 0)], err)
	}
}

var errFailed = errors.New("it failed")

// runs runs a program, which has to be there.
func runs(program string, args ...string) error {
	err := exec.Command(program, args...).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errFailed
	}
	return err
}
