package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// The tests of this package run the whole program: kernel, Kubo, agent and all. The test
// binary is the program when its environment says so, and starts its own background
// processes the same way.
const mainEnv = "IPFSCLOUD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		os.Exit(Run(os.Args))
	}
	os.Exit(m.Run())
}

// drive is a throw-away home with an identity, and perhaps a mounted drive.
type drive struct {
	t    testing.TB
	dir  string // the home
	mnt  string
	home daemon.Home
	env  []string // besides that of the test
}

const longest = 2 * time.Minute // for one command

// newHome makes an empty home.
func newHome(t testing.TB) *drive {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here: ", err)
	}
	dir, err := os.MkdirTemp("", "ic-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	return homeAt(t, dir)
}

// keptState notes which local state there is. A machine that has nothing but the keystore has
// no such note either.
func (d *drive) keptState() string { return filepath.Join(d.home.Keystore, "local-state.json") }

// homeAt uses a directory that the test made, and removes it at the end.
func homeAt(t testing.TB, dir string) *drive {
	t.Helper()
	d := &drive{t: t, dir: dir, mnt: filepath.Join(dir, "mnt"), home: daemon.HomeAt(dir)}
	t.Cleanup(func() {
		d.stopAll()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	for path, text := range map[string]string{"pass": "correct horse\n", "wrong": "wrong horse\n"} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(d.mnt, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return d
}

// newDrive makes a home with an identity, logged in and mounted.
func newDrive(t testing.TB, flags ...string) *drive {
	t.Helper()
	d := newHome(t)
	d.init()
	d.login()
	d.mount(flags...)
	return d
}

// lightKDF makes a login cheap: the least that is accepted. The default is for tests of
// what a person does.
var lightKDF = []string{"--kdf-passes", "1", "--kdf-memory", "64"}

func (d *drive) init() {
	d.t.Helper()
	d.ok(append([]string{"init", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase")}, lightKDF...)...)
}

func (d *drive) login() {
	d.t.Helper()
	d.ok("login", "--passfile", d.path("pass"))
}

func (d *drive) mount(flags ...string) {
	d.t.Helper()
	d.ok(append(append([]string{"mount", "-d"}, flags...), d.mnt)...)
}

func (d *drive) umount() {
	d.t.Helper()
	d.ok("umount", "--flush", d.mnt)
}

func (d *drive) path(name string) string { return filepath.Join(d.dir, name) }
func (d *drive) on(name string) string   { return filepath.Join(d.mnt, name) }

func (d *drive) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1", daemon.HomeEnv+"="+d.dir)
	cmd.Env = append(cmd.Env, d.env...)
	return cmd
}

// run runs the program and returns what it printed and its exit code.
func (d *drive) run(args ...string) (out, problem string, code int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	cmd := d.command(ctx, args...)
	var o, p bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &p
	err := cmd.Run()
	if ctx.Err() != nil {
		d.t.Fatalf("ipfscloud %s did not end in %v: %s%s%s", strings.Join(args, " "), longest, o.String(), p.String(), d.seen(5*time.Second))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("ipfscloud %s: %v", strings.Join(args, " "), err)
	}
	return o.String(), p.String(), cmd.ProcessState.ExitCode()
}

// ok runs the program and wants exit code 0.
func (d *drive) ok(args ...string) string {
	d.t.Helper()
	out, problem, code := d.run(args...)
	if code != ExitOK {
		d.t.Fatalf("ipfscloud %s: exit %d: %s%s", strings.Join(args, " "), code, problem, d.log())
	}
	return out
}

// fails runs the program and wants an exit code, and one line about it.
func (d *drive) fails(code int, args ...string) string {
	d.t.Helper()
	_, problem, got := d.run(args...)
	if got != code {
		d.t.Errorf("ipfscloud %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, problem)
	}
	if strings.Count(problem, "\n") != 1 || strings.Contains(problem, "panic") {
		d.t.Errorf("ipfscloud %s prints not one line: %q", strings.Join(args, " "), problem)
	}
	return problem
}

// log is the end of the daemon's log, for failures.
func (d *drive) log() string {
	b, _ := os.ReadFile(d.home.LogFile())
	return "\nlog: " + string(b[max(0, len(b)-3000):])
}

// seen is what can be seen of a daemon that does not do what it should, for failures. It
// asks for each thing no longer than limit, and fails nothing.
func (d *drive) seen(limit time.Duration) string {
	var n net.Dialer
	c := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return n.DialContext(ctx, "unix", filepath.Join(d.home.Run, "control.sock"))
	}}}
	control := func(path string) ([]byte, error) {
		resp, err := c.Get("http://daemon" + path)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}
	var out strings.Builder
	for _, s := range []struct {
		name string
		read func() ([]byte, error)
	}{
		{"status", func() ([]byte, error) { return control("/status") }},
		{"pins", func() ([]byte, error) { return control("/pins") }},
		{"log", func() ([]byte, error) {
			b, err := os.ReadFile(d.home.LogFile())
			lines := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(lines[max(0, len(lines)-61):], nil), err // what follows the last end of line is one too
		}},
		{"load", func() ([]byte, error) { return os.ReadFile("/proc/loadavg") }},
	} {
		told := make(chan string, 1)
		go func() { // ends with the read: should that never be, the test ends all the same
			b, err := s.read()
			if err != nil {
				b = fmt.Append(b, err)
			}
			told <- string(b)
		}()
		text := "it cannot be read"
		select {
		case text = <-told:
		case <-time.After(limit):
		}
		fmt.Fprintf(&out, "\n%s: %s", s.name, text)
	}
	return out.String()
}

func (d *drive) status() daemon.Status {
	d.t.Helper()
	var s daemon.Status
	if err := json.Unmarshal([]byte(d.ok("status", "--json")), &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// sh runs a shell script in the drive with an ordinary environment.
func (d *drive) sh(script string, args ...string) string {
	d.t.Helper()
	out, err := shell(d.mnt, script, args...)
	if err != nil {
		d.t.Fatalf("%v%s", err, d.log())
	}
	return out
}

func shell(dir, script string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-euc", script, "sh"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@localhost", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@localhost")
	cmd.WaitDelay = 10 * time.Second
	var o, p bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &p
	if err := cmd.Run(); err != nil {
		return o.String(), fmt.Errorf("%s: %w: %s%s", script, err, o.String(), p.String())
	}
	return o.String(), nil
}

// need skips the test if a program is missing.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// kill kills the daemon as kill -9 does and returns when it is gone.
func (d *drive) kill() {
	d.t.Helper()
	killWait(d.t, d.status().PID)
}

// killWait kills a process that is not our child and waits for its end.
func killWait(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatalf("killing %d: %v", pid, err)
	}
	waitEnd(t, fd)
}

func waitEnd(t testing.TB, pidfd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 30000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("the process does not end: %v", err)
		}
		return
	}
}

// stopAll ends what the home has running, whatever state it is in.
func (d *drive) stopAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if c, err := daemon.Connect(ctx, d.home); err == nil {
		if s, err := c.Status(ctx); err == nil {
			if p, err := os.FindProcess(s.PID); err == nil {
				_ = p.Kill()
			}
		}
	}
	_ = syscall.Unmount(d.mnt, syscall.MNT_DETACH)
	_ = daemon.AwaitEnd(ctx, d.home)
	_ = d.command(ctx, "logout").Run()
}

// rpc asks the embedded node's own API.
func (d *drive) rpc(call string) ([]byte, error) {
	c := http.Client{Timeout: longest, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var n net.Dialer
		return n.DialContext(ctx, "unix", d.home.IPFSSocket())
	}}}
	resp, err := c.Post("http://node/api/v0/"+call, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", call, resp.Status, b)
	}
	return b, err
}

// sums lists every file below dir with its checksum, and every inode with mode, links and target.
func sums(t testing.TB, dir string) string {
	t.Helper()
	out, err := shell(dir, `find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum; find . -printf '%p %y %m %n %s %l\n' | grep -v ' d ' | LC_ALL=C sort; find . -type d -printf '%p %m\n' | LC_ALL=C sort`)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
