package horizon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test's program is also another user of the machine, who has a mind to get in.
const strangerEnv = "HORIZON_TEST_STRANGER"

func TestMain(m *testing.M) {
	if what := os.Getenv(strangerEnv); what != "" {
		stranger(what)
		return
	}
	os.Exit(m.Run())
}

// stranger does for each line that it reads what the line says, and answers with a line:
// "ask ADDRESS REQUEST", with the request quoted, or "slow ADDRESS NUMBER".
func stranger(string) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		w := strings.SplitN(in.Text(), " ", 3)
		switch w[0] {
		case "ask":
			request, _ := strconv.Unquote(w[2])
			c, err := net.Dial("tcp", w[1])
			if err != nil {
				fmt.Printf("%q\n", err.Error())
				continue
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, request)
			b, _ := io.ReadAll(c)
			c.Close()
			fmt.Printf("%q\n", b)
		case "slow":
			n, _ := strconv.Atoi(w[2])
			for range n { // they stay open until this process ends
				if c, err := net.Dial("tcp", w[1]); err == nil {
					_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
				}
			}
			fmt.Println("\"open\"")
		}
	}
}

// asStranger starts a process of another user, and returns what has it do things.
func asStranger(t *testing.T, uid uint32) (do func(words string) string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	dir, err := os.MkdirTemp("", "horizon") // t.TempDir is not for others to look into
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "stranger"), b, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "stranger"))
	cmd.Env = append(os.Environ(), strangerEnv+"=1")
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
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	return func(words string) string {
		t.Helper()
		if _, err := fmt.Fprintln(in, words); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		said, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return said
	}
}

func redirectOf(t *testing.T, l Login) []byte {
	t.Helper()
	html, err := l.Redirect()
	if err != nil {
		t.Fatal(err)
	}
	return html
}
