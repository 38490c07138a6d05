// Package systemd holds the units of the daemon, and their tests: a machine is booted for
// them whose first process is systemd, and which shares this one's kernel and /usr.
package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

const (
	longest = 3 * time.Minute        // for one command in the machine, on a busy host
	often   = 200 * time.Millisecond // between looks at something that is waited for
)

// machine is a Debian of its own in namespaces: processes, mounts, network (nothing but
// its loopback), control groups. Its /usr is the host's with the program and the units
// installed over it; everything else is its own, lies in a directory, and outlives a boot.
type machine struct {
	t *testing.T // who looks at it now
	*hardware
}

type hardware struct {
	dir  string
	root string // of its file system, as the host sees it while it is off

	keeper *exec.Cmd
	stderr bytes.Buffer // of the keeper
	hold   io.Closer    // the machine runs until this is closed
	init   int          // pid of its systemd, as the host sees it; 0 while it is off
}

// newMachine installs a machine and does not boot it. The test is skipped where none can be had.
func newMachine(t *testing.T) machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("no machine with systemd can be booted: that needs root")
	}
	for _, p := range []string{systemd, "/dev/fuse"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("no machine with systemd can be booted here: %v", err)
		}
	}
	for _, p := range []string{"nsenter", "setpriv", "fusermount3", "dbus-daemon"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no machine with systemd can be booted here: %v", err)
		}
	}
	m := machine{t, &hardware{dir: t.TempDir()}}
	m.root = filepath.Join(m.dir, "root")
	t.Cleanup(func() {
		if t.Failed() {
			m.tell()
		}
		m.cut()
	})
	m.install()
	m.furnish()
	return m
}

// install builds the program and lays it and the units over /usr, as `make install` does.
func (m machine) install() {
	m.t.Helper()
	program := filepath.Join(m.dir, "usr/bin/ipfscloud")
	build := exec.Command("go", "build", "-o", program, "../..")
	if out, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("building the program: %v\n%s", err, out)
	}
	m.link("usr/sbin/mount.ipfscloud", "../bin/ipfscloud")
	nodes := fleettest.Binaries(m.t)
	for name, path := range map[string]string{"ipfs": nodes.IPFS, "ipfs-cluster-service": nodes.ClusterService} {
		m.copy("usr/lib/ipfscloud/"+name, path)
	}
	for _, pattern := range []string{"system/*", "user/*", "../egress/*.service"} {
		units, err := filepath.Glob(pattern)
		if err != nil || len(units) == 0 {
			m.t.Fatalf("no units in %s: %v", pattern, err)
		}
		for _, unit := range units {
			b, err := os.ReadFile(unit)
			if err != nil {
				m.t.Fatal(err)
			}
			kind := "system"
			if strings.HasPrefix(unit, "user/") {
				kind = "user"
			}
			text := strings.ReplaceAll(string(b), "@BINDIR@", "/usr/bin")
			m.put(filepath.Join("usr/lib/systemd", kind, filepath.Base(unit)), text)
		}
	}
}

// furnish makes the file system beside /usr: what a Debian has in /etc before its
// administrator comes, and no service that is not needed here.
func (m machine) furnish() {
	m.t.Helper()
	for _, d := range []string{"usr", "etc/systemd/system", "var/log/journal", "run", "proc", "sys", "dev", "tmp", "root", "home/ada", "srv"} {
		if err := os.MkdirAll(filepath.Join(m.root, d), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		m.link("root/"+l, "usr/"+l)
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(m.root, "root"), 0o700),
		os.Chmod(filepath.Join(m.root, "tmp"), 0o777|fs.ModeSticky),
		os.Chown(filepath.Join(m.root, "home/ada"), ada, ada),
	} {
		if err != nil {
			m.t.Fatal(err)
		}
	}
	for _, dir := range []string{"pam.d", "security", "dbus-1", "ld.so.cache"} {
		copied := exec.Command("cp", "-a", filepath.Join("/etc", dir), filepath.Join(m.root, "etc"))
		if out, err := copied.CombinedOutput(); err != nil {
			m.t.Fatalf("copying %s: %v\n%s", dir, err, out)
		}
	}
	for name, text := range map[string]string{
		"machine-id":    "6970667363c04d00a000000000000001\n",
		"hostname":      "machine\n",
		"passwd":        fmt.Sprintf("root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/usr/sbin/nologin\nada:x:%d:%[1]d::/home/ada:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n", ada),
		"group":         fmt.Sprintf("root:x:0:\ntty:x:5:\nmessagebus:x:100:\nada:x:%d:\nnogroup:x:65534:\n", ada),
		"shadow":        "root:*:1::::::\nada:*:1::::::\n",
		"nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files\n",
	} {
		m.put("root/etc/"+name, text)
	}
	m.link("root/etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
	// What is of the kernel, and so of the host, is left alone.
	for _, unit := range []string{"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount", "getty.target"} {
		m.link("root/etc/systemd/system/"+unit, "/dev/null")
	}
}

// put writes a file of the machine while it is off. The path is below m.dir.
func (m machine) put(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// copy puts a program into the machine.
func (m machine) copy(path, from string) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--reflink=auto", "-L", from, path).CombinedOutput(); err != nil {
		m.t.Fatalf("copying %s: %v\n%s", from, err, out)
	}
}

func (m machine) link(path, target string) {
	m.t.Helper()
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		m.t.Fatal(err)
	}
}

// boot starts the machine and returns when it is up.
func (m machine) boot() {
	m.t.Helper()
	theirHold, hold, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	defer theirHold.Close()
	told, theirTold, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	defer told.Close()
	m.stderr.Reset()
	m.keeper = exec.Command("/proc/self/exe")
	m.keeper.Env = append(os.Environ(), stageEnv+"="+stageKeeper, dirEnv+"="+m.dir)
	m.keeper.Stderr = &m.stderr
	m.keeper.ExtraFiles = []*os.File{theirHold, theirTold}
	m.keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	err = m.keeper.Start()
	theirTold.Close()
	if err != nil {
		hold.Close()
		m.t.Fatal("booting: ", err)
	}
	m.hold = hold
	if _, err := fmt.Fscan(told, &m.init); err != nil {
		m.cut()
		m.t.Fatalf("the machine does not boot: %v\n%s", err, m.stderr.String())
	}
	m.until("it is up", func() bool {
		out, _ := m.try("systemctl", "is-system-running", "--wait")
		switch state := strings.TrimSpace(out); state {
		case "running":
			return true
		case "degraded", "maintenance":
			m.t.Fatalf("the machine is %s:\n%s", state, m.run("systemctl", "--failed", "--no-pager"))
		}
		return false
	})
}

// cut ends the machine as a power cut does, if it runs.
func (m machine) cut() {
	if m.keeper == nil {
		return
	}
	m.hold.Close()
	if err := m.keeper.Wait(); err != nil {
		m.t.Errorf("the machine: %v\n%s", err, m.stderr.String())
	}
	m.keeper, m.init = nil, 0
}

// poweroff shuts the machine down in order.
func (m machine) poweroff() {
	m.t.Helper()
	m.run("systemctl", "poweroff", "--no-block")
	done := make(chan error, 1)
	go func() { done <- m.keeper.Wait() }()
	select {
	case err := <-done:
		m.hold.Close()
		m.keeper, m.init = nil, 0
		if err != nil {
			m.t.Errorf("the machine: %v\n%s", err, m.stderr.String())
		}
	case <-time.After(longest):
		m.hold.Close()
		<-done
		m.keeper, m.init = nil, 0
		m.t.Fatalf("the machine was not off after %v", longest)
	}
}

// command is a command in the running machine, as root with the environment of a service.
func (m machine) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"-t", fmt.Sprint(m.init), "-m", "-p", "-C", "-n", "-i", "-u", "-r", "-w", "--",
		"/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs a command in the machine and returns what it printed.
func (m machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var out, problem bytes.Buffer
	cmd := m.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, out.String(), problem.String())
	}
	return out.String(), nil
}

// run runs a command in the machine that must succeed.
func (m machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// sh runs a script in the machine that must succeed.
func (m machine) sh(script string) string {
	m.t.Helper()
	return m.run("sh", "-euc", script)
}

// as runs a command in the machine as its user ada, in her session.
func (m machine) as(args ...string) (string, error) {
	return m.try(append([]string{"setpriv", "--reuid", fmt.Sprint(ada), "--regid", fmt.Sprint(ada), "--clear-groups",
		"env", "HOME=/home/ada", "USER=ada", fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", ada)}, args...)...)
}

// until waits for something to become true.
func (m machine) until(what string, is func() bool) {
	m.t.Helper()
	for end := time.Now().Add(longest); !is(); time.Sleep(often) {
		if time.Now().After(end) {
			m.t.Fatalf("after %v it is not so: %s", longest, what)
		}
	}
}

// show returns a property of a unit.
func (m machine) show(unit, property string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", property, unit))
}

// journal is what the journal has of a unit, with all fields, since the machine was made.
// A unit of a user is _SYSTEMD_USER_UNIT=NAME.service.
func (m machine) journal(unit string) []map[string]any {
	m.t.Helper()
	match := unit
	if !strings.Contains(unit, "=") {
		match = "--unit=" + unit
	}
	m.run("journalctl", "--sync")
	var all []map[string]any
	d := json.NewDecoder(strings.NewReader(m.run("journalctl", "-q", "-o", "json", match)))
	for {
		var entry map[string]any
		if err := d.Decode(&entry); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			m.t.Fatal("the journal: ", err)
		}
		all = append(all, entry)
	}
}

// tell shows the end of the journal, for failures.
func (m machine) tell() {
	out, err := exec.Command("journalctl", "-D", filepath.Join(m.root, "var/log/journal"), "--no-pager", "-n", "300").CombinedOutput()
	m.t.Logf("the machine's journal (%v):\n%s", err, out)
}
