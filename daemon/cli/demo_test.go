package cli

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// demoIn prepares `ipfscloud demo`, whose throw-away home then lies below dir.
func demoIn(ctx context.Context, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], "demo")
	cmd.Env = append(os.Environ(), mainEnv+"=1", "TMPDIR="+dir)
	return cmd
}

// nothingLeft wants that a demonstration took everything away with it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the demonstration left %v, %v", left, err)
	}
	if b := mustRead(t, "/proc/self/mounts"); bytes.Contains(b, []byte(dir)) {
		t.Errorf("the demonstration left a mount:\n%s", b)
	}
}

// shortDir is a directory whose sockets have short enough paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return dir
}

// `ipfscloud demo`, which `make run` runs where there is no terminal, tells each step in a
// line, and leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*longest)
	defer cancel()
	out, err := demoIn(ctx, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, step := range []string{"1. An identity", "2. Logged in", "3. Mounted", "4. Written with", "5. Committed", "6. Searched",
		"7. Unmounted", "8. Mounted again", "9. Compared", "All of it held."} {
		if !strings.Contains("\n"+string(out), "\n"+step) {
			t.Errorf("no line begins with %q:\n%s", step, out)
		}
	}
	nothingLeft(t, dir)
}

// Broken off in the middle, it says so by its exit code, and leaves nothing either.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*longest)
	defer cancel()
	cmd := demoIn(ctx, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for said.Scan() {
		if strings.HasPrefix(said.Text(), "3. ") {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(said.Text(), "All of it held") {
			t.Error("it was broken off, and says: ", said.Text())
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was broken off, and ends with exit code 0")
	}
	nothingLeft(t, dir)
}
