package fuse

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// moreOperations are words of the tables for what goes through open files, links
// themselves, and deep directories.
func moreOperations() map[string]operation {
	return map[string]operation{
		"fsetxattr": func(r *run, a []string) (string, error) {
			return "", unix.Fsetxattr(r.fd(a[0]), a[1], []byte(a[2]), 0)
		},
		"fgetxattr": func(r *run, a []string) (string, error) {
			b := make([]byte, 4096)
			n, err := unix.Fgetxattr(r.fd(a[0]), a[1], b)
			return string(b[:max(n, 0)]), err
		},
		"lgetxattr": func(r *run, a []string) (string, error) {
			b := make([]byte, 4096)
			n, err := unix.Lgetxattr(r.path(a[0]), a[1], b)
			return string(b[:max(n, 0)]), err
		},
		"fremovexattr": func(r *run, a []string) (string, error) { return "", unix.Fremovexattr(r.fd(a[0]), a[1]) },
		"lremovexattr": func(r *run, a []string) (string, error) { return "", unix.Lremovexattr(r.path(a[0]), a[1]) },
		"flistxattr": func(r *run, a []string) (string, error) {
			b := make([]byte, 4096)
			n, err := unix.Flistxattr(r.fd(a[0]), b)
			return nameList(b[:max(n, 0)]), err
		},
		"llistxattr": func(r *run, a []string) (string, error) {
			b := make([]byte, 4096)
			n, err := unix.Llistxattr(r.path(a[0]), b)
			return nameList(b[:max(n, 0)]), err
		},
		"listxattrsize": func(r *run, a []string) (string, error) {
			n, err := unix.Listxattr(r.path(a[0]), make([]byte, number(a[1])))
			return fmt.Sprint(n), err
		},
		"clonerange": func(r *run, a []string) (string, error) {
			return "", unix.IoctlFileCloneRange(r.fd(a[2]), &unix.FileCloneRange{Src_fd: int64(r.fd(a[0])),
				Src_offset: uint64(number(a[1])), Src_length: uint64(number(a[4])), Dest_offset: uint64(number(a[3]))})
		},
		"dedupe":   opDedupe,
		"linkfd":   opLinkFD,
		"futimens": opFutimens,
		"maps":     opMaps,
		"statfs":   opStatfs,
		"deep":     opDeep,
		"climb":    opClimb,
	}
}

func nameList(b []byte) string {
	names := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	slices.Sort(names)
	return strings.Join(names, " ")
}

// opDedupe asks to share: FROM OFFSET TO OFFSET LENGTH.
func opDedupe(r *run, a []string) (string, error) {
	d := unix.FileDedupeRange{Src_offset: uint64(number(a[1])), Src_length: uint64(number(a[4])),
		Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(r.fd(a[2])), Dest_offset: uint64(number(a[3]))}}}
	if err := unix.IoctlFileDedupeRange(r.fd(a[0]), &d); err != nil {
		return "", err
	}
	if s := d.Info[0].Status; s < 0 {
		return "", unix.Errno(-s)
	}
	return fmt.Sprint(d.Info[0].Bytes_deduped), nil
}

// opLinkFD links an open file: NAME PATH.
func opLinkFD(r *run, a []string) (string, error) {
	return "", unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/thread-self/fd/", r.fd(a[0])), unix.AT_FDCWD, r.path(a[1]), unix.AT_SYMLINK_FOLLOW)
}

// opFutimens sets the times of an open file: NAME ATIME MTIME.
func opFutimens(r *run, a []string) (string, error) {
	ts := [2]unix.Timespec{timespec(a[1]), timespec(a[2])}
	if _, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(r.fd(a[0])), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0); e != 0 {
		return "", e
	}
	return "", nil
}

// opMaps reads the first bytes of a file through a mapping: PATH LENGTH.
func opMaps(r *run, a []string) (string, error) {
	fd, err := unix.Open(r.path(a[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b, err := unix.Mmap(fd, 0, int(number(a[1])), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return "", err
	}
	s := printable(b)
	return s, unix.Munmap(b)
}

// opStatfs compares what a file system says of itself: PATH NAME=VALUE...
func opStatfs(r *run, a []string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(r.path(a[0]), &st); err != nil {
		return "", err
	}
	for _, kv := range a[1:] {
		k, want, _ := strings.Cut(kv, "=")
		got, ok := map[string]int64{"namelen": st.Namelen, "bsize": st.Bsize}[k]
		if !ok || got != number(want) {
			return "", fmt.Errorf("%s is %d, want %s", k, got, want)
		}
	}
	return "", nil
}

// deepName is a name of 100 bytes: forty of them are more than a path may have.
func deepName(name string) string { return name + strings.Repeat("x", 100-len(name)) }

// opDeep makes directories in one another, deeper than a path may be, each with a file:
// NAME N. It leaves the working directory where it was.
func opDeep(_ *run, a []string) (string, error) {
	return "", inDepth(a, func(name string) error {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return err
		}
		fd, err := unix.Open("file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

// opClimb goes down what opDeep made, and then up again by "..".
func opClimb(_ *run, a []string) (string, error) {
	levels := 0
	err := inDepth(a, func(name string) error {
		levels++
		var st, up unix.Stat_t
		if err := unix.Lstat("file", &st); err != nil {
			return err
		}
		if err := unix.Lstat(name+"/..", &up); err != nil {
			return err
		}
		if err := unix.Lstat(".", &st); err != nil || st.Ino != up.Ino {
			return fmt.Errorf("at level %d .. is %d, not %d: %w", levels, up.Ino, st.Ino, err)
		}
		return nil
	})
	return "", err
}

// inDepth calls f in each of N directories, and goes into the next.
func inDepth(a []string, f func(name string) error) error {
	home, err := unix.Open(".", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	defer func() { _ = unix.Fchdir(home) }()
	name := deepName(a[0])
	for i := range number(a[1]) {
		if err := f(name); err != nil {
			return fmt.Errorf("level %d: %w", i, err)
		}
		if err := unix.Chdir(name); err != nil {
			return fmt.Errorf("into level %d: %w", i, err)
		}
	}
	return nil
}
