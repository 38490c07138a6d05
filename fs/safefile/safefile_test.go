package safefile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const nobody = 65534 // the other user of these tests

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("files of two users can only be made by root")
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// victim is a file of root's that nothing may happen to.
type victim struct {
	path string
	was  unix.Stat_t
}

const secret = "only root may read this\n"

func newVictim(t *testing.T) victim {
	t.Helper()
	v := victim{path: filepath.Join(t.TempDir(), "victim")}
	must(t, os.WriteFile(v.path, []byte(secret), 0o600), unix.Stat(v.path, &v.was))
	return v
}

func (v victim) check(t *testing.T) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(v.path, &st))
	b, err := os.ReadFile(v.path)
	must(t, err)
	if string(b) != secret || st.Mode != v.was.Mode || st.Uid != v.was.Uid || st.Gid != v.was.Gid || st.Mtim != v.was.Mtim {
		t.Errorf("the victim is %q with mode %o of %d now", b, st.Mode, st.Uid)
	}
}

func link(t *testing.T, target, path string, uid int) {
	t.Helper()
	must(t, os.Symlink(target, path), os.Lchown(path, uid, uid))
}

func wantUnsafe(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnsafe) {
		t.Errorf("%s: %v, want a refusal", what, err)
	}
}

// TestLinkAtTheEnd: a link in the place of a file is never followed, whoever made it.
func TestLinkAtTheEnd(t *testing.T) {
	v := newVictim(t)
	path := filepath.Join(t.TempDir(), "state")
	must(t, os.Symlink(v.path, path))
	_, err := Open(path)
	wantUnsafe(t, "Open", err)
	_, err = ReadFile(path)
	wantUnsafe(t, "ReadFile", err)
	for _, flag := range []int{os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, os.O_WRONLY | os.O_APPEND} {
		_, err = OpenFile(path, flag, 0o600)
		wantUnsafe(t, "OpenFile", err)
	}
	if _, err := CreateNew(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateNew through a link: %v", err)
	}
	_, err = Listen(path)
	wantUnsafe(t, "Listen", err)
	v.check(t)
	// A file that is written as a whole takes the place of the link.
	must(t, Replace(path, []byte("new")))
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != 0o600 {
		t.Errorf("after Replace: %v, %v", st, err)
	}
	v.check(t)
	// A link to where there is nothing makes nothing there.
	gone := filepath.Join(t.TempDir(), "gone")
	must(t, os.Remove(path), os.Symlink(gone, path))
	_, err = OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	wantUnsafe(t, "creating through a link", err)
	if _, err := CreateNew(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateNew through a dangling link: %v", err)
	}
	if _, err := os.Lstat(gone); err == nil {
		t.Error("a file was made where a link leads")
	}
}

// TestLinksOnTheWay: those of this user's are fine, those of another are not.
func TestLinksOnTheWay(t *testing.T) {
	needRoot(t)
	real, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(real, "f"), []byte("x"), 0o600))
	link(t, real, filepath.Join(dir, "mine"), 0)
	link(t, real, filepath.Join(dir, "theirs"), nobody)
	link(t, "mine", filepath.Join(dir, "twice"), 0)
	for _, ok := range []string{"mine", "twice"} {
		if b, err := ReadFile(filepath.Join(dir, ok, "f")); err != nil || string(b) != "x" {
			t.Errorf("%s: %q, %v", ok, b, err)
		}
	}
	before, err := os.Stat(real)
	must(t, err)
	theirs := filepath.Join(dir, "theirs")
	for what, err := range map[string]error{
		"ReadFile":    func() error { _, err := ReadFile(filepath.Join(theirs, "f")); return err }(),
		"CreateNew":   func() error { _, err := CreateNew(filepath.Join(theirs, "new")); return err }(),
		"Replace":     Replace(filepath.Join(theirs, "new"), nil),
		"MakeDir":     MakeDir(filepath.Join(theirs, "new")),
		"MakePrivate": MakePrivate(theirs), "CheckPrivate": CheckPrivate(theirs), "MakePublicDir": MakePublicDir(filepath.Join(theirs, "new")),
		"OpenDir":   func() error { _, err := OpenDir(theirs); return err }(),
		"OpenPlace": func() error { _, err := OpenPlace(theirs); return err }(),
		"Resolve":   func() error { _, err := Resolve(theirs); return err }(),
		"ReadNamed": func() error { _, err := ReadNamed(filepath.Join(theirs, "f"), 9); return err }(),
		"Listen":    func() error { _, err := Listen(filepath.Join(theirs, "s")); return err }(),
		"tree":      CheckTree(dir, 1),
	} {
		wantUnsafe(t, what, err)
	}
	after, err := os.Stat(real)
	must(t, err)
	if names, _ := os.ReadDir(real); len(names) != 1 || after.Mode() != before.Mode() {
		t.Errorf("the directory that the link leads to has %v, mode %v", names, after.Mode())
	}
	link(t, "loop", filepath.Join(dir, "loop"), 0)
	if _, err := ReadFile(filepath.Join(dir, "loop", "f")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
}

// TestForeign: what belongs to another user is refused, and so is what others can write.
func TestForeign(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file, sub := filepath.Join(dir, "file"), filepath.Join(dir, "sub")
	must(t, os.WriteFile(file, []byte("x"), 0o600), os.Chown(file, nobody, nobody), os.Mkdir(sub, 0o755), os.Chown(sub, nobody, nobody))
	_, err := OpenFile(file, os.O_RDWR|os.O_TRUNC, 0)
	wantUnsafe(t, "a file of another", err)
	if b, _ := os.ReadFile(file); string(b) != "x" {
		t.Error("what was refused was emptied")
	}
	if !strings.Contains(err.Error(), "setuid=") || !strings.Contains(err.Error(), "runuser -u") {
		t.Errorf("does not say what to do: %v", err)
	}
	wantUnsafe(t, "a directory of another", MakePrivate(sub))
	wantUnsafe(t, "below a directory of another", MakeDir(filepath.Join(sub, "x", "y")))
	must(t, os.Chown(file, 0, 0), os.Chmod(file, 0o602))
	_, err = Open(file)
	wantUnsafe(t, "a file that others can write", err)
	must(t, os.Chown(sub, 0, 0), os.Chmod(sub, 0o777))
	wantUnsafe(t, "a directory that others can write", MakePrivate(sub))
	_, err = OpenFile(filepath.Join(sub, "new"), os.O_WRONLY|os.O_CREATE, 0o600)
	wantUnsafe(t, "in a directory that others can write", err)
	must(t, os.Chmod(sub, 0o775), os.Chown(sub, 0, 12345))
	wantUnsafe(t, "a directory that a group can write", MakeDir(filepath.Join(sub, "x")))
	must(t, os.Chmod(sub, os.ModeSticky|0o777))
	must(t, MakeDir(filepath.Join(sub, "x"))) // as in /tmp
	// A person may write into a directory of somebody else.
	must(t, os.Chown(sub, nobody, nobody))
	f, err := CreateNew(filepath.Join(sub, "out"))
	must(t, err, f.Close())
}

// TestMakePrivate: made with 0700, and taken from others if it is ours; nothing else is changed.
func TestMakePrivate(t *testing.T) {
	base := t.TempDir()
	mode := func(path string) fs.FileMode {
		st, err := os.Stat(path)
		must(t, err)
		return st.Mode().Perm()
	}
	a := filepath.Join(base, "a")
	must(t, MakePrivate(filepath.Join(a, "b")))
	if mode(a) != 0o700 || mode(filepath.Join(a, "b")) != 0o700 {
		t.Error("made with", mode(a), mode(filepath.Join(a, "b")))
	}
	must(t, os.Chmod(a, 0o755), MakeDir(a))
	if mode(a) != 0o755 {
		t.Error("MakeDir changes a mode")
	}
	must(t, MakePrivate(a))
	if mode(a) != 0o700 {
		t.Error("left with", mode(a))
	}
	// Not where a link leads: that may be everybody's.
	must(t, os.Chmod(a, 0o755), os.Symlink(a, filepath.Join(base, "l")))
	wantUnsafe(t, "through a link", MakePrivate(filepath.Join(base, "l")))
	if mode(a) != 0o755 {
		t.Error("the mode was changed through a link")
	}
	must(t, os.Chmod(a, 0o700), MakePrivate(filepath.Join(base, "l")))
}

// TestNoWaiting: what stands in the place of a file lets nobody wait.
func TestNoWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(path, 0o600))
	done := make(chan error, 2)
	go func() { _, err := Open(path); done <- err }()
	go func() { _, err := OpenFile(path, os.O_WRONLY, 0); done <- err }()
	for range 2 {
		select {
		case err := <-done:
			wantUnsafe(t, "a FIFO", err)
		case <-time.After(10 * time.Second):
			t.Fatal("it waits at a FIFO")
		}
	}
}

// TestSecret: one that everybody can read is refused, one of this user's or of a pipe is not.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	for _, mode := range []os.FileMode{0o644, 0o604, 0o606, 0o602, 0o601} {
		must(t, os.WriteFile(pass, []byte("p"), 0o600), os.Chmod(pass, mode))
		_, err := ReadSecret(pass, 9)
		wantUnsafe(t, mode.String(), err)
		if err != nil && !strings.Contains(err.Error(), "chmod") {
			t.Errorf("does not say what to do: %v", err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400, 0o440, 0o640} {
		must(t, os.Chmod(pass, mode))
		if b, err := ReadSecret(pass, 9); err != nil || string(b) != "p" {
			t.Errorf("%v: %q, %v", mode, b, err)
		}
	}
	must(t, os.Symlink("pass", filepath.Join(dir, "link")))
	if b, err := ReadSecret(filepath.Join(dir, "link"), 9); err != nil || string(b) != "p" {
		t.Errorf("by a link of one's own: %q, %v", b, err)
	}
	if _, err := ReadSecret(pass, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	go func() { _ = os.WriteFile(fifo, []byte("q"), 0) }()
	if b, err := ReadSecret(fifo, 9); err != nil || string(b) != "q" {
		t.Errorf("from a FIFO: %q, %v", b, err)
	}
	if b, err := exec.Command("/proc/self/exe", "-test.run=^TestDescriptor$").Output(); err != nil {
		t.Errorf("from a descriptor: %s, %v", b, err)
	}
	if os.Geteuid() == 0 {
		must(t, os.Chown(pass, nobody, nobody))
		_, err := ReadSecret(pass, 9)
		wantUnsafe(t, "of another user", err)
	}
}

// TestDescriptor reads what a shell gives as <(…).
func TestDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	_, err = w.WriteString("given")
	must(t, err, w.Close())
	fd, err := unix.Dup(int(r.Fd()))
	must(t, err)
	must(t, unix.Dup3(fd, 63, 0))
	if b, err := ReadSecret("/dev/fd/63", 9); err != nil || string(b) != "given" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestIn: names below a directory lead nowhere else.
func TestIn(t *testing.T) {
	v := newVictim(t)
	base := t.TempDir()
	d, err := OpenDir(base)
	must(t, err)
	defer d.Close()
	must(t, MkdirIn(d, "ab"), MkdirIn(d, "ab"))
	f, err := OpenIn(d, "ab/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err, f.Close())
	if b, err := ReadIn(d, "ab/f"); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	must(t, os.Symlink(v.path, filepath.Join(base, "l")), os.Symlink(filepath.Dir(v.path), filepath.Join(base, "ld")))
	_, err = OpenIn(d, "l", os.O_RDWR, 0)
	wantUnsafe(t, "a link", err)
	if _, err = ReadIn(d, "ld/victim"); err == nil {
		t.Error("it goes through a link")
	}
	_, err = ReadIn(d, "../x")
	if err == nil {
		t.Error("it leads out of the directory")
	}
	if MkdirIn(d, "ld") == nil {
		t.Error("a link passes for a directory")
	}
	v.check(t)
}

// TestListen: nobody else can connect from the first moment on, and only a dead socket goes.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("long", 30))
	must(t, os.Mkdir(long, 0o700))
	for _, path := range []string{filepath.Join(dir, "s"), filepath.Join(long, "s")} {
		old := syscall.Umask(0)
		l, err := Listen(path)
		syscall.Umask(old)
		must(t, err)
		st, err := os.Lstat(path)
		must(t, err)
		if st.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("mode %v", st.Mode())
		}
		must(t, CheckSocket(path), l.Close())
		if _, err := os.Lstat(path); err != nil {
			t.Error("closing has removed the path")
		}
		l, err = Listen(path)
		must(t, err, l.Close())
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err := Listen(file)
	wantUnsafe(t, "a file in the place of the socket", err)
	if b, _ := os.ReadFile(file); string(b) != "x" {
		t.Error("the file is gone")
	}
}

// TestTree: what a library opens by names is looked at before.
func TestTree(t *testing.T) {
	v := newVictim(t)
	dir := filepath.Join(t.TempDir(), "repo")
	must(t, CheckTree(dir, 2)) // not there
	must(t, os.MkdirAll(filepath.Join(dir, "blocks", "AA"), 0o755), CheckTree(dir, 2))
	must(t, os.Symlink(filepath.Dir(v.path), filepath.Join(dir, "moved")), CheckTree(dir, 2)) // to a larger disk
	config := filepath.Join(dir, "blocks", "config")
	for _, target := range []string{v.path, "/does/not/exist"} {
		must(t, os.Symlink(target, config))
		wantUnsafe(t, "a link in the place of a file", CheckTree(dir, 2))
		must(t, os.Remove(config))
	}
	if os.Geteuid() == 0 {
		must(t, os.WriteFile(config, nil, 0o600), os.Chown(config, nobody, nobody))
		wantUnsafe(t, "a file of another", CheckTree(dir, 2))
	}
}

// TestResolve: as filepath.EvalSymlinks, for what is there.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Symlink("a", filepath.Join(dir, "l")), os.Symlink("../a/b", filepath.Join(dir, "a/up")),
		os.Symlink("/", filepath.Join(dir, "root")))
	for _, p := range []string{"a/b", "l/b", "a/up", "l/up", "root", "l/../a", "."} {
		p = filepath.Join(dir, p)
		want, err := filepath.EvalSymlinks(p)
		must(t, err)
		if got, err := Resolve(p); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", p, got, err, want)
		}
	}
	if got, err := Resolve("/"); err != nil || got != "/" {
		t.Errorf("/: %q, %v", got, err)
	}
	if _, err := Resolve(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

// TestOtherUser runs the tests again as a user who is not root.
func TestOtherUser(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/tmp", "safefile-user-")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chown(dir, nobody, nobody))
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestLinkAtTheEnd|TestMakePrivate|TestNoWaiting|TestIn|TestListen|TestTree|TestResolve)$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// TestOwnGroup: a home that the user's own group can write is the user's.
func TestOwnGroup(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o775), os.Chown(dir, 0, 0), MakeDir(filepath.Join(dir, "x")))
}
