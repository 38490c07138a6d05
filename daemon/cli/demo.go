package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// demoCommand shows the whole job in a throw-away home. The drive is served by another
// process: a program must never touch a mount that it serves itself.
type demoCommand struct{ keep bool }

func (c *demoCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.keep, "keep", false, "leave the throw-away home for a look")
}
func (c *demoCommand) parse(args []string) error { return noArgs(args) }

const demoWait = 5 * time.Minute

// demo is one run.
type demo struct {
	e    *env
	dir  string // holds everything
	home daemon.Home
	mnt  string
	self string
	sums string // checksums of the files, before
}

func (c *demoCommand) run(ctx context.Context, e *env) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	d := &demo{e: e}
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "ipfscloud-demo-"); err != nil {
		return err
	}
	d.home, d.mnt = daemon.HomeAt(d.dir), filepath.Join(d.dir, "drive")
	defer func() {
		if end := d.end(c.keep); end != nil {
			err = errors.Join(err, end)
		}
		if err == nil {
			fmt.Fprintln(e.out, "All of it held.")
		}
	}()
	for _, step := range []func(context.Context) error{d.identity, d.mount, d.write, d.stored, d.wipe, d.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.e.out, format+"\n", a...) }

// ipfscloud runs this program on the throw-away home.
func (d *demo) ipfscloud(ctx context.Context, args ...string) (string, error) {
	return d.program(ctx, d.self, args...)
}

func (d *demo) program(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), daemon.HomeEnv+"="+d.dir, "GIT_CONFIG_NOSYSTEM=1", "HOME="+d.dir,
		"GIT_AUTHOR_NAME=demo", "GIT_AUTHOR_EMAIL=demo@localhost", "GIT_COMMITTER_NAME=demo", "GIT_COMMITTER_EMAIL=demo@localhost")
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (d *demo) passfile() string { return filepath.Join(d.dir, "passphrase") }

func (d *demo) identity(ctx context.Context) error {
	secret := make([]byte, 16)
	rand.Read(secret)
	if err := os.WriteFile(d.passfile(), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return err
	}
	did, err := d.ipfscloud(ctx, "init", "--passfile", d.passfile(), "--phrase-out", filepath.Join(d.dir, "phrase"))
	if err != nil {
		return err
	}
	d.say("1. An identity was made:      %s", did)
	if _, err := d.ipfscloud(ctx, "login", "--passfile", d.passfile()); err != nil {
		return err
	}
	d.say("2. Logged in:                 the device's key answered a fresh challenge, checked against the DID's document")
	return nil
}

func (d *demo) mount(ctx context.Context) error {
	if err := os.MkdirAll(d.mnt, 0o755); err != nil {
		return err
	}
	if _, err := d.ipfscloud(ctx, "mount", "-d", d.mnt); err != nil {
		return err
	}
	s, err := d.status(ctx)
	if err != nil {
		return err
	}
	d.say("3. Mounted:                   %s, on an IPFS node of its own (%s, Kubo %s)", d.mnt, s.Store.Kind, s.Store.Version)
	return nil
}

func (d *demo) status(ctx context.Context) (s daemon.Status, err error) {
	out, err := d.ipfscloud(ctx, "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// write lets ordinary programs write.
func (d *demo) write(ctx context.Context) error {
	script := `set -e; cd "$1"
mkdir -p notes/deep; echo "a secret that nobody else may read" > notes/secret.txt
i=0; while [ $i -lt 200 ]; do echo "file $i" > notes/deep/file$i.txt; i=$((i+1)); done
head -c 3000000 /dev/urandom > picture.raw; ln notes/secret.txt second-name; ln -s notes/secret.txt link
tar -cf notes.tar notes; cp -a notes copy; mv copy/deep copy/renamed; chmod 600 notes/secret.txt`
	if _, err := d.program(ctx, "sh", "-c", script, "sh", d.mnt); err != nil {
		return err
	}
	used := []string{"sh", "tar", "cp", "mv"}
	if _, err := exec.LookPath("git"); err == nil {
		script := `set -e; cd "$1"; git init -q repo; cp -a notes repo/; cd repo; git add .; git commit -qm first; git fsck --strict`
		if _, err := d.program(ctx, "sh", "-c", script, "sh", d.mnt); err != nil {
			return err
		}
		used = append(used, "git")
	}
	if _, err := exec.LookPath("sqlite3"); err == nil {
		out, err := d.program(ctx, "sqlite3", filepath.Join(d.mnt, "data.db"),
			"create table t(a); insert into t values(1),(2),(3); pragma integrity_check;")
		if err != nil {
			return err
		}
		if out != "ok" {
			return fmt.Errorf("sqlite3 says %q", out)
		}
		used = append(used, "sqlite3")
	}
	var err error
	if d.sums, err = d.checksums(ctx); err != nil {
		return err
	}
	d.say("4. Written with %-14s %d files", strings.Join(used, ", ")+":", strings.Count(d.sums, " f "))
	return nil
}

func (d *demo) checksums(ctx context.Context) (string, error) {
	return d.program(ctx, "sh", "-c", `cd "$1" && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k2 && find . -printf '%p %y %m %n %l\n' | LC_ALL=C sort`, "sh", d.mnt)
}

// stored shows what IPFS has: ciphertext under random names.
func (d *demo) stored(ctx context.Context) error {
	if _, err := d.ipfscloud(ctx, "sync"); err != nil {
		return err
	}
	s, err := d.status(ctx)
	if err != nil {
		return err
	}
	out, err := d.ipfscloud(ctx, "info", "--json", filepath.Join(d.mnt, "picture.raw"))
	if err != nil {
		return err
	}
	var i daemon.PathInfo
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		return err
	}
	if len(i.Blocks) == 0 || i.State != "committed" {
		return fmt.Errorf("picture.raw is not committed: %s", out)
	}
	d.say("5. Committed in IPFS:         number %d, %s", s.Commit.Sequence, s.Commit.CID)
	d.say("   picture.raw is             %d blobs, the first %s", len(i.Blocks), i.Blocks[0])
	names, err := d.node(ctx, "ls?arg="+url.QueryEscape("/ipfs/"+s.Commit.CID+"/root"))
	if err != nil {
		return err
	}
	var listing struct {
		Objects []struct{ Links []struct{ Name string } }
	}
	if err := json.Unmarshal(names, &listing); err != nil {
		return err
	}
	var seen []string
	for _, o := range listing.Objects {
		for _, l := range o.Links {
			seen = append(seen, l.Name)
		}
	}
	if len(seen) == 0 {
		return errors.New("the node lists nothing below the commit")
	}
	d.say("   an IPFS tool sees names    like %s", strings.Join(seen[:min(3, len(seen))], " "))
	found, err := d.plaintext()
	if err != nil {
		return err
	}
	if found != "" {
		return fmt.Errorf("plaintext lies in %s", found)
	}
	d.say("6. Searched what is stored:   no name and no byte of the files is there in the clear")
	return nil
}

// node asks the embedded node's RPC.
func (d *demo) node(ctx context.Context, call string) ([]byte, error) {
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var n net.Dialer
		return n.DialContext(ctx, "unix", d.home.IPFSSocket())
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://ipfs/api/v0/"+call, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the IPFS node: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the IPFS node answers %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return b, err
}

// plaintext searches everything but the mount for what must not be there.
func (d *demo) plaintext() (string, error) {
	secrets := [][]byte{[]byte("a secret that nobody"), []byte("secret.txt"), []byte("second-name")}
	found := ""
	for _, top := range []string{d.home.IPFS, d.home.Journal, d.home.State, d.home.Staging, d.home.Cache} {
		err := filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return ignoreMissing(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return ignoreMissing(err)
			}
			for _, s := range secrets {
				if bytes.Contains(b, s) || strings.Contains(e.Name(), string(s)) {
					found = path
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return found, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (d *demo) unmount(ctx context.Context) error {
	_, err := d.ipfscloud(ctx, "umount", "--flush", d.mnt)
	return err
}

// wipe leaves the keys and the node only.
func (d *demo) wipe(ctx context.Context) error {
	if err := d.unmount(ctx); err != nil {
		return err
	}
	for _, dir := range []string{d.home.Journal, d.home.State, d.home.Staging, d.home.Cache} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	d.say("7. Unmounted, and wiped:      journal, local state and cache; the keys and the IPFS node are left")
	if _, err := d.ipfscloud(ctx, "mount", "-d", "--accept-missing-state", d.mnt); err != nil {
		return err
	}
	d.say("8. Mounted again:             from IPFS alone")
	return nil
}

func (d *demo) compare(ctx context.Context) error {
	sums, err := d.checksums(ctx)
	if err != nil {
		return err
	}
	if sums != d.sums {
		return errors.New("what was read back is not what was written")
	}
	d.say("9. Compared:                  every checksum, name, mode and link is the same")
	return d.unmount(ctx)
}

// end leaves nothing behind, however the run went: also a background process that was
// still on its way when the run was broken off.
func (d *demo) end(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if err := d.stop(ctx); err != nil {
		errs = append(errs, err)
		if u := syscall.Unmount(d.mnt, syscall.MNT_DETACH); u != nil {
			_, _ = d.program(ctx, "fusermount3", "-u", "-z", d.mnt)
		}
	}
	if _, err := d.ipfscloud(ctx, "logout"); err != nil {
		errs = append(errs, err)
	}
	if keep {
		d.say("Kept: %s", d.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// stop returns when no daemon has the drive.
func (d *demo) stop(ctx context.Context) error {
	if _, err := os.Stat(d.home.State); errors.Is(err, os.ErrNotExist) {
		return nil // there never was one
	}
	for {
		var asked error
		if c, err := daemon.Connect(ctx, d.home); err == nil {
			asked = c.Unmount(ctx, false)
		}
		moment, cancel := context.WithTimeout(ctx, time.Second)
		err := daemon.AwaitEnd(moment, d.home)
		cancel()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, asked)
		}
	}
}
