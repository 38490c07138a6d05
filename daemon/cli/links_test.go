package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/daemon"
)

const otherUser = 65534 // who plants links

// prey is what a link leads to: a file and a directory of root's.
type prey struct {
	t         testing.TB
	file, dir string
	was       map[string]string
}

func newPrey(t testing.TB) *prey {
	t.Helper()
	base := t.TempDir()
	p := &prey{t: t, file: filepath.Join(base, "victim"), dir: filepath.Join(base, "victims")}
	if err := errors.Join(os.WriteFile(p.file, []byte("only root may read this\n"), 0o600), os.Mkdir(p.dir, 0o755),
		os.WriteFile(filepath.Join(p.dir, "inner"), []byte("x"), 0o640)); err != nil {
		t.Fatal(err)
	}
	p.was = p.look()
	return p
}

// look tells all of what could be changed.
func (p *prey) look() map[string]string {
	p.t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(filepath.Dir(p.file), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%v %v of %d ", st.Mode(), st.ModTime(), sys.Uid)
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(b)
		}
		seen[path] = text
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return seen
}

func (p *prey) check(what string) {
	p.t.Helper()
	now := p.look()
	for path := range now {
		if now[path] != p.was[path] {
			p.t.Errorf("%s: %s is %q now, was %q", what, path, now[path], p.was[path])
		}
	}
	if len(now) != len(p.was) {
		p.t.Errorf("%s: there are %d files, were %d", what, len(now), len(p.was))
	}
}

// names are the names of all that a running drive has made in its home, down to the
// directories in which flatfs keeps blocks.
func (d *drive) names() ([]string, map[string]bool) {
	d.t.Helper()
	var names []string
	isDir, flatfs := map[string]bool{}, 0
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || path == d.dir {
			return err
		}
		name, err := filepath.Rel(d.dir, path)
		if err != nil {
			return err
		}
		if name == "mnt" {
			return fs.SkipDir
		}
		parts := strings.Split(name, "/")
		switch {
		case len(parts) == 1 && !e.IsDir(): // of the test
			return nil
		case parts[0] == "ipfs" && len(parts) > 1 && parts[1] == "datastore" && len(parts) > 2, parts[0] == "ipfs" && len(parts) > 3, len(parts) > 4:
			return nil // of a database, blocks
		case parts[0] == "ipfs" && len(parts) == 3 && e.IsDir():
			if flatfs++; flatfs > 1 {
				return fs.SkipDir // one of many is enough
			}
		}
		names, isDir[name] = append(names, name), e.IsDir()
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return names, isDir
}

// TestPlantedLinks puts a symbolic link in the place of each thing that a daemon of root's has
// made, one after the other, and mounts. What the link leads to must stay as it was. A link in
// the place of a directory is another user's; one in the place of a file is root's own, so
// that nothing but not following it helps.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	d := newHome(t)
	d.init()
	pass := []string{"--passfile", d.path("pass")}
	d.mount(pass...)
	d.sh("echo text > file")
	d.ok("sync")
	names, isDir := d.names()
	d.umount()
	for _, must := range []string{"state", "run", "state/vault", "state/lock", "state/daemon.log", "run/control.sock", "run/ipfs.sock", "keystore", "ipfs/config"} {
		if !slices.Contains(names, must) {
			t.Errorf("a running drive has no %s: %v", must, names)
		}
	}
	t.Logf("%d names", len(names))
	for _, name := range names {
		d.planted(name, isDir[name], pass)
	}
	d.mount(pass...)
	if got := d.sh("cat file"); got != "text\n" {
		t.Errorf("after all that the file is %q", got)
	}
	d.umount()
}

func (d *drive) planted(name string, isDir bool, pass []string) {
	d.t.Helper()
	p, path, aside := newPrey(d.t), d.path(name), d.path("aside")
	target, owner := p.file, 0
	if isDir {
		target, owner = p.dir, otherUser
	}
	err := os.Rename(path, aside)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a socket, which went with the daemon
	}
	if err := errors.Join(err, os.Symlink(target, path), os.Lchown(path, owner, owner)); err != nil {
		d.t.Fatal(err)
	}
	_, problem, code := d.run(append(append([]string{"mount", "-d"}, pass...), d.mnt)...)
	switch {
	case code == ExitOK: // it was put in the place of the link as a whole
		if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSymlink && isDir {
			d.t.Errorf("%s: mounted with a directory of somebody else's choice", name)
		}
		d.run("status")
		d.umount()
	case !strings.Contains(problem, "refused for safety") || !strings.Contains(problem, path):
		d.t.Errorf("%s: exit %d, and it does not say why: %s", name, code, problem)
	default:
		d.run("status")
		d.run("umount", d.mnt)
	}
	p.check(name)
	_ = os.RemoveAll(path)
	if err := os.Rename(aside, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
}

// TestForeignHome: root runs no drive whose home belongs to a user, and says what to do.
func TestForeignHome(t *testing.T) {
	t.Parallel()
	needRoot(t)
	d := newHome(t)
	d.init()
	p := newPrey(t)
	if err := os.WriteFile(d.path("config.toml"), []byte("ipfs = \"http://127.0.0.1:1\"\nipfs_auth_file = \""+p.file+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-hR", "65534:65534", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{
		{"mount", "-d", "--passfile", d.path("pass"), d.mnt}, {"mount", d.mnt}, {"status"}, {"umount", d.mnt}, {"login", "--passfile", d.path("pass")},
		{"config", "show"}, {"up", d.mnt}, {"destroy", "--yes"}, {"egress", "up"}, {"pins"},
	} {
		if says := d.fails(ExitUsage, args...); !strings.Contains(says, "belongs to") || !strings.Contains(says, "setuid=") {
			t.Errorf("%v does not say what to do: %s", args, says)
		}
	}
	d.ok("version")
	// Nor with a configuration, or a passphrase, of somebody else.
	mine := newHome(t)
	mine.init()
	if says := mine.fails(ExitUsage, "mount", "-d", "--config", d.path("config.toml"), "--passfile", mine.path("pass"), mine.mnt); !strings.Contains(says, "belongs to") {
		t.Errorf("--config: %s", says)
	}
	if says := mine.fails(ExitUsage, "mount", "-d", "--passfile", d.path("pass"), mine.mnt); !strings.Contains(says, "belongs to") {
		t.Errorf("--passfile: %s", says)
	}
	// Nor where a link of somebody else leads.
	if err := errors.Join(os.Symlink(p.dir, mine.path("theirs")), os.Lchown(mine.path("theirs"), otherUser, otherUser)); err != nil {
		t.Fatal(err)
	}
	if says := mine.fails(ExitUsage, "mount", "-d", "-o", "nonempty", "--passfile", mine.path("pass"), mine.path("theirs")); !strings.Contains(says, "belongs to") {
		t.Errorf("a mountpoint: %s", says)
	}
	p.check("a home of another user")
}

// TestSecretFiles: a passphrase that everybody can read is refused, by every command alike.
func TestSecretFiles(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	if err := os.Chmod(d.path("pass"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--phrase-out", d.path("phrase")}, {"device", "add"}} {
		if says := d.fails(ExitUsage, append(args, "--passfile", d.path("pass"))...); !strings.Contains(says, "chmod 600 "+d.path("pass")) {
			t.Errorf("%v: %s", args, says)
		}
	}
	if _, err := os.Lstat(d.path("phrase")); err == nil {
		t.Error("a phrase is left of an identity that was not made")
	}
	if err := os.Chmod(d.path("pass"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.init()
	if err := os.Chmod(d.path("phrase"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := newHome(t)
	if says := other.fails(ExitUsage, "init", "--phrase-in", d.path("phrase"), "--passfile", other.path("pass")); !strings.Contains(says, "chmod 600") {
		t.Errorf("--phrase-in: %s", says)
	}
}

// TestOutputs: what a command writes for a person follows no link and overwrites nothing.
func TestOutputs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := newPrey(t)
	d := newHome(t)
	d.init()
	d.login()
	for _, at := range []string{"link", "dangling"} {
		target := p.file
		if at == "dangling" {
			target = filepath.Join(p.dir, "new")
		}
		if err := os.Symlink(target, d.path(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.path("there"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := newHome(t)
	for _, at := range []string{"link", "dangling", "there"} {
		for _, c := range []struct {
			d    *drive
			args []string
		}{
			{fresh, []string{"init", "--passfile", fresh.path("pass"), "--phrase-out", d.path(at)}},
			{fresh, []string{"device", "add", "--passfile", fresh.path("pass"), "--request-out", d.path(at)}},
			{d, []string{"keystore", "slot", "add", "--passfile", d.path("pass"), "--key-out", d.path(at)}},
		} {
			if says := c.d.fails(ExitUsage, c.args...); !strings.Contains(says, "nothing is overwritten") {
				t.Errorf("%v: %s", c.args, says)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(fresh.home.Keystore, "keystore")); err == nil {
		t.Error("a keystore was made although its phrase could not be written")
	}
	// A link of somebody else on the way is not followed either.
	if err := errors.Join(os.Symlink(p.dir, d.path("theirs")), os.Lchown(d.path("theirs"), otherUser, otherUser)); err != nil {
		t.Fatal(err)
	}
	fresh.fails(ExitUsage, "device", "add", "--passfile", fresh.path("pass"), "--request-out", d.path("theirs/new"))
	p.check("outputs")
	if b, err := os.ReadFile(d.path("there")); err != nil || string(b) != "precious" {
		t.Errorf("overwritten: %q, %v", b, err)
	}
}

// TestSetuid: mount(8), as root, mounts a user's drive with the user's rights alone.
func TestSetuid(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "unshare", "setpriv", "mknod")
	d := newHome(t)
	p := newPrey(t)
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Log("fusermount3 is not installed: the drive is not mounted, but all that comes before is tried")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `umount -c -l -a -t fuse.ipfscloud || true # drives of other tests: this namespace would keep them mounted
mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
touch ipfscloud mount.ipfscloud; mount --bind "$1" ipfscloud; mount --bind "$1" mount.ipfscloud; chown -R 65534:65534 . 2>/dev/null || true
user() { setpriv --reuid=65534 --regid=65534 --clear-groups ./ipfscloud "$@"; }
user init --passfile pass --phrase-out phrase --kdf-passes 1 --kdf-memory 64
! ./mount.ipfscloud "$PWD" "$PWD/mnt" -o passfile="$PWD/pass" 2> problem; grep -q 'setuid=' problem
! ./mount.ipfscloud "$PWD" "$PWD/mnt" -o setuid=no-such-user,passfile="$PWD/pass" 2> problem; grep -q 'no such user' problem
! ./mount.ipfscloud "$PWD" "$PWD/mnt" -o setuid=65534,passfile="$2" 2> problem; grep -q 'ermission denied' problem
printf 'ipfs = "http://127.0.0.1:1"\nipfs_auth_file = "%s"\n' "$2" > evil.toml; chmod 644 evil.toml; chown 65534 evil.toml
! ./mount.ipfscloud "$PWD" "$PWD/mnt" -o setuid=65534,passfile="$PWD/pass",config="$PWD/evil.toml" 2> problem; grep -q 'ermission denied' problem
if ! command -v fusermount3; then # only root does without
	! ./mount.ipfscloud "$PWD" "$PWD/mnt" -o rw,setuid=65534,passfile="$PWD/pass" 2> problem; grep -q 'ordinary user' problem
	exit 0
fi
./mount.ipfscloud "$PWD" "$PWD/mnt" -o rw,setuid=65534,passfile="$PWD/pass"
pid=$(user status --json | grep -o '"pid":[0-9]*' | cut -d: -f2)
grep -q '^Uid:	65534	65534	65534	65534$' /proc/$pid/status; grep -q '^CapEff:	0000000000000000$' /proc/$pid/status
grep -q '^Gid:	65534	65534	65534	65534$' /proc/$pid/status; ! grep -qE '^Groups:.*\<0\>' /proc/$pid/status
setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo text > mnt/file; cat mnt/file'
umount mnt`
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-eux", "-c", script, "sh", self, p.file)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), mainEnv+"=1", daemon.HomeEnv+"="+d.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b, _ := os.ReadFile(d.path("problem"))
		t.Fatalf("%v: %s%s%s", err, out, b, d.log())
	}
	var st unix.Stat_t
	if err := unix.Lstat(d.home.LogFile(), &st); err != nil || st.Uid != otherUser {
		t.Errorf("the log belongs to %d, %v", st.Uid, err)
	}
	p.check("setuid")
}
