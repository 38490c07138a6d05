package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testAgent serves a session until the test ends. The returned channel carries Serve's
// result.
func testAgent(t *testing.T) (string, *Identity, context.CancelFunc, <-chan error) {
	t.Helper()
	dir, id := testIdentity(t, nil)
	s, err := Login(testContext(t), dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	a, err := Listen(path, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		done <- a.Serve(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the agent does not end")
		}
	})
	return path, id, cancel, done
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

func waitErr(t *testing.T, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("waited in vain for the agent's end")
		return nil
	}
}

func TestAgent(t *testing.T) {
	ctx := testContext(t)
	path, id, _, done := testAgent(t)
	for p, want := range map[string]os.FileMode{path: 0o600 | os.ModeSocket, filepath.Dir(path): 0o700 | os.ModeDir} {
		if st, err := os.Stat(p); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", p, st.Mode(), err)
		}
	}
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	testIdentityMethods(t, c, id)
	who, err := c.WhoAmI(ctx)
	if err != nil || who.DID != id.DID || who.PID != os.Getpid() || len(who.Holders) != 0 || !who.PhrasePending {
		t.Errorf("%+v, %v", who, err)
	}
	if err := c.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after logout the socket is there: %v", err)
	}
	if err := waitErr(t, done); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := c.Sign(ctx, []byte("ipfscloud/v1/x\x00")); !errors.Is(err, ErrNoSession) {
		t.Errorf("after logout: %v", err)
	}
	if _, err := Dial(ctx, path); !errors.Is(err, ErrNoSession) {
		t.Errorf("dial after logout: %v", err)
	}
	if err := c.Logout(ctx); !errors.Is(err, ErrNoSession) {
		t.Errorf("second logout: %v", err)
	}
}

func TestAgentEndsWithContext(t *testing.T) {
	ctx := testContext(t)
	path, _, cancel, done := testAgent(t)
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Hold(ctx, "mount /x")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := waitErr(t, done); err != nil {
		t.Errorf("Serve: %v", err)
	}
	wait(t, "the lost hold", h.Lost())
	if err := h.Release(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(ctx, path); !errors.Is(err, ErrNoSession) {
		t.Errorf("dial: %v", err)
	}
}

func TestAgentHold(t *testing.T) {
	ctx := testContext(t)
	path, _, _, done := testAgent(t)
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", strings.Repeat("x", holderName+1)} {
		if _, err := c.Hold(ctx, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("holder of %d bytes: %v", len(bad), err)
		}
	}
	one, err := c.Hold(ctx, "mount /one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.Hold(ctx, "mount /two")
	if err != nil {
		t.Fatal(err)
	}
	if who, err := c.WhoAmI(ctx); err != nil || fmt.Sprint(who.Holders) != "[mount /one mount /two]" {
		t.Errorf("%+v, %v", who, err)
	}
	if err := c.Logout(ctx); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "mount /") {
		t.Errorf("logout while held: %v", err)
	}
	if err := one.Release(); err != nil {
		t.Error(err)
	}
	if err := one.Release(); err != nil {
		t.Error(err)
	}
	wait(t, "the end of a hold", one.Lost())
	if err := c.Logout(ctx); !errors.Is(err, ErrHeld) {
		t.Errorf("logout while held once: %v", err)
	}
	select {
	case <-two.Lost():
		t.Error("the refused logout ended a hold")
	default:
	}
	if err := two.Release(); err != nil {
		t.Error(err)
	}
	// The agent sees the end of a connection a little later.
	for c.Logout(ctx) != nil {
		if ctx.Err() != nil {
			t.Fatal("still held after the last release")
		}
		runtime.Gosched()
	}
	if err := waitErr(t, done); err != nil {
		t.Error(err)
	}
}

func TestAgentSecond(t *testing.T) {
	ctx := testContext(t)
	path, id, _, _ := testAgent(t)
	s := testSession(t)
	if _, err := Listen(path, s); !errors.Is(err, ErrBusy) {
		t.Errorf("second agent: %v", err)
	}
	if _, err := s.Recipients(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("the refused agent's session lives on: %v", err)
	}
	if c, err := Dial(ctx, path); err != nil || c.DID() != id.DID {
		t.Errorf("the first agent suffered: %v", err)
	}
}

// Another identity behind the same socket is not the session a client dialled.
func TestAgentExchanged(t *testing.T) {
	ctx := testContext(t)
	path, _, cancel, done := testAgent(t)
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := waitErr(t, done); err != nil {
		t.Fatal(err)
	}
	a, err := Listen(path, testSession(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx2, cancel2 := context.WithCancel(ctx)
	end := make(chan error, 1)
	go func() { end <- a.Serve(ctx2) }()
	defer func() { cancel2(); waitErr(t, end) }()
	if _, err := c.Sign(ctx, []byte("ipfscloud/v1/x\x00")); !errors.Is(err, ErrNoSession) {
		t.Errorf("signed by another identity: %v", err)
	}
	if err := c.Logout(ctx); !errors.Is(err, ErrNoSession) {
		t.Errorf("logged another identity out: %v", err)
	}
}

// After kill -9 the socket and the lock file remain; the next agent takes them over.
func TestAgentAfterKill(t *testing.T) {
	if child := os.Getenv("AUTH_TEST_CHILD"); child != "" {
		dir, path, _ := strings.Cut(child, "\n")
		if err := HardenProcess(); err != nil {
			t.Fatal(err)
		}
		s, err := Login(testContext(t), dir, []byte("open sesame"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := Listen(path, s)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("listening")
		t.Fatal(a.Serve(context.Background()))
	}
	ctx := testContext(t)
	dir, id := testIdentity(t, nil)
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestAgentAfterKill$")
	cmd.Env = append(os.Environ(), "AUTH_TEST_CHILD="+dir+"\n"+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line := make([]byte, len("listening")); true {
		if _, err := io.ReadFull(out, line); err != nil || string(line) != "listening" {
			t.Fatalf("child says %q, %v", line, err)
		}
	}
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Hold(ctx, "mount /x")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	wait(t, "the hold of a killed agent", h.Lost())
	if err := h.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the killed agent left no socket: %v", err)
	}
	if _, err := Dial(ctx, path); !errors.Is(err, ErrNoSession) {
		t.Errorf("dial to a dead socket: %v", err)
	}
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	serveCtx, cancel := context.WithCancel(ctx)
	a, err := Listen(path, s)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- a.Serve(serveCtx) }()
	defer func() { cancel(); waitErr(t, end) }()
	if c, err := Dial(ctx, path); err != nil || c.DID() != id.DID {
		t.Errorf("the new agent: %v", err)
	}
}

func TestAgentDirectory(t *testing.T) {
	for _, mode := range []os.FileMode{0o755, 0o770, 0o711} {
		dir := filepath.Join(t.TempDir(), "run")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(filepath.Join(dir, "agent.sock"), testSession(t)); !errors.Is(err, ErrInvalid) {
			t.Errorf("directory of mode %o: %v", mode, err)
		}
	}
}

func TestAgentLongPath(t *testing.T) {
	ctx := testContext(t)
	path := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "run", "agent.sock")
	if len(path) <= sunPathMax {
		t.Fatal("not long")
	}
	a, err := Listen(path, testSession(t))
	if err != nil {
		t.Fatal(err)
	}
	serveCtx, cancel := context.WithCancel(ctx)
	end := make(chan error, 1)
	go func() { end <- a.Serve(serveCtx) }()
	if _, err := Dial(ctx, path); err != nil {
		t.Error(err)
	}
	cancel()
	if err := waitErr(t, end); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// Other users get no answer, even where the modes of directory and socket let them in.
func TestAgentPeerCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can connect as another user")
	}
	ctx := testContext(t)
	path, _, _, _ := testAgent(t)
	for _, p := range []string{filepath.Dir(filepath.Dir(filepath.Dir(path))), filepath.Dir(filepath.Dir(path)), filepath.Dir(path), path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error, 1)
	go func() {
		// This thread alone becomes nobody, and ends with the goroutine. Raw calls: the
		// poller's dialling could happen on another thread.
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			result <- fmt.Errorf("setresuid: %w", e)
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			result <- err
			return
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			result <- fmt.Errorf("connect: %w", err)
			return
		}
		var msg []byte
		body := []byte(`{"op":"whoami"}`)
		msg = append(binary.BigEndian.AppendUint32(msg, uint32(len(body))), body...)
		if _, err := unix.Write(fd, msg); err != nil && !errors.Is(err, unix.EPIPE) {
			result <- fmt.Errorf("write: %w", err)
			return
		}
		n, err := unix.Read(fd, make([]byte, 10))
		if n > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
			result <- fmt.Errorf("the agent answered another user: %d bytes, %w", n, err)
			return
		}
		result <- nil
	}()
	if err := waitErr(t, result); err != nil {
		t.Error(err)
	}
	if _, err := Dial(ctx, path); err != nil {
		t.Errorf("the agent's own user: %v", err)
	}
}

func TestAgentBadRequests(t *testing.T) {
	ctx := testContext(t)
	path, _, _, _ := testAgent(t)
	send := func(b []byte) string {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	frame := func(s string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
	}
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"nothing":        {nil, ""},
		"half a length":  {[]byte{0, 0}, ""},
		"half a message": {[]byte{0, 0, 0, 9, '{'}, ""},
		"no JSON":        {frame("hello"), "invalid"},
		"huge":           {[]byte{0xff, 0xff, 0xff, 0xff}, "invalid"},
		"no operation":   {frame("{}"), "invalid"},
		"unknown":        {frame(`{"op":"export-keys"}`), "invalid"},
		"empty message":  {frame(``), "invalid"},
		"other identity": {frame(`{"op":"recipients","did":"did:key:z"}`), "no-session"},
	} {
		got := send(c.send)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: answer %q, want %q", name, got, c.want)
		}
	}
	if _, err := Dial(ctx, path); err != nil {
		t.Errorf("after bad requests: %v", err)
	}
}

func TestAgentManyClients(t *testing.T) {
	ctx := testContext(t)
	path, _, _, _ := testAgent(t)
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			msg := fmt.Appendf(nil, "ipfscloud/v1/test\x00%d", i)
			for range 10 {
				sig, err := c.Sign(ctx, msg)
				if err == nil {
					err = c.Verify(ctx, c.Device(), msg, sig)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A client does not wait longer than its context for an agent that hangs.
func TestClientDeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hung.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it never accepts; the kernel does
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c := &Client{path: path}
	ctx2, cancel2 := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel2()
	if _, err := c.Hold(ctx2, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
