package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/auth"
)

// started is the program in the foreground.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	says *bytes.Buffer // after wait
	line chan string
	done chan struct{}
}

// start runs the program without a terminal and does not wait for it.
func (d *drive) start(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{t: t, cmd: d.command(ctx, args...), says: &bytes.Buffer{}, line: make(chan string, 100), done: make(chan struct{})}
	s.cmd.Stderr = w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(s.done)
		defer close(s.line)
		b := make([]byte, 4096)
		for rest := ""; ; {
			n, err := r.Read(b)
			s.says.Write(b[:n])
			rest += string(b[:n])
			for {
				line, more, ok := strings.Cut(rest, "\n")
				if !ok {
					break
				}
				rest = more
				s.line <- line
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Wait()
		}
		<-s.done
		r.Close()
	})
	return s
}

// expect waits for a line with words in it.
func (s *started) expect(words string) {
	s.t.Helper()
	for line := range s.line {
		if strings.Contains(line, words) {
			return
		}
	}
	s.t.Fatalf("it ended without saying %q: %s", words, s.says)
}

// wait waits for the end and returns the exit code.
func (s *started) wait() int {
	s.t.Helper()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	<-s.done
	return s.cmd.ProcessState.ExitCode()
}

func (s *started) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (d *drive) mounted() bool {
	d.t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Contains(string(b), " "+d.mnt+" ")
}

func TestSession(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	did := strings.TrimSpace(d.ok("init", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase")))
	if !strings.HasPrefix(did, "did:webvh:Qm") {
		t.Fatalf("init prints %q", did)
	}
	if out := d.ok("login", "--passfile", d.path("pass")); !strings.Contains(out, did) {
		t.Errorf("login prints %q", out)
	}
	if out := d.ok("login", "--passfile", d.path("wrong")); !strings.Contains(out, "already") {
		t.Errorf("a second login prints %q", out)
	}
	if out := d.ok("whoami"); strings.TrimSpace(out) != did {
		t.Errorf("whoami prints %q", out)
	}
	var who auth.WhoAmI
	if err := json.Unmarshal([]byte(d.ok("whoami", "--json")), &who); err != nil || who.DID != did || who.PhrasePending {
		t.Errorf("whoami --json: %+v, %v", who, err)
	}
	var shown struct {
		DID           string `json:"did"`
		PhrasePending *bool  `json:"phrase_pending"`
	}
	if err := json.Unmarshal([]byte(d.ok("id", "show", "--json")), &shown); err != nil || shown.DID != did || shown.PhrasePending == nil {
		t.Errorf("id show --json: %+v, %v", shown, err)
	}
	var doc resolved
	if err := json.Unmarshal([]byte(d.ok("id", "resolve", did)), &doc); err != nil || doc.Document == nil || doc.Document.ID != did {
		t.Errorf("id resolve: %+v, %v", doc, err)
	}
	d.says(ExitUsage, "terminal", "id", "phrase")

	// Nothing of the agent can be seen from outside: no secret in its arguments or
	// environment, no core dump, and its sockets are the owner's alone.
	proc := fmt.Sprint("/proc/", who.PID)
	for _, name := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile(filepath.Join(proc, name)); err != nil || bytes.Contains(b, []byte("correct horse")) {
			t.Errorf("%s of the agent: %q, %v", name, b, err)
		}
	}
	limits, err := os.ReadFile(filepath.Join(proc, "limits"))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("limits of the agent: %v\n%s", err, limits)
	}
	if st, err := os.Stat(d.home.AgentSocket()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the agent's socket: %v, %v", st, err)
	}
	d.ok("logout")
	d.ok("logout")
	d.says(ExitRefused, "login", "whoami")

	// The passphrase by a descriptor and as systemd gives it.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("correct horse\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := d.command(ctx, "login", "--passfd", "3")
	cmd.ExtraFiles = []*os.File{r}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("login --passfd: %v: %s", err, out)
	}
	r.Close()
	d.ok("logout")
	credentials := d.path("credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	d.write(filepath.Join(credentials, "passphrase"), "correct horse\n")
	d.env = append(d.env, "CREDENTIALS_DIRECTORY="+credentials)
	d.ok("login")
	d.says(ExitUsage, "--yes", "destroy")
	d.ok("whoami") // nothing was done
	d.ok("destroy", "--yes")
	d.says(ExitRefused, "login", "whoami")
	if left, err := filepath.Glob(filepath.Join(d.home.Keystore, "*")); err != nil || len(left) > 0 {
		t.Errorf("destroy left %v, %v", left, err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	d := newDrive(t, "--durability", "ipfs")
	d.write(d.on("file"), "text")
	var s map[string]any
	if err := json.Unmarshal([]byte(d.ok("status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"did", "vault", "mountpoint", "pid", "state", "durability", "pending.ops", "pending.bytes",
		"pending.oldest_s", "commit.sequence", "commit.cid", "commit.time", "store.kind", "store.version"} {
		var v any = s
		for _, part := range strings.Split(field, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		if v == nil || v == "" {
			t.Errorf("status --json has no %s: %v", field, s)
		}
	}
	if s["state"] != "mounted" || s["durability"] != "ipfs" || s["mountpoint"] != d.mnt {
		t.Errorf("status --json: %v", s)
	}
	d.ok("sync", d.mnt)
	if st := d.status(); st.Pending.Ops != 0 || st.Pending.OldestS != 0 {
		t.Errorf("after sync %+v waits", st.Pending)
	}
	if text := d.ok("status"); !strings.Contains(text, "all is committed") || !strings.Contains(text, d.mnt) {
		t.Errorf("status prints %s", text)
	}
	d.umount()
	out, _, code := d.run("status", "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != ExitNotFound || s["state"] != "stopped" {
		t.Errorf("status --json of an unmounted drive: exit %d, %s, %v", code, out, err)
	}
}

// Signals in the foreground: the first flushes and unmounts, at every step.
func TestSignalsEndTheDrive(t *testing.T) {
	d := newHome(t)
	d.init()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		s := d.start(t, "mount", "--passfile", d.path("pass"), d.mnt)
		s.expect("mounted at")
		d.write(d.on(sig.String()), sig.String())
		s.signal(sig)
		if code := s.wait(); code != ExitOK || d.mounted() {
			t.Fatalf("%v: exit %d, mounted %t: %s", sig, code, d.mounted(), s.says)
		}
	}
	d.login()
	d.mount()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if b, err := os.ReadFile(d.on(sig.String())); err != nil || string(b) != sig.String() {
			t.Errorf("%q, %v", b, err)
		}
	}
	if s := d.status(); s.Commit.Sequence == 0 || s.Pending.Ops != 0 {
		t.Errorf("something waits: %+v", s)
	}

	// With files open, users get a moment; then they get errors, and the drive is gone.
	f, err := os.Create(d.on("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid := d.status().PID
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGINT); err != nil { // and not even that moment
		t.Fatal(err)
	}
	begin := time.Now()
	waitGone(t, pid)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("after a second signal it took %v", took)
	}
	if d.mounted() {
		t.Error("still mounted")
	}
	if _, err := f.WriteString("late"); err == nil {
		t.Error("a file of an ended drive takes data")
	}
}

// waitGone returns when a process that is not our child has ended.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	waitEnd(t, fd)
}

// `up` without a terminal is what a service runs: the session is its own, others see it,
// and nobody can log it out.
func TestUpAsAService(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	s := d.start(t, "up", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase"), d.mnt)
	s.expect("Your drive is at")
	d.ok("whoami")
	d.says(ExitBusy, "umount", "logout")
	d.write(d.on("file"), "text")
	d.ok("umount", "--flush")
	if code := s.wait(); code != ExitOK || !strings.Contains(s.says.String(), "Everything is in IPFS") {
		t.Errorf("up: exit %d: %s", code, s.says)
	}
	d.says(ExitRefused, "login", "whoami")
	// After one that died, the next takes away the mount that it left.
	died := d.start(t, "up", "--passfile", d.path("pass"), d.mnt)
	died.expect("Your drive is at")
	d.kill()
	died.wait()
	if _, err := os.Stat(d.mnt); err == nil {
		t.Fatal("a daemon that was killed leaves no dead mount: this tests nothing")
	}
	next := d.start(t, "up", "--passfile", d.path("pass"), d.mnt)
	next.expect("Your drive is at")
	if got := d.readFile(d.on("file")); got != "text" {
		t.Errorf("after the death of a daemon the file says %q", got)
	}
	d.ok("umount", "--flush")
	next.wait()
	if s.says.Len() > 1000 || strings.Contains(s.says.String(), "\x1b") {
		t.Errorf("a service's output has what is for terminals: %q", s.says)
	}
}

// The agent may die under a drive. Nothing is lost: changes wait for the next login.
func TestAgentDies(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	var who auth.WhoAmI
	if err := json.Unmarshal([]byte(d.ok("whoami", "--json")), &who); err != nil {
		t.Fatal(err)
	}
	if len(who.Holders) != 1 || !strings.Contains(who.Holders[0], d.mnt) {
		t.Errorf("the session is held by %q", who.Holders)
	}
	killWait(t, who.PID)
	d.write(d.on("file"), "text")
	d.fails(ExitRefused, "sync")
	eventually(t, "an alert", func() bool { return strings.Contains(strings.Join(d.status().Alerts, " "), "ipfscloud login") })
	d.login()
	d.ok("sync")
	eventually(t, "the alert's end", func() bool { return len(d.status().Alerts) == 0 })
	d.says(ExitBusy, "umount", "logout")
	d.umount()
	d.ok("logout")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// What mount(8), umount(8) and a dead daemon leave.
func TestMountHelperAndDeadMounts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "umount")
	d := newHome(t)
	d.init()
	helper := d.path("mount.ipfscloud")
	if err := os.Symlink("/proc/self/exe", helper); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], d.dir, d.mnt, "-n", "-o", "rw,noatime,passfile="+d.path("pass"))
	cmd.Args[0] = helper
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("mount.ipfscloud: %v: %s", err, out)
	}
	d.write(d.on("file"), "text")
	d.ok("sync", "--durability", "local")
	pid := d.status().PID
	if out, err := exec.Command("umount", d.mnt).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	waitGone(t, pid)

	d.login()
	d.mount()
	if b, err := os.ReadFile(d.on("file")); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	d.kill()
	if !d.mounted() {
		t.Fatal("a killed daemon leaves no mount: this test tests nothing")
	}
	d.ok("umount", d.mnt)
	if d.mounted() {
		t.Error("umount left a dead mount")
	}
	d.mount()
	d.kill()
	d.mount() // cleans up after the dead one itself
	if b, err := os.ReadFile(d.on("file")); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	d.umount()
	d.says(ExitNotFound, "not mounted", "umount", d.mnt)
}

// systemd is told when the drive is ready and when it ends, and is kept from its watchdog.
func TestNotifySystemd(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.init()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "notify")
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: d.path("notify")}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	d.env = append(d.env, "NOTIFY_SOCKET="+d.path("notify"), "WATCHDOG_USEC=200000")
	s := d.start(t, "mount", "--passfile", d.path("pass"), d.mnt)
	b := make([]byte, 4096)
	// until reads what is told until a line comes, and returns the message with it.
	until := func(line string) string {
		t.Helper()
		for {
			n, err := syscall.Read(fd, b)
			if errors.Is(err, syscall.EINTR) { // a signal of Go's own scheduler
				continue
			}
			if err != nil {
				t.Fatalf("%s is not told: %v", line, err)
			}
			for _, l := range strings.Split(string(b[:n]), "\n") {
				if l == line {
					return string(b[:n])
				}
			}
		}
	}
	if got := until("READY=1"); !strings.Contains(got, "STATUS=mounted, commit ") || !strings.Contains(got, "one copy") {
		t.Errorf("ready: %q", got)
	}
	if _, err := os.Stat(d.on(".")); err != nil {
		t.Errorf("ready, and the mount does not answer: %v", err)
	}
	until("WATCHDOG=1")
	until("WATCHDOG=1")

	// A changed configuration is taken over; a wrong one changes nothing.
	conf := func(text string) {
		t.Helper()
		if err := os.WriteFile(d.home.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signal(syscall.SIGHUP)
		if got := until("RELOADING=1"); !strings.Contains(got, "MONOTONIC_USEC=") {
			t.Errorf("reloading: %q", got)
		}
	}
	conf("durability = \"ipfs\"\n")
	until("READY=1")
	if got := d.status().Durability; got != "ipfs" {
		t.Errorf("after a reload fsync waits for %s", got)
	}
	conf("durability = \"nonsense\"\n")
	if got := until("READY=1"); !strings.Contains(got, "as it was") || d.status().Durability != "ipfs" {
		t.Errorf("after a wrong configuration: %q", got)
	}

	d.write(d.on("f"), "x")
	s.signal(syscall.SIGTERM)
	if got := until("STOPPING=1"); !strings.Contains(got, "STATUS=Flushing: ") {
		t.Errorf("stopping: %q", got)
	}
	until("STATUS=Flushed: everything is committed")
	if code := s.wait(); code != ExitOK {
		t.Errorf("exit %d: %s", code, s.says)
	}
}
