package fuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// statxOf is all that statx(2) tells of an inode, to the nanosecond.
func statxOf(path string) (string, error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return "", err
	}
	if x.Mask&unix.STATX_BTIME == 0 {
		return "", errors.New("no time of birth")
	}
	attrs, err := xattrsOf(path)
	return fmt.Sprintf("ino %d mode %o links %d %d:%d size %d blocks %d dev %d:%d atime %d.%d mtime %d.%d ctime %d.%d btime %d.%d%s", x.Ino, x.Mode, x.Nlink,
		x.Uid, x.Gid, x.Size, x.Blocks, x.Rdev_major, x.Rdev_minor, x.Atime.Sec, x.Atime.Nsec, x.Mtime.Sec, x.Mtime.Nsec,
		x.Ctime.Sec, x.Ctime.Nsec, x.Btime.Sec, x.Btime.Nsec, attrs), err
}

// Everything that can be seen of an inode is the same after a commit, a remount and a kill:
// also its number, its time of birth, and the nanoseconds of all its times.
func TestAttributesLast(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	m := startKept(t, base, "acl")
	on := func(name string) string { return filepath.Join(m.dir, name) }
	acl, err := encodeACL("u::rw-,u:a:r--,g::---,m::r--,o::---")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(on("empty"), nil, 0o4755),
		os.WriteFile(on("small"), []byte("text"), 0o640),
		os.WriteFile(on("large"), make([]byte, 5<<20), 0o600),
		os.Mkdir(on("dir"), 0o2775), os.Mkdir(on("dir/sub"), 0o1777),
		os.Symlink("nowhere", on("link")),
		unix.Mkfifo(on("fifo"), 0o644),
		unix.Mknod(on("socket"), unix.S_IFSOCK|0o600, 0),
		unix.Mknod(on("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 65536))),
		unix.Mknod(on("char"), unix.S_IFCHR|0o600, int(unix.Mkdev(4095, 1048575))),
		os.Link(on("small"), on("dir/second")),
		os.Truncate(on("empty"), 1<<40), // sparse
		unix.Chmod(on("empty"), 0o6711), unix.Chmod(on("dir"), 0o2775), unix.Chmod(on("dir/sub"), 0o1777),
		unix.Lchown(on("link"), 60001, 4294967294),
		unix.Setxattr(on("small"), "user.name", []byte("value\x00\xff"), 0),
		unix.Setxattr(on("dir"), "trusted.name", nil, 0),
		unix.Setxattr(on("large"), "system.posix_acl_access", acl, 0),
		unix.UtimesNanoAt(unix.AT_FDCWD, on("small"), []unix.Timespec{{Sec: -5, Nsec: 123456789}, {Sec: 1 << 32, Nsec: 987654321}}, 0),
		unix.UtimesNanoAt(unix.AT_FDCWD, on("link"), []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: 2, Nsec: 999999999}}, unix.AT_SYMLINK_NOFOLLOW),
		os.Rename(on("fifo"), on("dir/fifo")),
	)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{".", "empty", "small", "large", "dir", "dir/sub", "dir/second", "dir/fifo", "link", "socket", "block", "char"}
	look := func(when string, want map[string]string) map[string]string {
		t.Helper()
		got := map[string]string{}
		for _, n := range names {
			s, err := statxOf(on(n))
			if err != nil {
				t.Fatalf("%s, %s: %v", when, n, err)
			}
			if got[n] = s; want != nil && want[n] != s {
				t.Errorf("%s, %s is\n%s, was\n%s", when, n, s, want[n])
			}
		}
		return got
	}
	was := look("at first", nil)
	m.kill()
	m = startKept(t, base, "acl")
	look("after a kill", was)
	if err := m.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if line, err := m.out.next(); err != nil || line != "committed" {
		t.Fatal(line, err)
	}
	look("after a commit", was)
	m.stop()
	m = startKept(t, base, "acl")
	look("after a remount", was)
	m.stop()
	m = startKept(t, base, "acl,ro")
	look("mounted read-only", was)
	m.stop()
}
