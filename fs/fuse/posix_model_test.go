package fuse

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// soak says that the long runs are wanted.
func soak() bool { return os.Getenv("IPFSCLOUD_SOAK") != "" }

// rapidRuns sets how many sequences rapid tries, and how long.
func rapidRuns(t *testing.T, checks, steps int) {
	t.Helper()
	for name, value := range map[string]string{"rapid.checks": fmt.Sprint(checks), "rapid.steps": fmt.Sprint(steps),
		"rapid.nofailfile": "true"} {
		f := flag.Lookup(name)
		old := f.Value.String()
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(old) })
	}
}

// side is one of the two file systems that do the same.
type side struct {
	root  string // of this sequence
	files [slots]int
}

const slots = 4 // open files of a sequence

// twins drives the drive and a directory on the local disk with the same operations.
type twins struct {
	t      *testing.T
	base   string // of the daemon
	m      *mount
	drive  side
	local  side
	actors map[string]*actor
	n      int // sequences
}

func (w *twins) sides() [2]*side { return [2]*side{&w.drive, &w.local} }

// begin makes both directories of a new sequence.
func (w *twins) begin(rt *rapid.T, localBase string) {
	w.n++
	w.drive.root = filepath.Join(w.m.dir, fmt.Sprint("s", w.n))
	w.local.root = filepath.Join(localBase, fmt.Sprint("s", w.n))
	for _, s := range w.sides() {
		if err := os.Mkdir(s.root, 0o777); err != nil {
			rt.Fatal(err)
		}
		if err := os.Chmod(s.root, 0o777); err != nil {
			rt.Fatal(err)
		}
		for i := range s.files {
			s.files[i] = -1
		}
	}
}

func (w *twins) closeAll() {
	for _, s := range w.sides() {
		for i, fd := range s.files {
			if fd >= 0 {
				unix.Close(fd)
				s.files[i] = -1
			}
		}
	}
}

// both runs an operation on both sides as a user and compares what it returned.
func (w *twins) both(rt *rapid.T, user, what string, f func(s *side) (string, error)) {
	var res [2]string
	var errs [2]error
	for i, s := range w.sides() {
		w.actors[user].do(func() { res[i], errs[i] = f(s) })
	}
	no := func(err error) string {
		var e syscall.Errno
		if errors.As(err, &e) {
			return unix.ErrnoName(e)
		}
		return fmt.Sprint(err)
	}
	if no(errs[0]) != no(errs[1]) || res[0] != res[1] {
		rt.Fatalf("%s: %s: the drive says %s %s, the local disk %s %s", user, what, short(res[0]), no(errs[0]), short(res[1]), no(errs[1]))
	}
	rt.Logf("%s: %s: %s", user, what, no(errs[0]))
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q... (%d bytes)", s[:60], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// view is all that can be seen of a tree: a line for each name.
func view(root string, contents bool) (map[string]string, error) {
	out := map[string]string{}
	inodes := map[uint64]string{}
	var walk func(rel string) error
	walk = func(rel string) error {
		path := filepath.Join(root, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", rel, err)
		}
		first, ok := inodes[st.Ino]
		if !ok {
			first, inodes[st.Ino] = rel, rel
		}
		line := fmt.Sprintf("%s %o %d:%d links %d rdev %d first %s mtime %s", kindOf(st.Mode), st.Mode&0o7777, st.Uid, st.Gid,
			st.Nlink, st.Rdev, first, about(&st))
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += fmt.Sprint(" size ", st.Size)
			if contents {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				line += fmt.Sprintf(" content %x", b)
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d to %s", st.Size, to)
		}
		if k := st.Mode & unix.S_IFMT; k == unix.S_IFREG || k == unix.S_IFDIR {
			x, err := xattrsOf(path)
			if err != nil {
				return fmt.Errorf("attributes of %s: %w", rel, err)
			}
			line += x
		}
		out[rel] = line
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := walk(filepath.Join(rel, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk(".")
}

// about is the time of the last change as far as two file systems agree on it: to the
// nanosecond if it was set, else only that it is of now. A FIFO's changes with what is
// written to it on the local disk alone (fs/POSIX.md).
func about(st *unix.Stat_t) string {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFIFO:
		return "any"
	case st.Mtim.Sec < 1500000000:
		return fmt.Sprint(st.Mtim.Nano())
	}
	return "now"
}

func xattrsOf(path string) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.Trim(string(b[:n]), "\x00"), "\x00")
	sort.Strings(names)
	out := ""
	for _, name := range names {
		if name == "" {
			continue
		}
		v := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, v)
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf(" %s=%s", name, v[:n])
	}
	return out, nil
}

// compare wants both sides to look the same.
func (w *twins) compare(rt *rapid.T, contents bool) {
	var views [2]map[string]string
	for i, s := range w.sides() {
		v, err := view(s.root, contents)
		if err != nil {
			rt.Fatalf("looking at %s: %v", s.root, err)
		}
		views[i] = v
	}
	for name, line := range views[1] {
		if views[0][name] != line {
			rt.Fatalf("%s is on the drive\n%s, on the local disk\n%s", name, limit(views[0][name]), limit(line))
		}
	}
	for name, line := range views[0] {
		if _, ok := views[1][name]; !ok {
			rt.Fatalf("%s is on the drive alone: %s", name, limit(line))
		}
	}
	for i := range slots {
		var lines [2]string
		for j, s := range w.sides() {
			if s.files[i] < 0 {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(s.files[i], &st); err != nil {
				rt.Fatalf("fstat of open file %d: %v", i, err)
			}
			lines[j] = fmt.Sprintf("%o %d:%d links %d mtime %s", st.Mode, st.Uid, st.Gid, st.Nlink, about(&st))
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				lines[j] += fmt.Sprint(" size ", st.Size)
			}
		}
		if lines[0] != lines[1] {
			rt.Fatalf("open file %d is on the drive\n%s, on the local disk\n%s", i, lines[0], lines[1])
		}
	}
}

func limit(s string) string { return s[:min(len(s), 400)] }

// restart ends the daemon, by a kill or as it should be, and starts it again.
func (w *twins) restart(rt *rapid.T, kill bool) {
	w.closeAll()
	if kill {
		w.m.kill()
	} else {
		w.m.stop()
	}
	w.m = startKept(w.t, w.base, modelOptions)
	rt.Logf("the daemon was restarted, kill %v", kill)
	w.compare(rt, true)
}

const modelOptions = "allow_other,acl"

// commit asks the daemon to commit, and waits if it should.
func (w *twins) commit(rt *rapid.T, wait bool) {
	if err := w.m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		rt.Fatal(err)
	}
	if !wait {
		return
	}
	if line, err := w.m.out.next(); err != nil || line != "committed" {
		rt.Fatalf("the daemon says %q, %v", line, err)
	}
}

// TestAgainstLocalDisk drives the mount and a directory of an ext4 with the same random
// operations and compares all that can be seen after each, with remounts and kills of the
// daemon in between: what returned before a kill is there after it.
func TestAgainstLocalDisk(t *testing.T) {
	needRoot(t)
	g := local(t)
	base := t.TempDir()
	openWay(t, base)
	checks, steps := 60, 80
	if testing.Short() {
		checks = 20
	}
	if soak() {
		checks, steps = 2000, 150
	}
	rapidRuns(t, checks, steps)
	w := &twins{t: t, base: base, m: startKept(t, base, modelOptions), actors: map[string]*actor{}}
	for _, u := range []string{"root", "a", "ab"} {
		w.actors[u] = g.actor(u)
	}
	rapid.Check(t, func(rt *rapid.T) {
		w.begin(rt, g.dir)
		for _, a := range w.actors {
			a.do(func() { unix.Umask(0) })
		}
		defer w.closeAll()
		actions := w.actions()
		actions[""] = func(rt *rapid.T) { w.compare(rt, false) }
		rt.Repeat(actions)
		w.compare(rt, true)
		w.closeAll()
		for _, s := range w.sides() {
			if err := os.RemoveAll(s.root); err != nil {
				rt.Fatalf("removing: %v", err)
			}
		}
	})
	w.m.stop()
}

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
