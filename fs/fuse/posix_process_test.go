package fuse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// neighbour is another process that does what it is told, line by line: a Python script
// that answers each line with one.
type neighbour struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newNeighbour(t *testing.T, script string, args ...string) *neighbour {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3: ", err)
	}
	n := &neighbour{t: t, cmd: exec.Command("python3", append([]string{"-c", script}, args...)...)}
	n.cmd.Stderr = stderr(t)
	in, err := n.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.in, n.out = in, bufio.NewReader(out)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
	return n
}

func (n *neighbour) kill() {
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	}
}

// ask sends a line and wants an answer.
func (n *neighbour) ask(line, want string) {
	n.t.Helper()
	if _, err := fmt.Fprintln(n.in, line); err != nil {
		n.t.Fatal(err)
	}
	within(n.t, 30*time.Second, "an answer to "+line, func() error {
		got, err := n.out.ReadString('\n')
		if got = strings.TrimSpace(got); got != want {
			return fmt.Errorf("%q, want %q: %w", got, want, err)
		}
		return nil
	})
}

const lockScript = `
import fcntl, os, sys
f = open(sys.argv[1], 'r+')
for line in sys.stdin:
    how, start, size = line.split()
    try:
        fcntl.lockf(f, {'ex': fcntl.LOCK_EX | fcntl.LOCK_NB, 'sh': fcntl.LOCK_SH | fcntl.LOCK_NB, 'un': fcntl.LOCK_UN}[how], int(size), int(start))
        print('ok', flush=True)
    except OSError as e:
        print(e.strerror, flush=True)
`

// Locks of fcntl(2) are a process's: they shut others out, never the process itself, and
// end with it.
func TestLocksOfProcesses(t *testing.T) {
	both(t, func(t *testing.T, dir, kind string) {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		n := newNeighbour(t, lockScript, path)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := func(cmd int, kind int16, start, size int64) (unix.Flock_t, error) {
			l := unix.Flock_t{Type: kind, Start: start, Len: size}
			err := unix.FcntlFlock(f.Fd(), cmd, &l)
			return l, err
		}
		n.ask("ex 5 10", "ok")
		if _, err := lock(unix.F_SETLK, unix.F_WRLCK, 0, 5); err != nil {
			t.Errorf("before the other's lock: %v", err)
		}
		if _, err := lock(unix.F_SETLK, unix.F_RDLCK, 14, 1); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("within the other's lock: %v", err)
		}
		if l, err := lock(unix.F_GETLK, unix.F_RDLCK, 0, 0); err != nil || l.Type != unix.F_WRLCK || l.Start != 5 || l.Len != 10 || int(l.Pid) != n.cmd.Process.Pid {
			t.Errorf("the other's lock is %+v, %v; it is process %d", l, err, n.cmd.Process.Pid)
		}
		n.ask("ex 0 1", "Resource temporarily unavailable")
		n.ask("un 0 0", "ok")
		// A second open file of the same process is no other.
		if _, err := lock(unix.F_SETLK, unix.F_WRLCK, 0, 0); err != nil {
			t.Error(err)
		}
		again, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		l := unix.Flock_t{Type: unix.F_RDLCK}
		if err := unix.FcntlFlock(again.Fd(), unix.F_SETLK, &l); err != nil {
			t.Errorf("the process's own lock: %v", err)
		}
		again.Close() // and POSIX says that this gives up all its locks
		n.ask("ex 0 0", "ok")
		// Who waits gets the lock when its holder dies.
		got := make(chan error, 1)
		go func() {
			_, err := lock(unix.F_SETLKW, unix.F_WRLCK, 0, 0)
			got <- err
		}()
		select {
		case err := <-got:
			t.Fatalf("a lock that another process has: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		n.kill()
		within(t, 30*time.Second, "the lock of a dead process", func() error { return <-got })
	})
}

// flock(1) waits for its lock, and goes on when it is given up.
func TestFlockWaits(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("needs flock(1): ", err)
	}
	both(t, func(t *testing.T, dir, kind string) {
		path := filepath.Join(dir, "file")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command("flock", "-n", path, "true").Run(); err == nil {
			t.Error("another process has the lock too")
		}
		if err := exec.Command("flock", "-w", "0.1", path, "true").Run(); err == nil {
			t.Error("another process got the lock in time")
		}
		c := exec.Command("flock", path, "true")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		within(t, 30*time.Second, "the lock", c.Wait)
	})
}

const mapScript = `
import mmap, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
for line in sys.stdin:
    what, at, text = line.rstrip('\n').split(' ')
    at = int(at)
    if what == 'put':
        m[at:at+len(text)] = text.encode()
        print('ok', flush=True)
    else:
        print(m[at:at+int(text)].decode(), flush=True)
`

// What one process writes through a mapping others read at once, by read(2) and through
// mappings of their own, and the other way round.
func TestMappingsOfProcesses(t *testing.T) {
	both(t, func(t *testing.T, dir, kind string) {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, bytes.Repeat([]byte("."), 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		x, y := newNeighbour(t, mapScript, path), newNeighbour(t, mapScript, path)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, at := range []int64{0, 4090, 1<<20 - 2, 3<<20 - 5} {
			x.ask(fmt.Sprint("put ", at, " hello"), "ok")
			y.ask(fmt.Sprint("get ", at, " 5"), "hello")
			b := make([]byte, 5)
			if _, err := f.ReadAt(b, at); err != nil || string(b) != "hello" {
				t.Fatalf("read at %d: %q, %v", at, b, err)
			}
			if _, err := f.WriteAt([]byte("world"), at); err != nil {
				t.Fatal(err)
			}
			x.ask(fmt.Sprint("get ", at, " 5"), "world")
			y.ask(fmt.Sprint("get ", at, " 5"), "world")
		}
		// Without msync: the kernel writes back what a process that ended has changed.
		x.ask("put 7 after", "ok")
		x.kill()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := f.ReadAt(b, 7); err != nil || string(b) != "after" {
			t.Fatalf("after its death: %q, %v", b, err)
		}
	})
}

// aligned is memory that O_DIRECT takes everywhere.
func aligned(t *testing.T, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

// O_DIRECT goes past the page cache, and is never behind what was written through it.
func TestDirect(t *testing.T) {
	both(t, func(t *testing.T, dir, kind string) {
		path := filepath.Join(dir, "file")
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, unix.EINVAL) && kind == "local" {
			t.Skip("no O_DIRECT here")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := aligned(t, 64<<10)
		for round := range byte(5) {
			for i := range b {
				b[i] = byte(i>>8) + round
			}
			if n, err := unix.Pwrite(fd, b, 8192); n != len(b) || err != nil {
				t.Fatalf("direct: %d, %v", n, err)
			}
			got := make([]byte, len(b))
			if _, err := f.ReadAt(got, 8192); err != nil || !bytes.Equal(got, b) {
				t.Fatalf("round %d: through the page cache it is not what was written past it, %v", round, err)
			}
			copy(got, "through the cache")
			if _, err := f.WriteAt(got, 8192); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Pread(fd, b, 8192); n != len(b) || err != nil || !bytes.Equal(got, b) {
				t.Fatalf("round %d: past the page cache it is not what was written through it: %d, %v", round, n, err)
			}
		}
		if n, err := unix.Pread(fd, b, 8192+int64(len(b))); n != 0 || err != nil {
			t.Errorf("at the end: %d, %v", n, err)
		}
	})
}

// alike runs a shell script on the local disk and on the drive, and wants the same output.
func alike(t *testing.T, script string) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash: ", err)
	}
	run := func(dir string) (out string) {
		within(t, 2*time.Minute, "the script", func() error {
			c := exec.Command("bash", "-c", script)
			c.Dir = dir
			b, err := c.CombinedOutput()
			out = fmt.Sprintf("%s%v", b, err)
			return nil
		})
		return out
	}
	want := run(t.TempDir())
	got := run(mountTree(t, "").dir)
	t.Log(want)
	if got != want {
		t.Errorf("on the drive:\n%s\non the local disk:\n%s", got, want)
	}
}

// A program that runs cannot be written to, as far as the kernel sees to it; a limit of
// the size of files holds.
func TestRunningAndLimits(t *testing.T) {
	alike(t, `
cp "$(command -v sleep)" prog
./prog 100 & pid=$!
while ! grep -q prog /proc/$pid/comm; do :; done
echo x 2>/dev/null >> prog; echo "writing to what runs: $?"
mv prog moved; rm moved; echo "taking its name away: $?"
kill $pid; wait $pid 2>/dev/null
trap '' XFSZ
(ulimit -f 4; head -c 10000 /dev/zero > large 2>/dev/null; echo "more than the limit: $?"; stat -c %s large)
(ulimit -f 4; truncate -s 5000 cut 2>/dev/null; echo "truncation: $?"; stat -c %s cut)
`)
}

// Appends of many processes at once do not overwrite one another, and none is torn.
func TestAppendsOfProcesses(t *testing.T) {
	alike(t, `
for i in 1 2 3 4; do
	(for j in $(seq 150); do echo "process $i says $j, and some more so that it is longer than a few bytes"; done >> log) &
	(for j in $(seq 50); do echo "process $i opens for $j" >> log; done) &
done
wait
sort log | md5sum
wc -c < log
`)
}

// Many list a directory at once while others change it: each listing has each name that
// stays once.
func TestReaddirOfMany(t *testing.T) {
	both(t, func(t *testing.T, base, kind string) {
		dir := filepath.Join(base, "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		const stay = 400
		makeFiles(t, dir, "stay%04d", stay)
		stop := make(chan struct{})
		var changers, listers sync.WaitGroup
		errs := make(chan error, 16)
		for k := range 2 {
			changers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					name := filepath.Join(dir, fmt.Sprintf("%c-%d", "az"[k], i%30))
					err := os.WriteFile(name, nil, 0o600)
					if err == nil && i%3 == 0 {
						err = os.Remove(name)
					}
					if err != nil {
						errs <- err
						return
					}
				}
			})
		}
		for range 3 {
			listers.Go(func() {
				for range 40 {
					f, err := os.Open(dir)
					if err != nil {
						errs <- err
						return
					}
					seen := map[string]int{}
					for err == nil {
						var names []string
						names, err = f.Readdirnames(37)
						for _, n := range names {
							seen[n]++
						}
					}
					f.Close()
					for i := range stay {
						if name := fmt.Sprintf("stay%04d", i); seen[name] != 1 {
							errs <- fmt.Errorf("%s is listed %d times", name, seen[name])
							return
						}
					}
				}
			})
		}
		listers.Wait()
		close(stop)
		changers.Wait()
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	})
}
