// Package packaging holds what packages are made of, and the tests of it. It has no code.
package packaging

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// run runs a program from the top of the module, and returns what it says.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	begin := time.Now()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("%s: %v", filepath.Base(args[0]), time.Since(begin).Round(100*time.Millisecond))
	return string(out)
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
}

// files are the names of all files below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// What `make install` puts where, and that its units start what it installed.
func testInstall(t *testing.T) {
	dir := t.TempDir()
	run(t, nil, "make", "--no-print-directory", "install", "DESTDIR="+dir)
	have := files(t, dir)
	for _, want := range []string{
		"/usr/local/bin/ipfscloud", "/sbin/mount.ipfscloud",
		"/usr/local/share/man/man1/ipfscloud.1", "/usr/local/share/man/man1/ipfscloud-mount.1", "/usr/local/share/man/man8/mount.ipfscloud.8",
		"/usr/local/share/bash-completion/completions/ipfscloud", "/usr/local/share/zsh/site-functions/_ipfscloud",
		"/usr/local/share/fish/vendor_completions.d/ipfscloud.fish",
		"/usr/local/lib/systemd/system/ipfscloud.service", "/usr/local/lib/systemd/system/ipfscloud@.service",
		"/usr/local/lib/systemd/system/ipfscloud-horizon.socket", "/usr/local/lib/systemd/system/ipfscloud-egress.service",
		"/usr/local/lib/systemd/user/ipfscloud.service",
		"/usr/local/share/doc/ipfscloud/README.md", "/usr/local/share/doc/ipfscloud/copyright",
		"/etc/ipfscloud/config.toml",
	} {
		if !slices.Contains(have, want) {
			t.Errorf("%s is not installed", want)
		}
	}
	if to, err := os.Readlink(dir + "/sbin/mount.ipfscloud"); err != nil || to != "/usr/local/bin/ipfscloud" {
		t.Errorf("mount.ipfscloud leads to %q, %v", to, err)
	}
	for _, name := range have {
		if !strings.Contains(name, "/systemd/") {
			continue
		}
		b, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("@BINDIR@")) || bytes.Contains(b, []byte("ExecStart=")) && !bytes.Contains(b, []byte("ExecStart=/usr/local/bin/ipfscloud ")) {
			t.Errorf("%s starts something else:\n%s", name, b)
		}
	}
	// A configuration that is there is somebody's.
	changed := []byte("durability = \"ipfs\"\n")
	if err := os.WriteFile(dir+"/etc/ipfscloud/config.toml", changed, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "make", "--no-print-directory", "install", "DESTDIR="+dir)
	if b, err := os.ReadFile(dir + "/etc/ipfscloud/config.toml"); err != nil || !bytes.Equal(b, changed) {
		t.Errorf("installing again leaves %q, %v", b, err)
	}
}

// packEgress packs the programs of a node as `make deb-egress` does, which would build
// them where tests of other packages are using them.
func packEgress(t *testing.T, packages string) {
	t.Helper()
	b := fleettest.Binaries(t)
	lib := filepath.Join(packages, "egress-root/usr/lib/ipfscloud")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "cp", b.IPFS, b.ClusterService, lib)
	dist := filepath.Join(packages, "egress")
	if err := os.Mkdir(dist, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "packaging/deb/pack", "ipfscloud-egress", filepath.Join(packages, "egress-root"), dist)
}

// `make install`, and the package in a clean Debian, as testdata/life.sh tells. One after
// the other, for both build in the module's bin.
func TestPackage(t *testing.T) {
	need(t, "make", "debootstrap", "dpkg", "unshare", "chroot")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here: ", err)
	}
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=2g,mode=755"); err != nil { // debootstrap syncs each file
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	system := filepath.Join(root, "system")
	made := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	begin := time.Now()
	go func() {
		cmd := exec.CommandContext(ctx, "../contrib/debian-root", system)
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("debian-root: %w: %s", err, out)
		}
		made <- err
	}()
	t.Run("Install", testInstall)
	packages := t.TempDir()
	// As make deb does it; the package before has an older configuration, and a file more.
	for _, p := range []struct{ name, release string }{{"new", "2"}, {"old", "1"}} {
		dist := filepath.Join(packages, p.name)
		if p.name == "new" {
			run(t, []string{"RELEASE=" + p.release}, "make", "--no-print-directory", "deb", "DIST="+dist, "DEBROOT="+packages+"/root")
			continue
		}
		for name, text := range map[string]string{"usr/share/doc/ipfscloud/old": "", "etc/ipfscloud/config.toml": "# older\n"} {
			if err := os.WriteFile(filepath.Join(packages, "root", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(dist, 0o700); err != nil {
			t.Fatal(err)
		}
		run(t, []string{"RELEASE=" + p.release}, "packaging/deb/pack", "ipfscloud", packages+"/root", dist)
	}
	packEgress(t, packages)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Logf("debian-root: %v", time.Since(begin).Round(100*time.Millisecond))

	life, err := os.ReadFile("testdata/life.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(system, "life.sh"), life, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(system, "dev/fuse"), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	// Mounts and processes of its own: nothing is left behind, whatever happens.
	out := run(t, []string{"SYSTEM=" + system, "PACKAGES=" + packages}, "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc",
		`umount -c -l -a -t fuse.ipfscloud || true # drives of other tests: this namespace would keep them mounted
		mkdir "$SYSTEM/packages"; mount --bind "$PACKAGES" "$SYSTEM/packages"; mount -t proc proc "$SYSTEM/proc"; exec chroot "$SYSTEM" bash /life.sh`)
	if !strings.HasSuffix(out, "life.sh: all of it\n") {
		t.Errorf("it ends before its end:\n%s", out)
	}
}
