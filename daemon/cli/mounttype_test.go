package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// helperPath is where mount(8) looks for the helper of the type ipfscloud.
const (
	helperPath = "/sbin/mount.ipfscloud"
	helperMark = "# made by a test of ipfscloud\n"
)

// installHelper lets mount(8) find this test binary as the helper. It gives the
// environment that mount(8) gives, but for the one variable that makes it the program.
func installHelper(t *testing.T) {
	t.Helper()
	needRoot(t)
	need(t, "mount", "findmnt")
	if b, err := os.ReadFile(helperPath); err == nil && !bytes.Contains(b[:min(len(b), 200)], []byte(helperMark)) {
		t.Skip(helperPath, " is installed here, and stays")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "mount.ipfscloud") // what the program is called by tells what it is
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n" + helperMark + mainEnv + "=1; export " + mainEnv + "; exec " + name + " \"$@\"\n"
	if err := os.WriteFile(helperPath, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(helperPath); err != nil {
			t.Error(err)
		}
	})
}

// bare runs a program with an environment of its own, or with none, and tells its exit
// code, what it says, and how long it took.
func bare(t *testing.T, env []string, args ...string) (says string, code int, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Env, cmd.Dir = append([]string{}, env...), "/"
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode(), time.Since(begin)
}

// What mount(8) does with the type ipfscloud. All of it shares one helper.
func TestMountType(t *testing.T) {
	t.Parallel()
	installHelper(t)
	t.Run("fstab", func(t *testing.T) {
		t.Parallel()
		testMountByFstab(t)
	})
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		testMountTypeFails(t)
	})
}

// A line of fstab as people write it, mounted by mount(8) with an environment that holds
// nothing, as at boot.
func testMountByFstab(t *testing.T) {
	d := newHome(t)
	d.init()
	d.write(d.path("other.toml"), "durability = \"ipfs\"\n")
	fstab, options := d.path("fstab"), "_netdev,nofail,noauto,user,exec,defaults,x-systemd.automount,x-systemd.requires=network.target,comment=x,"+
		"uid=1234,gid=2345,umask=027,noatime,allow_other,passfile="+d.path("pass")+",config="+d.path("other.toml")+",cache_dir="+d.path("blocks")
	d.write(fstab, fmt.Sprintf("%s %s ipfscloud %s 0 0\n", d.dir, d.mnt, options))
	mount := func() {
		t.Helper()
		if says, code, _ := bare(t, nil, "mount", "-T", fstab, d.mnt); code != 0 || says != "" {
			t.Fatalf("mount: exit %d: %s%s", code, says, d.log())
		}
	}
	mount()
	if got := d.sh("echo text > file; stat -c '%u %g %a' file; findmnt -n -o SOURCE,FSTYPE,TARGET -T ."); got !=
		fmt.Sprintf("1234 2345 640\n%s fuse.ipfscloud %s\n", d.dir, d.mnt) {
		t.Errorf("mounted: %s", got)
	}
	if got := d.status().Durability; got != "ipfs" {
		t.Errorf("config= is not read: fsync waits for %s", got)
	}
	// It is known to be mounted: once is enough, and by its line of fstab.
	if says, code, _ := bare(t, nil, "mount", "-T", fstab, "-a"); code != 0 || says != "" {
		t.Errorf("mount -a, with noauto: exit %d: %s", code, says)
	}
	d.write(fstab, fmt.Sprintf("%s %s ipfscloud %s 0 0\n", d.dir, d.mnt, strings.Replace(options, "noauto,", "", 1)))
	if says, code, _ := bare(t, nil, "mount", "-T", fstab, "-a"); code != 0 || says != "" {
		t.Errorf("mount -a, when it is mounted: exit %d: %s", code, says)
	}
	pid := d.status().PID
	if says, code, _ := bare(t, nil, "umount", d.mnt); code != 0 || says != "" {
		t.Fatalf("umount: exit %d: %s", code, says)
	}
	waitGone(t, pid)

	if says, code, _ := bare(t, nil, "mount", "-T", fstab, "-a"); code != 0 || says != "" {
		t.Fatalf("mount -a: exit %d: %s%s", code, says, d.log())
	}
	if b, err := os.ReadFile(d.on("file")); err != nil || string(b) != "text\n" {
		t.Errorf("%q, %v", b, err)
	}
	d.umount()

	// For reading, by a flag of mount(8).
	if says, code, _ := bare(t, nil, "mount", "-r", "-T", fstab, d.mnt); code != 0 {
		t.Fatalf("mount -r: exit %d: %s", code, says)
	}
	if err := os.WriteFile(d.on("another"), nil, 0o600); err == nil {
		t.Error("mount -r lets write")
	}
	d.umount()
}

// What is wrong is told at once, and by the exit code too.
func testMountTypeFails(t *testing.T) {
	d := newHome(t)
	unlocking := time.Duration(0) // what this machine, as busy as it is, takes for a passphrase
	fails := func(code int, words, source, options string) time.Duration {
		t.Helper()
		says, got, took := bare(t, nil, "mount", "-t", "ipfscloud", "-o", options, source, d.mnt)
		if got != code || !strings.Contains(says, words) || strings.Count(says, "\n") != 1 {
			t.Errorf("mount -o %s %s: exit %d, want %d: %q has to say %q", options, source, got, code, says, words)
		}
		if d.mounted() {
			t.Fatalf("mount -o %s failed and is mounted", options)
		}
		limit := 10 * time.Second
		if unlocking > 2*time.Second {
			limit += 3 * unlocking
		}
		if took > limit {
			t.Errorf("mount -o %s took %v to fail; more than %v", options, took, limit)
		}
		return took
	}
	pass := "passfile=" + d.path("pass")
	fails(ExitNotFound, "ipfscloud init", d.dir, pass)
	d.init()
	unlocking = fails(ExitRefused, "wrong passphrase", d.dir, "passfile="+d.path("wrong"))
	fails(ExitRefused, "ipfscloud login", d.dir, "rw")
	fails(ExitFailure, "no such file", d.dir, "passfile="+d.path("missing"))
	fails(ExitUsage, "missing.toml", d.dir, pass+",config="+d.path("missing.toml"))
	d.write(d.path("bad.toml"), "durabilty = \"ipfs\"\n")
	fails(ExitUsage, "did you mean durability?", d.dir, pass+",config="+d.path("bad.toml"))
	fails(ExitUsage, "frob", d.dir, pass+",frob")
	fails(ExitUsage, "umask", d.dir, pass+",umask=888")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the kernel accepts, nobody answers
	fails(ExitUnavailable, "IPFS node", d.dir, pass+",ipfs=http://"+l.Addr().String())
	d.write(d.on("file"), "")
	fails(ExitMount, "not empty", d.dir, pass)

	// A mere name is the drive of the machine, and not that of root's home directory.
	const machine = "/var/lib/ipfscloud"
	if _, err := os.Stat(machine); err == nil {
		t.Skip(machine, " is in use here: the drive of the machine is not tried")
	}
	if says, code, _ := bare(t, []string{"HOME=" + d.dir, "XDG_STATE_HOME=" + d.dir}, "mount", "-t", "ipfscloud", "-o", pass, "name", d.mnt); code != ExitNotFound || !strings.Contains(says, machine) {
		t.Errorf("a mere name: exit %d: %s", code, says)
	}
}
