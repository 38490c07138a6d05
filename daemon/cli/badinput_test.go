package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each kind of bad input has its exit code and one clear line, and nothing is lost by it.

func (d *drive) write(path, text string) {
	d.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// says runs the program, wants an exit code and one line, and words in it.
func (d *drive) says(code int, words string, args ...string) {
	d.t.Helper()
	if line := d.fails(code, args...); !strings.Contains(line, words) {
		d.t.Errorf("ipfscloud %s says nothing of %q: %s", strings.Join(args, " "), words, line)
	}
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.says(ExitUsage, `"frobnicate"`, "frobnicate")
	d.says(ExitUsage, "-frob", "mount", "--frob", d.mnt)
	d.says(ExitUsage, "mountpoint", "mount")
	d.says(ExitUsage, "mountpoint", "mount", "a", "b")
	d.says(ExitUsage, "durability", "mount", "--durability", "eternal", d.mnt)
	d.says(ExitUsage, "phrase", "init", "--phrase-in", "a", "--phrase-out", "b")
	d.says(ExitUsage, "show | phrase", "id", "steal")
	d.says(ExitUsage, "durability", "sync", "--durability", "eternal")
	for _, c := range entries() {
		if _, problem, code := d.run(c.name, "--no-such-flag"); code != ExitUsage || strings.Count(problem, "\n") != 1 {
			t.Errorf("%s with an unknown flag: exit %d, %q", c.name, code, problem)
		}
		if out, problem, code := d.run(c.name, "--help"); code != ExitOK || problem != "" || !strings.Contains(out, "usage: ipfscloud "+c.name) {
			t.Errorf("%s --help: exit %d, %q%s", c.name, code, out, problem)
		}
	}
	if _, err := os.Stat(d.home.Keystore); err == nil {
		t.Error("a wrong command line made a keystore")
	}
}

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	for text, words := range map[string]string{
		"\x00\xff{{{":              "config.toml",
		"durability = 7":           "durability",
		"durability = \"sure\"":    "durability",
		"nodurability = \"ipfs\"":  "nodurability",
		"deadline = \"soon\"":      "soon",
		"deadline = \"1ms\"":       "deadline",
		"memory_mib = 1":           "memory_mib",
		"mount_options = \"frob\"": "frob",
	} {
		d.write(d.home.Config, text)
		d.says(ExitUsage, words, "mount", d.mnt)
		d.says(ExitUsage, words, "up", d.mnt)
	}
}

func TestNoIdentityNoSession(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	for _, c := range []string{"login", "status", "id show", "mount " + d.mnt, "mount -d " + d.mnt, "destroy --yes"} {
		d.says(ExitNotFound, "ipfscloud init", strings.Fields(c)...)
	}
	d.says(ExitRefused, "ipfscloud login", "whoami")
	for _, c := range []string{"umount " + d.mnt, "sync", "info " + d.mnt} {
		d.says(ExitNotFound, "not mounted", strings.Fields(c)...)
	}
	// Nobody would know the phrase.
	d.says(ExitUsage, "--phrase-out", "init", "--passfile", d.path("pass"))
	d.says(ExitUsage, "--phrase-out", "up", "--passfile", d.path("pass"), d.mnt)
	d.write(d.path("phrase"), "precious")
	d.says(ExitUsage, "new file", "init", "--passfile", d.path("pass"), "--phrase-out", d.path("phrase"))
	if b, err := os.ReadFile(d.path("phrase")); err != nil || string(b) != "precious" {
		t.Errorf("init wrote over a file that was there: %q, %v", b, err)
	}
	d.says(ExitUsage, "--passfile", "init", "--phrase-out", d.path("phrase2"))
	d.write(d.path("empty"), "\n")
	d.says(ExitUsage, "no passphrase", "init", "--phrase-out", d.path("phrase2"), "--passfile", d.path("empty"))
	if _, err := os.Stat(d.path("phrase2")); err == nil {
		t.Error("a phrase file was left though no identity was made")
	}
	d.write(d.path("bad"), strings.Repeat("abandon ", 24))
	d.says(ExitUsage, "checksum", "init", "--passfile", d.path("pass"), "--phrase-in", d.path("bad"))
	d.write(d.path("short"), "abandon ability")
	d.says(ExitUsage, "2 words", "init", "--passfile", d.path("pass"), "--phrase-in", d.path("short"))
}

func TestBadKeystore(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.init()
	if st, err := os.Stat(d.path("phrase")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the phrase's file: %v, %v", st, err)
	}
	d.says(ExitRefused, "ipfscloud login", "mount", d.mnt)
	d.says(ExitRefused, "ipfscloud login", "mount", "-d", d.mnt)
	for _, c := range []string{"login", "mount", "mount -d", "up"} {
		args := append(strings.Fields(c), "--passfile", d.path("wrong"))
		if c != "login" {
			args = append(args, d.mnt)
		}
		d.says(ExitRefused, "wrong passphrase", args...)
	}
	d.says(ExitFailure, "already exists", "init", "--passfile", d.path("pass"), "--phrase-out", d.path("other"))
	if _, err := os.Stat(d.path("other")); err == nil {
		t.Error("a second init left a phrase file")
	}
	files, err := filepath.Glob(filepath.Join(d.home.Keystore, "*.keystore"))
	if err != nil || len(files) != 1 {
		t.Fatalf("keystore files: %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "truncated": whole[:len(whole)/2], "one byte short": whole[:len(whole)-1],
		"altered": append(append([]byte{}, whole[:len(whole)-1]...), whole[len(whole)-1]^1),
	} {
		d.write(files[0], string(b))
		d.says(ExitIntegrity, "damaged", "login", "--passfile", d.path("pass"))
		if t.Failed() {
			t.Fatal("keystore: ", name)
		}
	}
	d.write(files[0], string(whole))
	d.login() // nothing was lost
	d.ok("logout")
}

func TestBadMountpoints(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.init()
	d.login()
	d.write(d.path("file"), "")
	full := d.path("full")
	if err := os.MkdirAll(filepath.Join(full, "something"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, detach := range []string{"--durability=local", "-d"} { // in the foreground too
		d.says(ExitNotFound, "does not exist", "mount", detach, d.path("missing"))
		d.says(ExitMount, "not a directory", "mount", detach, d.path("file"))
		d.says(ExitMount, "not empty", "mount", detach, full)
		d.says(ExitUsage, "frob", "mount", detach, "-o", "frob", d.mnt)
	}
	d.mount()
	second := d.path("second")
	if err := os.Mkdir(second, 0o755); err != nil {
		t.Fatal(err)
	}
	d.says(ExitBusy, "mounted", "mount", "-d", d.mnt)
	d.says(ExitBusy, "another daemon", "mount", "-d", second)
	d.says(ExitBusy, "umount", "logout")
	d.says(ExitBusy, "unmount", "destroy", "--yes")
	d.says(ExitNotFound, "not at", "umount", second)
	d.says(ExitNotFound, "not on the drive", "info", second)
	d.says(ExitNotFound, "not found", "info", d.on("missing"))

	// In use it stays, and goes on.
	d.write(d.on("file"), "text")
	f, err := os.Open(d.on("file"))
	if err != nil {
		t.Fatal(err)
	}
	d.says(ExitBusy, "in use", "umount", d.mnt)
	if b, err := os.ReadFile(d.on("file")); err != nil || string(b) != "text" {
		t.Errorf("after a refused umount: %q, %v", b, err)
	}
	f.Close()
	d.umount()
	d.ok("logout")
	d.says(ExitRefused, "login", "whoami")
}

// A node that refuses and one that never answers are told from each other by nothing but
// the time they take, which has a limit.
func TestBadIPFSNode(t *testing.T) {
	t.Parallel()
	d := newHome(t)
	d.init()
	d.login()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hanging := "http://" + l.Addr().String() // the kernel accepts, nobody answers
	start := time.Now()
	d.says(ExitUnavailable, "IPFS node", "mount", "-d", "--ipfs", hanging, d.mnt)
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("a node that hangs held mount for %v", took)
	}
	l.Close()
	d.says(ExitUnavailable, "IPFS node", "mount", "-d", "--ipfs", hanging, d.mnt)
	d.says(ExitUsage, "nonsense", "mount", "-d", "--ipfs", "nonsense://", d.mnt)
	d.write(d.home.Config, "ipfs = \""+hanging+"\"\n")
	d.says(ExitUnavailable, "IPFS node", "mount", d.mnt)
	d.write(d.home.Config, "")
	d.mount() // with its own node again
	d.umount()
}
