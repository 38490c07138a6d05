package fuse

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loaded asks the daemon how many inodes it has in memory, how many bytes they take, and
// whether the kernel may be asked for directories.
func (m *mount) loaded() (inodes, bytes int64, dirs bool) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGWINCH); err != nil {
		m.t.Fatal(err)
	}
	line, err := m.out.next()
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "loaded %d %d %t", &inodes, &bytes, &dirs); err != nil {
		m.t.Fatal(line, err)
	}
	return inodes, bytes, dirs
}

func (m *mount) commit() {
	m.t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		m.t.Fatal(err)
	}
	if line, err := m.out.next(); err != nil || line != "committed" {
		m.t.Fatal(line, err)
	}
}

// workIn starts a process that works in a directory. goOn lets it run a script there, and
// returns what that says when the process has left the directory.
func workIn(t *testing.T, dir, script string) (goOn func() string) {
	t.Helper()
	worker := exec.Command("sh", "-ec", "echo here; read go; "+script)
	worker.Dir = dir
	in, err := worker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = worker.Process.Kill(); _ = worker.Wait() })
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); err != nil || line != "here\n" {
		t.Fatal(line, err)
	}
	return func() string {
		t.Helper()
		if _, err := io.WriteString(in, "go\n"); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Wait(); err != nil {
			t.Fatal(err, string(said))
		}
		return string(said)
	}
}

// The kernel gives back what nobody uses when inodes take more memory than they may. Who has
// a file open, or works in a directory, does not notice.
func TestForget(t *testing.T) {
	const limit, dirs, files = 4 << 20, 20, 500
	forget := func(t *testing.T, options string) {
		t.Setenv(memoryEnv, fmt.Sprint(limit))
		m := mountTree(t, options)
		for d := range dirs {
			dir := filepath.Join(m.dir, fmt.Sprint("dir", d))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range files {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte(dir), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		m.commit()
		where := filepath.Join(m.dir, "dir0")
		held, err := os.OpenFile(filepath.Join(where, "file0"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		var before unix.Stat_t
		if err := unix.Fstat(int(held.Fd()), &before); err != nil {
			t.Fatal(err)
		}
		goOn := workIn(t, where, "/bin/pwd -P; cat file1; echo; ls | wc -l")

		// All have been looked up: far more than the limit allows.
		deadline := time.Now().Add(30 * time.Second)
		for most := int64(0); ; {
			for d := range dirs {
				if _, err := os.Stat(filepath.Join(m.dir, fmt.Sprint("dir", d), "file7")); err != nil {
					t.Fatal(err)
				}
			}
			n, bytes, _ := m.loaded()
			most = max(most, n)
			if bytes <= limit/4 && n < dirs*files/2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d inodes of %d take %d bytes, the limit is %d; there were %d", n, dirs*files, bytes, limit, most)
			}
		}

		if _, err := held.WriteAt([]byte("written"), 0); err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(held.Name())
		if want := "written" + where[len("written"):]; err != nil || string(now) != want {
			t.Fatalf("%q by its name, not %q: %v", now, want, err)
		}
		var after unix.Stat_t
		if err := unix.Stat(held.Name(), &after); err != nil || after.Ino != before.Ino {
			t.Fatalf("inode %d was %d: %v", after.Ino, before.Ino, err)
		}
		if said, want := goOn(), fmt.Sprintf("%s\n%s\n%d\n", where, where, files); said != want {
			t.Fatalf("who works in the directory says %q, not %q", said, want)
		}
		for d := range dirs {
			dir := filepath.Join(m.dir, fmt.Sprint("dir", d))
			if b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("file", files-1))); err != nil || !strings.HasPrefix(string(b), dir) {
				t.Fatal(string(b), err)
			}
		}
		_ = held.Close()
		m.stop()
	}
	eachLoop(t, forget, LoopOwn, LoopRing, LoopGoFuse)
	t.Run("old kernel", func(t *testing.T) {
		t.Setenv(noPruneEnv, "1")
		forget(t, "")
	})
}

// A tree of directories alone stays within the limit too, and who works in one of them keeps
// it.
func TestForgetDirectories(t *testing.T) {
	const limit, dirs = 4 << 20, 6000
	t.Setenv(memoryEnv, fmt.Sprint(limit))
	m := mountTree(t, "")
	for i := range dirs {
		if err := os.Mkdir(filepath.Join(m.dir, fmt.Sprint("dir", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()
	where := filepath.Join(m.dir, "dir0")
	goOn := workIn(t, where, "/bin/pwd -P; mkdir below; ls")
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		if _, err := os.Stat(filepath.Join(m.dir, fmt.Sprint("dir", i%dirs))); err != nil {
			t.Fatal(err)
		}
		n, bytes, can := m.loaded()
		if !can {
			t.Skip("this kernel cannot be asked for directories: it would forget those in use")
		}
		if bytes <= limit/4 && n < dirs/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes of %d take %d bytes, the limit is %d", n, dirs, bytes, limit)
		}
	}
	if said, want := goOn(), where+"\nbelow\n"; said != want {
		t.Fatalf("who works in the directory says %q, not %q", said, want)
	}
	if _, err := os.Stat(filepath.Join(where, "below")); err != nil {
		t.Fatal(err)
	}
	m.stop()
}

// Files of several names are given back too.
func TestForgetHardLinks(t *testing.T) {
	const limit, files = 4 << 20, 5000
	t.Setenv(memoryEnv, fmt.Sprint(limit))
	m := mountTree(t, "")
	name := func(i int, which string) string { return filepath.Join(m.dir, fmt.Sprint(which, i)) }
	for i := range files {
		if err := os.WriteFile(name(i, "one"), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(name(i, "one"), name(i, "two")); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		if _, err := os.Stat(name(i%files, "one")); err != nil {
			t.Fatal(err)
		}
		n, bytes, can := m.loaded()
		if !can {
			t.Skip("this kernel forgets single names only, and these have several")
		}
		if bytes <= limit/4 && n < files/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes of %d take %d bytes, the limit is %d", n, files, bytes, limit)
		}
	}
	for i := range files {
		if b, err := os.ReadFile(name(i, "two")); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("file %d has %q: %v", i, b, err)
		}
	}
	m.stop()
}
