package peercred

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const helper = "PEERCRED_TEST_DIAL"

// TestMain: the test's program is also the other user, who connects and says what came.
func TestMain(m *testing.M) {
	if where := os.Getenv(helper); where != "" {
		network, addr, _ := strings.Cut(where, " ")
		fmt.Println(dialed(network, addr))
		_, _ = io.Copy(io.Discard, os.Stdin) // the connection lasts until the test has looked
		return
	}
	os.Exit(m.Run())
}

func dialed(network, addr string) string {
	c, err := net.Dial(network, addr)
	if err != nil {
		return err.Error()
	}
	if network == "tcp" {
		return "connected " + c.LocalAddr().String() // c is open until the process ends
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "hello\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "no answer"
	}
	return strings.TrimSpace(line)
}

// as runs the helper as a user, and returns what it says; end ends it.
func as(t *testing.T, uid uint32, network, addr string) (said string, end func()) {
	t.Helper()
	// The test's program lies where others may not look.
	dir, err := os.MkdirTemp("", "peercred")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "helper"), b, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "helper"))
	cmd.Env = append(os.Environ(), helper+"="+network+" "+addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { in.Close(); _ = cmd.Wait() }
	t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), end
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
}

// echo answers each line of each connection.
func echo(t *testing.T, l net.Listener) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, line)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// Another user gets no answer, even where modes let them connect; the owner does.
func TestListenRefusesOthers(t *testing.T) {
	asRoot(t)
	dir, err := os.MkdirTemp("", "peercred") // its parents are open to all, unlike t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	if said, _ := as(t, 65534, "unix", path); strings.Contains(said, "hello") || !strings.Contains(said, "denied") {
		t.Errorf("as made: %s", said)
	}
	for p, mode := range map[string]fs.FileMode{dir: 0o777, path: 0o777} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	if said, _ := as(t, 65534, "unix", path); said != "no answer" {
		t.Errorf("with open modes: %s", said)
	}
	if said := dialed("unix", path); said != "hello" {
		t.Errorf("the owner: %s", said)
	}
}

func TestListenReplacesAndRemoves(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	for range 2 { // the second takes the place of the first, which nobody closed
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode() != fs.ModeSocket|SocketMode || l.Addr().String() != path {
			t.Errorf("%v %v %s", st, err, l.Addr())
		}
		defer l.Close()
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	_ = l.Close() // a second Close removes nothing of a successor
	next, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	_ = l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error("closed twice, it took the successor's socket: ", err)
	}
}
