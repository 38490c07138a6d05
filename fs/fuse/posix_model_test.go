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
