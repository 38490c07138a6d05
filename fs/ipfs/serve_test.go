package ipfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// askAs sends a request to a unix socket as another user, and returns what came back.
func askAs(t *testing.T, uid int, socket, request string) string {
	t.Helper()
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// This thread alone becomes the other user, and ends with the goroutine. The calls
		// are raw, for the runtime's network poller could make them on another thread.
		runtime.LockOSThread()
		text, err := func() (string, error) {
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
				return "", e
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return "", err
			}
			f := os.NewFile(uintptr(fd), socket)
			defer f.Close()
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
				return "", err
			}
			if _, err := io.WriteString(f, request); err != nil && !errors.Is(err, unix.EPIPE) {
				return "", err
			}
			b, err := io.ReadAll(f)
			if errors.Is(err, unix.ECONNRESET) {
				err = nil
			}
			return string(b), err
		}()
		done <- result{text, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.text
}

// The RPC of the node can read, change and delete every block: it answers its owner and
// root alone, even where somebody has opened the modes.
func TestEmbeddedSocketRefusesOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as another user")
	}
	dir := shortDir(t)
	e := openTest(t, dir)
	socket := filepath.Join(dir, "api.sock")
	for p := dir; p != "/" && p != filepath.Clean(os.TempDir()); p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o777))
	}
	must(t, os.Chmod(socket, 0o777))
	const request = "POST /api/v0/id HTTP/1.0\r\nHost: ipfs\r\n\r\n"
	if got := askAs(t, 65534, socket, request); got != "" {
		t.Errorf("another user is answered: %q", got)
	}
	if got := askAs(t, 0, socket, request); !strings.HasPrefix(got, "HTTP/1.0 200") {
		t.Errorf("the owner is answered: %q", got)
	}
	must(t, e.Close())
}
