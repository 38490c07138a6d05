package fuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// anyPath draws a path of up to three short names.
func anyPath(rt *rapid.T, label string) string {
	names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	depth := rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3}).Draw(rt, "depth of "+label)
	parts := make([]string, depth)
	for i := range parts {
		parts[i] = names.Draw(rt, label)
	}
	return filepath.Join(parts...)
}

func anyUser(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"root", "root", "root", "a", "ab"}).Draw(rt, "user")
}

func anyMode(rt *rapid.T) uint32 {
	return rapid.SampledFrom([]uint32{0o644, 0o600, 0o666, 0o755, 0o777, 0o2775, 0o1777, 0o4755, 0o700, 0o444, 0o6755, 0o0}).Draw(rt, "mode")
}

func anySize(rt *rapid.T) int64 {
	return rapid.SampledFrom([]int64{0, 1, 10, 100, 2047, 2048, 2049, 4095, 4096, 4097, 10000, 65536, 100001, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20}).Draw(rt, "size")
}

func anyData(rt *rapid.T) []byte {
	n := rapid.SampledFrom([]int{1, 5, 100, 2000, 4096, 5000, 70000}).Draw(rt, "length")
	seed := rapid.Byte().Draw(rt, "byte")
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i*7) + byte(i>>8)
	}
	return b
}

func anyTime(rt *rapid.T) unix.Timespec {
	return unix.Timespec{Sec: rapid.Int64Range(0, 1400000000).Draw(rt, "seconds"), Nsec: rapid.Int64Range(0, 999999999).Draw(rt, "nanoseconds")}
}

// anyACL draws an ACL that is right, most of the time.
func anyACL(rt *rapid.T) string {
	perm := func(label string) string {
		return rapid.SampledFrom([]string{"rwx", "rw-", "r-x", "r--", "---", "-wx"}).Draw(rt, label)
	}
	entries := []string{"u::" + perm("owner")}
	named := false
	for _, who := range []string{"u:a", "u:b"} {
		if rapid.Bool().Draw(rt, who) {
			named = true
			entries = append(entries, who+":"+perm(who))
		}
	}
	entries = append(entries, "g::"+perm("group"))
	if rapid.Bool().Draw(rt, "g:b") {
		named = true
		entries = append(entries, "g:b:"+perm("g:b"))
	}
	if named != (rapid.IntRange(0, 9).Draw(rt, "mask") == 0) {
		entries = append(entries, "m::"+perm("mask"))
	}
	return strings.Join(append(entries, "o::"+perm("others")), ",")
}

// actions are what a sequence is made of.
func (w *twins) actions() map[string]func(*rapid.T) {
	path := func(name string, f func(rt *rapid.T) (string, func(path string) error)) func(*rapid.T) {
		return func(rt *rapid.T) {
			p, u := anyPath(rt, "path"), anyUser(rt)
			what, do := f(rt)
			w.both(rt, u, name+" "+p+" "+what, func(s *side) (string, error) { return "", do(filepath.Join(s.root, p)) })
		}
	}
	two := func(name string, do func(from, to string) error) func(*rapid.T) {
		return func(rt *rapid.T) {
			p, q, u := anyPath(rt, "path"), anyPath(rt, "other path"), anyUser(rt)
			w.both(rt, u, name+" "+p+" "+q, func(s *side) (string, error) {
				return "", do(filepath.Join(s.root, p), filepath.Join(s.root, q))
			})
		}
	}
	handle := func(name string, f func(rt *rapid.T) (string, func(fd int) (string, error))) func(*rapid.T) {
		return func(rt *rapid.T) {
			i := rapid.IntRange(0, slots-1).Draw(rt, "open file")
			if w.local.files[i] < 0 {
				rt.Skip("not open")
			}
			what, do := f(rt)
			w.both(rt, "root", fmt.Sprint(name, " of open file ", i, " ", what), func(s *side) (string, error) { return do(s.files[i]) })
		}
	}
	plain := func(do func(path string) error) func(rt *rapid.T) (string, func(string) error) {
		return func(*rapid.T) (string, func(string) error) { return "", do }
	}
	m := map[string]func(*rapid.T){
		"mkdir": path("mkdir", func(rt *rapid.T) (string, func(string) error) {
			mode := anyMode(rt)
			return fmt.Sprintf("%o", mode), func(p string) error { return unix.Mkdir(p, mode) }
		}),
		"mknod": path("mknod", func(rt *rapid.T) (string, func(string) error) {
			mode := anyMode(rt) | rapid.SampledFrom([]uint32{unix.S_IFIFO, unix.S_IFREG, unix.S_IFSOCK}).Draw(rt, "type")
			return fmt.Sprintf("%o", mode), func(p string) error { return unix.Mknod(p, mode, int(unix.Mkdev(5, 77))) }
		}),
		"rmdir":  path("rmdir", plain(unix.Rmdir)),
		"unlink": path("unlink", plain(unix.Unlink)),
		"chmod": path("chmod", func(rt *rapid.T) (string, func(string) error) {
			mode := anyMode(rt)
			return fmt.Sprintf("%o", mode), func(p string) error { return unix.Chmod(p, mode) }
		}),
		"chown": func(rt *rapid.T) {
			p, who := anyPath(rt, "path"), anyUser(rt)
			ids := rapid.SampledFrom([]int{-1, 0, 60001, 60002})
			u, g := ids.Draw(rt, "uid"), ids.Draw(rt, "gid")
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(w.local.root, p), &st); err == nil && u == -1 && g == -1 && who != "root" &&
				st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o6000 != 0 && st.Mode&0o022 != 0 {
				rt.Skip("a limit that fs/POSIX.md tells of")
			}
			w.both(rt, who, fmt.Sprint("lchown ", p, " ", u, " ", g), func(s *side) (string, error) {
				return "", unix.Lchown(filepath.Join(s.root, p), u, g)
			})
		},
		"truncate": path("truncate", func(rt *rapid.T) (string, func(string) error) {
			n := anySize(rt)
			return fmt.Sprint(n), func(p string) error { return unix.Truncate(p, n) }
		}),
		"utimens": path("utimens", func(rt *rapid.T) (string, func(string) error) {
			ts := []unix.Timespec{anyTime(rt), anyTime(rt)}
			return fmt.Sprint(ts), func(p string) error {
				return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
			}
		}),
		"setxattr": path("setxattr", func(rt *rapid.T) (string, func(string) error) {
			name := rapid.SampledFrom([]string{"user.x", "user.y", "trusted.z"}).Draw(rt, "name")
			value := rapid.SampledFrom([]string{"", "1", "value", strings.Repeat("long", 100)}).Draw(rt, "value")
			flags := rapid.SampledFrom([]int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}).Draw(rt, "flags")
			return fmt.Sprint(name, " ", value, flags), func(p string) error { return unix.Lsetxattr(p, name, []byte(value), flags) }
		}),
		"setacl": path("setacl", func(rt *rapid.T) (string, func(string) error) {
			kind := rapid.SampledFrom([]string{"access", "default"}).Draw(rt, "kind")
			acl := anyACL(rt)
			return kind + " " + acl, func(p string) error {
				b, err := encodeACL(acl)
				if err != nil {
					return err
				}
				return unix.Setxattr(p, "system.posix_acl_"+kind, b, 0)
			}
		}),
		"rmacl": path("rmacl", func(rt *rapid.T) (string, func(string) error) {
			kind := rapid.SampledFrom([]string{"access", "default"}).Draw(rt, "kind")
			return kind, func(p string) error { return unix.Removexattr(p, "system.posix_acl_"+kind) }
		}),
		"umask": func(rt *rapid.T) {
			mask := rapid.SampledFrom([]int{0, 0o22, 0o77, 0o227}).Draw(rt, "umask")
			for _, u := range []string{"root", "a", "ab"} {
				w.actors[u].do(func() { unix.Umask(mask) })
			}
		},
		"removexattr": path("removexattr", func(rt *rapid.T) (string, func(string) error) {
			name := rapid.SampledFrom([]string{"user.x", "user.y", "trusted.z"}).Draw(rt, "name")
			return name, func(p string) error { return unix.Lremovexattr(p, name) }
		}),
		"readdir": func(rt *rapid.T) {
			p, u := anyPath(rt, "path"), anyUser(rt)
			w.both(rt, u, "readdir "+p, func(s *side) (string, error) {
				es, err := os.ReadDir(filepath.Join(s.root, p))
				return fmt.Sprint(es), err
			})
		},
		"symlink": func(rt *rapid.T) {
			to, p, u := anyPath(rt, "target"), anyPath(rt, "path"), anyUser(rt)
			w.both(rt, u, "symlink "+to+" "+p, func(s *side) (string, error) { return "", unix.Symlink(to, filepath.Join(s.root, p)) })
		},
		"link":   two("link", unix.Link),
		"rename": two("rename", unix.Rename),
		"exchange": two("exchange", func(from, to string) error {
			return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
		}),
		"noreplace": two("rename without replacing", func(from, to string) error {
			return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		}),
		"put": func(rt *rapid.T) {
			p, u, b, mode := anyPath(rt, "path"), anyUser(rt), anyData(rt), anyMode(rt)
			flags := rapid.SampledFrom([]int{0, unix.O_TRUNC, unix.O_APPEND, unix.O_EXCL}).Draw(rt, "flags")
			w.both(rt, u, fmt.Sprintf("put %s %o flags %x %d bytes", p, mode, flags, len(b)), func(s *side) (string, error) {
				fd, err := unix.Open(filepath.Join(s.root, p), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW|flags, mode)
				if err != nil {
					return "", err
				}
				n, err := unix.Write(fd, b)
				return fmt.Sprint(n), errors.Join(err, unix.Close(fd))
			})
		},
		"open": func(rt *rapid.T) {
			i, p, u := rapid.IntRange(0, slots-1).Draw(rt, "slot"), anyPath(rt, "path"), anyUser(rt)
			flags := rapid.SampledFrom([]int{unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDONLY, unix.O_RDWR | unix.O_APPEND,
				unix.O_RDWR | unix.O_TRUNC}).Draw(rt, "flags")
			for _, s := range w.sides() {
				if s.files[i] >= 0 {
					unix.Close(s.files[i])
					s.files[i] = -1
				}
			}
			w.both(rt, u, fmt.Sprintf("open %s flags %x as %d", p, flags, i), func(s *side) (string, error) {
				fd, err := unix.Open(filepath.Join(s.root, p), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
				if err != nil {
					return "", err
				}
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR {
					unix.Close(fd)
					return "", err
				}
				s.files[i] = fd
				return "", nil
			})
		},
		"write": handle("write", func(rt *rapid.T) (string, func(int) (string, error)) {
			off, b := anySize(rt), anyData(rt)
			return fmt.Sprint(len(b), " bytes at ", off), func(fd int) (string, error) {
				n, err := unix.Pwrite(fd, b, off)
				return fmt.Sprint(n), err
			}
		}),
		"read": handle("read", func(rt *rapid.T) (string, func(int) (string, error)) {
			off, n := anySize(rt), rapid.SampledFrom([]int{1, 100, 5000, 1 << 20}).Draw(rt, "count")
			return fmt.Sprint(n, " bytes at ", off), func(fd int) (string, error) {
				b := make([]byte, n)
				n, err := unix.Pread(fd, b, off)
				return string(b[:max(n, 0)]), err
			}
		}),
		"ftruncate": handle("ftruncate", func(rt *rapid.T) (string, func(int) (string, error)) {
			n := anySize(rt)
			return fmt.Sprint(n), func(fd int) (string, error) { return "", unix.Ftruncate(fd, n) }
		}),
		"fallocate": handle("fallocate", func(rt *rapid.T) (string, func(int) (string, error)) {
			off, n := anySize(rt), anySize(rt)
			mode := rapid.SampledFrom([]uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
				unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}).Draw(rt, "mode")
			return fmt.Sprint(mode, " ", n, " at ", off), func(fd int) (string, error) { return "", unix.Fallocate(fd, mode, off, n) }
		}),
		"fchmod": handle("fchmod", func(rt *rapid.T) (string, func(int) (string, error)) {
			mode := anyMode(rt)
			return fmt.Sprintf("%o", mode), func(fd int) (string, error) { return "", unix.Fchmod(fd, mode) }
		}),
		"fsync": handle("fsync", func(*rapid.T) (string, func(int) (string, error)) {
			return "", func(fd int) (string, error) {
				err := unix.Fsync(fd)
				if errors.Is(err, unix.EINVAL) { // a fifo
					err = nil
				}
				return "", err
			}
		}),
		"copyrange": func(rt *rapid.T) {
			i, j := rapid.IntRange(0, slots-1).Draw(rt, "from"), rapid.IntRange(0, slots-1).Draw(rt, "to")
			if w.local.files[i] < 0 || w.local.files[j] < 0 {
				rt.Skip("not open")
			}
			from, to, n := anySize(rt), anySize(rt), anySize(rt)
			w.both(rt, "root", fmt.Sprint("copy ", n, " bytes at ", from, " of ", i, " to ", to, " of ", j), func(s *side) (string, error) {
				return copyWhole(s.files[i], from, s.files[j], to, n)
			})
		},
		"look": func(rt *rapid.T) { w.compare(rt, true) },
		"commit": func(rt *rapid.T) {
			w.commit(rt, true)
		},
	}
	rare := func(f func(*rapid.T)) func(*rapid.T) {
		return func(rt *rapid.T) {
			if rapid.IntRange(0, 5).Draw(rt, "whether") != 5 {
				rt.Skip("not now")
			}
			f(rt)
		}
	}
	m["remount"] = rare(func(rt *rapid.T) { w.restart(rt, false) })
	m["kill"] = func(rt *rapid.T) {
		if rapid.IntRange(0, 2).Draw(rt, "whether") != 2 {
			rt.Skip("not now")
		}
		if rapid.Bool().Draw(rt, "in a commit") {
			w.commit(rt, false)
		}
		w.restart(rt, true)
	}
	return m
}

// copyWhole goes on until all is copied: a file system may do less at once.
func copyWhole(from int, off int64, to int, toOff, n int64) (string, error) {
	total := 0
	for int64(total) < n {
		k, err := unix.CopyFileRange(from, &off, to, &toOff, int(n)-total, 0)
		if err != nil || k == 0 {
			return fmt.Sprint(total), err
		}
		total += k
	}
	return fmt.Sprint(total), nil
}
