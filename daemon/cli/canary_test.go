package cli

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A canary in names, contents, attributes and link targets, of every kind of file, is
// found nowhere but in the mount: not in the node's repo, the journal, the staging, the
// cache, the state, the logs, and not in a core dump of the daemon, for there is none.
func TestCanaryStaysInside(t *testing.T) {
	t.Parallel()
	const canary = "CaNaRy-7f3a"
	d := newDrive(t)
	small := []byte(canary + " in a small file")
	packed := bytes.Repeat([]byte(canary+" packed "), 1000)
	large := bytes.Repeat([]byte(canary+" large "), 200000)
	dir := d.on("dir-" + canary)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"small-": small, "packed-": packed, "large-": large} {
		path := filepath.Join(dir, name+canary)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(path, "user."+canary, []byte(canary), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(canary+"/target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "small-"+canary), d.on("hard-"+canary)); err != nil {
		t.Fatal(err)
	}
	// What opens the drive is nowhere either, but in the files that the test itself made.
	secrets := [][]byte{[]byte(canary), []byte("correct horse"), bytes.TrimSpace(mustRead(t, d.path("phrase")))}
	given := []string{d.path("pass"), d.path("phrase")}
	look := func(when string) {
		t.Helper()
		files := 0
		err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case path == d.mnt:
				return filepath.SkipDir
			case slices.Contains(given, path):
				return nil
			case err != nil:
				if os.IsNotExist(err) { // a daemon at work replaces files
					return nil
				}
				return err
			case strings.Contains(path, canary):
				t.Errorf("%s: the name of %s", when, path)
			case e.Type().IsRegular():
				b, err := os.ReadFile(path)
				for i, secret := range secrets {
					if err == nil && bytes.Contains(b, secret) {
						t.Errorf("%s: %s holds secret %d", when, path, i)
					}
				}
				files++
			}
			return nil
		})
		if err != nil || files < 10 {
			t.Fatalf("%s: %d files, %v", when, files, err)
		}
	}
	look("in the journal")
	d.ok("sync")
	look("committed")
	if err := os.WriteFile(filepath.Join(dir, "more-"+canary), large, 0o600); err != nil {
		t.Fatal(err)
	}
	pid := d.status().PID
	for _, p := range []int{pid, d.agentPID()} {
		noCore(t, p)
	}
	// Even a crash leaves nothing: SIGABRT would dump core where that is allowed.
	if err := syscall.Kill(pid, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		waitEnd(t, fd)
		unix.Close(fd)
	}
	look("after a crash")
	d.mount()
	if b, err := os.ReadFile(filepath.Join(dir, "large-"+canary)); err != nil || !bytes.Equal(b, large) {
		t.Fatal("the canary is not even in the mount", err)
	}
	d.umount()
	said := d.crashes(t, filepath.Join(dir, "large-"+canary))
	if strings.Contains(said, canary) {
		t.Errorf("what a crash prints holds the canary:\n%s", said)
	}
	look("after a crash that was to leave a core dump")
}

// crashes lets a daemon that holds a file in memory die as those do whose core the kernel
// dumps, without the limit that the daemon has set itself, and wants none. It returns what
// the daemon said.
func (d *drive) crashes(t *testing.T, file string) string {
	t.Helper()
	d.env = append(d.env, "GOTRACEBACK=crash") // by the signal itself
	s := d.start(t, "mount", d.mnt)
	s.expect("mounted at")
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	pid := s.cmd.Process.Pid
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, &all, nil); err != nil {
		t.Log("the limit of core dumps stays: ", err) // as an ordinary user
	}
	s.signal(syscall.SIGABRT)
	for range s.line { // it says much
	}
	s.wait()
	how, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !how.Signaled() || how.Signal() != syscall.SIGABRT {
		t.Errorf("the daemon did not crash: %v", s.cmd.ProcessState)
	}
	if how.CoreDump() {
		t.Error("a core of the daemon was dumped")
	}
	return s.says.String()
}

// noCore checks that the kernel would write no core dump of a process.
func noCore(t *testing.T, pid int) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(limits), "\n") {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			f := strings.Fields(rest)
			if n, err := strconv.Atoi(f[0]); err != nil || n != 0 || f[1] != "0" {
				t.Errorf("process %d may dump core: %s", pid, line)
			}
			return
		}
	}
	t.Errorf("no core limit is known of process %d", pid)
}
