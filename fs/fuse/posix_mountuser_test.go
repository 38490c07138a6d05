package fuse

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asUserEnv names a copy of this program that the daemon runs as, as an ordinary user.
const asUserEnv = "IPFSCLOUD_TEST_FUSE_AS_USER"

// daemonCommand runs the daemon that mounts below base: as root, or as a user to whom base
// then belongs.
func daemonCommand(t *testing.T, base string) *exec.Cmd {
	t.Helper()
	program := os.Getenv(asUserEnv)
	if program == "" {
		return exec.Command(os.Args[0])
	}
	const nobody = 65534 // a user with a name, which fusermount3 wants
	openWay(t, base)
	for _, dir := range []string{base, filepath.Join(base, "mnt")} {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(program)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return c
}

// TestPOSIXMountedByUser runs the tables on drives that an ordinary user has mounted by
// fusermount3, with allow_other. That takes a mount namespace in which everybody may use
// /dev/fuse and allow_other, as an administrator may have it.
func TestPOSIXMountedByUser(t *testing.T) {
	needRoot(t)
	if os.Getenv(asUserEnv) != "" {
		t.Skip("this is that run")
	}
	for _, p := range []string{"unshare", "fusermount3", "mknod"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs ", p, ": ", err)
		}
	}
	if _, err := os.Stat("/etc/fuse.conf"); err != nil {
		t.Skip("needs a file to mount ours over: ", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	openWay(t, dir)
	const script = `umount -c -l -a -t fuse.ipfscloud || true # drives of other tests: this namespace would keep them mounted
mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
echo user_allow_other > conf; mount --bind conf /etc/fuse.conf
touch program; mount --bind "$1" program; cd "$2"
exec "$1" -test.v -test.timeout 5m -test.run '^(TestPOSIX|TestACL)$/^drive$'`
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-euc", script, "sh", self, here)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asUserEnv+"="+filepath.Join(dir, "program"))
	b, err := cmd.CombinedOutput()
	out := string(b)
	var failed []string
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "--- PASS") && !strings.Contains(line, "=== ") {
			failed = append(failed, line)
		}
	}
	if err != nil && strings.HasPrefix(out, "unshare: ") {
		t.Skip("no mount namespaces here: ", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, strings.Join(failed, ""))
	}
	n := strings.Count(out, "--- PASS: TestPOSIX/drive/") + strings.Count(out, "--- PASS: TestACL/drive/")
	if t.Logf("%d cases on drives of an ordinary user", n); n < 1150 {
		t.Errorf("%d cases, and there should be 1150 at least: %s", n, strings.Join(failed, ""))
	}
}
