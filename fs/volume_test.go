package fs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

var makeVolume = flag.Bool("make-volume", false, "write the stored volume of the current format version anew")

const (
	volumeFile = "testdata/volume-v2.tar" // of the versions of today
	volumeSeed = "volume-v1"
)

// volumeContent is what the stored volume holds.
func volumeContent() map[string][]byte {
	return map[string][]byte{
		"empty":  {},
		"inline": []byte("a small file lives in its directory's page\n"),
		"packed": bytes.Repeat([]byte("packed "), 1000),
		"blob":   bytes.Repeat([]byte("a blob of its own "), 5000),
		"sparse": append(append(bytes.Repeat([]byte("begin "), 500), make([]byte, 200000)...), bytes.Repeat([]byte("end"), 900)...),
	}
}

// The volumes that older programs wrote open, and hold what they held. One is made for each
// version of pages and records, with -make-volume, and kept.
func TestStoredVolume(t *testing.T) {
	if *makeVolume {
		storeVolume(t)
	}
	for _, file := range []string{"testdata/volume-v1.tar", volumeFile} {
		t.Run(filepath.Base(file), func(t *testing.T) { openVolume(t, file) })
	}
}

func openVolume(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	store := fstest.NewMemory()
	var name fs.CommitName
	var commit fs.CID
	var all []fs.CID
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "commit" {
			var cid string
			if _, err := fmt.Sscan(string(b), &name.Vault, &name.Device, &name.Sequence, &cid); err != nil {
				t.Fatal(err)
			}
			if commit, err = crypt.ParseCID(cid); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cid, err := crypt.ParseCID(h.Name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cid)
		if err := store.Put(ctx, []fs.Block{{CID: cid, Data: b}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Link(ctx, name, commit, all); err != nil {
		t.Fatal(err)
	}
	id, err := fstest.NewIdentity(volumeSeed)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tree, err := fs.Open(ctx, fs.Config{Store: store, Identity: id, Vault: name.Vault,
		StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	checkVolume(t, tree)
	// And it can be written on. What did not change is still there then, in the pages of today.
	if _, err := tree.Mkdir(ctx, fs.RootIno, "new", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	both, err := tree.Lookup(ctx, fs.RootIno, "blob") // has two names: its record is in the table
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.SetXattr(ctx, both.Ino, "user.more", []byte("yes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(ctx); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	tree, err = fs.Open(ctx, fs.Config{Store: store, Identity: id, Vault: name.Vault,
		StateDir: filepath.Join(dir, "state"), JournalDir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	checkVolume(t, tree)
	if v, err := tree.GetXattr(ctx, both.Ino, "user.more"); err != nil || string(v) != "yes" {
		t.Fatalf("%q, %v", v, err)
	}
}

func checkVolume(t *testing.T, tree *fs.Tree) {
	t.Helper()
	if bad := readAll(t, tree, volumeContent()); bad > 0 {
		t.Fatalf("%d files cannot be read", bad)
	}
	a, err := tree.Lookup(ctx, fs.RootIno, "blob")
	if err != nil || a.Mode != fs.ModeRegular|0o640 || a.UID != 1000 || a.GID != 100 || a.Nlink != 2 || a.Mtime != 1234567890123456789 {
		t.Fatalf("%+v, %v", a, err)
	}
	if v, err := tree.GetXattr(ctx, a.Ino, "user.kind"); err != nil || string(v) != "blob" {
		t.Fatalf("%q, %v", v, err)
	}
	d, err := tree.Lookup(ctx, fs.RootIno, "dir")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := tree.Lookup(ctx, d.Ino, "second-name"); err != nil || l.Ino != a.Ino {
		t.Fatalf("%+v, %v", l, err)
	}
	s, err := tree.Lookup(ctx, d.Ino, "link")
	if err != nil {
		t.Fatal(err)
	}
	if to, err := tree.Readlink(ctx, s.Ino); err != nil || to != "../inline" {
		t.Fatalf("%q, %v", to, err)
	}
	sp, err := tree.Lookup(ctx, fs.RootIno, "sparse")
	if err != nil {
		t.Fatal(err)
	}
	if hole, err := tree.Seek(ctx, sp.Ino, 0, fs.SeekHole); err != nil || hole != 4096 {
		t.Fatalf("the hole begins at %d, %v", hole, err)
	}
}

// storeVolume writes the volume and packs the store's blocks into a tar file.
func storeVolume(t *testing.T) {
	store := fstest.NewMemory()
	id, err := fstest.NewIdentity(volumeSeed)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := fs.Config{Store: store, Identity: id, StateDir: filepath.Join(dir, "s"), JournalDir: filepath.Join(dir, "j")}
	if cfg.Vault, err = fs.Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	fillVolume(t, tree)
	if err := tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		t.Fatal(err)
	}
	head := tree.Status().Commit
	tree.Abort()
	names, err := store.Commits(ctx, cfg.Vault)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names[:len(names)-1] {
		if err := store.Unlink(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	store.Collect()
	if err := os.MkdirAll(filepath.Dir(volumeFile), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(volumeFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(name string, b []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	add("commit", []byte(fmt.Sprintln(cfg.Vault, head.Device, head.Sequence, head.Commit)))
	for _, c := range store.CIDs() {
		b, err := store.Get(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		add(c.String(), b)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func fillVolume(t *testing.T, tree *fs.Tree) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range volumeContent() {
		a, err := tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o640, 0, fs.Owner{UID: 1000, GID: 100})
		must(err)
		if name == "sparse" {
			_, err = tree.Write(ctx, a.Ino, 203000, b[203000:])
			must(err)
			b = b[:3000]
		}
		_, err = tree.Write(ctx, a.Ino, 0, b)
		must(err)
	}
	a, err := tree.Lookup(ctx, fs.RootIno, "blob")
	must(err)
	must(tree.SetXattr(ctx, a.Ino, "user.kind", []byte("blob"), 0))
	d, err := tree.Mkdir(ctx, fs.RootIno, "dir", 0o750, fs.Owner{})
	must(err)
	_, err = tree.Link(ctx, a.Ino, d.Ino, "second-name")
	must(err)
	when := int64(1234567890123456789)
	_, err = tree.SetAttr(ctx, a.Ino, fs.SetAttr{Mtime: &when})
	must(err)
	_, err = tree.Symlink(ctx, d.Ino, "link", "../inline", fs.Owner{})
	must(err)
}
