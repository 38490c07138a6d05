package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// sample writes files of every kind and returns what they hold.
func (d *drive) sample() map[string][]byte {
	d.t.Helper()
	want := map[string][]byte{}
	for i := range 5 {
		if err := os.Mkdir(d.on(fmt.Sprint("dir", i)), 0o755); err != nil {
			d.t.Fatal(err)
		}
		for name, size := range map[string]int{"small": 100, "packed": 9000, "packed2": 30000, "blob": 200000, "large": 2500000} {
			b := bytes.Repeat([]byte(fmt.Sprintf("%s %d ", name, i)), size/6)
			want[fmt.Sprintf("dir%d/%s", i, name)] = b
		}
	}
	for name, b := range want {
		if err := os.WriteFile(d.on(name), b, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	d.ok("sync")
	return want
}

// readable reads all files and returns how many there are; wrong bytes fail the test, and
// so does an error other than EIO.
func (d *drive) readable(want map[string][]byte) (good int) {
	d.t.Helper()
	for name, b := range want {
		got, err := os.ReadFile(d.on(name))
		switch {
		case err == nil && bytes.Equal(got, b):
			good++
		case err == nil:
			d.t.Fatalf("%s was served with wrong bytes", name)
		case !errors.Is(err, syscall.EIO):
			d.t.Fatalf("%s: %v", name, err)
		}
	}
	return good
}

func blockFiles(t *testing.T, repo string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Join(repo, "blocks"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".data") {
			out = append(out, path)
		}
		return err
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("%d blocks, %v", len(out), err)
	}
	return out
}

// Blocks in the node's repo are flipped, cut, swapped and lost, one after the other. Each
// time the daemon says so, serves no wrong byte, and serves what is whole.
func TestTamperedRepo(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	want := d.sample()
	d.umount()
	blocks := blockFiles(t, d.home.IPFS)
	seen := map[string]int{}
	for i, path := range blocks {
		how := []string{"flip", "cut", "swap", "lose"}[i%4]
		whole := mustRead(t, path)
		if len(whole) < 200 { // nodes that only say which links there are
			continue
		}
		bad := bytes.Clone(whole)
		var err error
		switch how {
		case "flip":
			bad[len(bad)/2] ^= 1
			err = os.WriteFile(path, bad, 0o600)
		case "cut":
			err = os.WriteFile(path, bad[:len(bad)/2], 0o600)
		case "swap":
			err = os.WriteFile(path, mustRead(t, blocks[(i+1)%len(blocks)]), 0o600)
		case "lose":
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[d.tampered(how, filepath.Base(path), want)]++
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d blocks: %v", len(blocks), seen)
	if seen["part"] == 0 || seen["refused"]+seen["older"]+seen["none"] == 0 {
		t.Fatalf("the test reached too little: %v", seen)
	}
	d.mount()
	if good := d.readable(want); good != len(want) {
		t.Fatalf("with every block whole again, %d of %d files are readable", good, len(want))
	}
}

// tampered mounts a drive with one bad block, read-only so that nothing mends it, and
// tells how far it works.
func (d *drive) tampered(how, block string, want map[string][]byte) string {
	d.t.Helper()
	_, problem, code := d.run("mount", "-d", "-o", "ro", d.mnt)
	if code != ExitOK {
		if code != ExitIntegrity && code != ExitNotFound {
			d.t.Errorf("%s of %s: mount ends with %d: %s", how, block, code, problem)
		}
		return "refused"
	}
	defer d.ok("umount", d.mnt)
	if s := d.status(); s.State == "read-only" && len(s.Alerts) > 0 {
		return "older" // the newest commit cannot be read, and this is said
	}
	good := d.readable(want)
	if good == len(want) {
		return "not needed"
	}
	if alerts := d.status().Alerts; len(alerts) == 0 {
		d.t.Errorf("%s of %s: %d files cannot be read, and no alert", how, block, len(want)-good)
	}
	if good == 0 {
		return "none"
	}
	return "part"
}

// The whole repo is put back to an earlier state: the drive says that it was rolled back,
// and does not let anybody write.
func TestReplayedRepo(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	want := d.sample()
	d.umount()
	old := filepath.Join(d.dir, "old-repo")
	if err := os.CopyFS(old, os.DirFS(d.home.IPFS)); err != nil {
		t.Fatal(err)
	}
	d.mount()
	if err := os.WriteFile(d.on("newer"), []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.umount()
	newer := filepath.Join(d.dir, "newer-repo")
	if err := errors.Join(os.Rename(d.home.IPFS, newer), os.Rename(old, d.home.IPFS)); err != nil {
		t.Fatal(err)
	}
	d.mount()
	s := d.status()
	if s.State != "read-only" || len(s.Alerts) == 0 || !strings.Contains(s.Alerts[0], "rolled back") {
		t.Fatalf("%+v", s)
	}
	if err := os.WriteFile(d.on("x"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("writing: %v", err)
	}
	if good := d.readable(want); good != len(want) {
		t.Fatalf("%d of %d files are readable", good, len(want))
	}
	d.ok("umount", d.mnt)
	if err := errors.Join(os.RemoveAll(d.home.IPFS), os.Rename(newer, d.home.IPFS)); err != nil {
		t.Fatal(err)
	}
	d.mount()
	if b, err := os.ReadFile(d.on("newer")); err != nil || string(b) != "newer" {
		t.Fatalf("%q, %v", b, err)
	}
	if s := d.status(); s.State != "mounted" {
		t.Fatalf("%+v", s)
	}
}

var label = regexp.MustCompile(`^[a-z2-7]{16}$`)

// What an IPFS tool sees: a tree of random labels, which it can pin whole, offline.
func TestNodeSeesLabelsAndPins(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	d.sample()
	d.sh(`mkdir -p a/b/c; echo deep > a/b/c/file; ln a/b/c/file linked; ln -s a soft`)
	d.ok("sync")
	commit := d.status().Commit.CID
	seen := 0
	var walk func(path string, depth int)
	walk = func(path string, depth int) {
		var out struct {
			Objects []struct {
				Links []struct {
					Name, Hash string
					Type       int
				}
			}
		}
		b, err := d.rpc("ls?offline=true&resolve-type=true&arg=" + path)
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out.Objects {
			for _, l := range o.Links {
				seen++
				top := depth == 0 && (l.Name == "did" || l.Name == "head" || l.Name == "keyring" || l.Name == "root")
				if !top && l.Name != "" && !label.MatchString(l.Name) {
					t.Fatalf("%s links %q", path, l.Name)
				}
				if l.Type == 1 {
					walk(l.Hash, depth+1)
				}
			}
		}
	}
	walk(commit, 0)
	if seen < 30 {
		t.Fatalf("only %d links were seen", seen)
	}
	b, err := d.rpc("pin/add?recursive=true&offline=true&arg=" + commit)
	if err != nil || !bytes.Contains(b, []byte(commit)) {
		t.Fatalf("pinning: %s, %v", b, err)
	}
	if b, err := d.rpc("files/ls?arg=/ipfscloud/" + d.status().Vault); err != nil {
		t.Fatalf("%s, %v", b, err)
	}
}
