package ipfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/kubo/repo/fsrepo/migrations"

	icfs "github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func openError(t *testing.T, dir string) error {
	t.Helper()
	e, err := OpenEmbedded(testContext(t), EmbeddedConfig{RepoDir: filepath.Join(dir, "repo")})
	if err == nil {
		must(t, e.Close())
	}
	return err
}

func TestEmbeddedBusy(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	wantErr(t, "a second store in this process", openError(t, dir), icfs.ErrBusy)
	must(t, e.Close())
	must(t, openError(t, dir))

	d := newDaemon(t, "")
	wantErr(t, "the repo of a running daemon", openError(t, d.dir), icfs.ErrBusy)
	d.kill(t) // leaves its lock and its api file
	must(t, openError(t, d.dir))
}

func TestEmbeddedRepoVersions(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	blocks := fstest.Commit(2, 64)
	putAndLink(t, e, 1, blocks)
	must(t, e.Close())
	repo := filepath.Join(dir, "repo")
	for _, old := range []int{16, 17} {
		must(t, migrations.WriteRepoVersion(repo, old))
		e := openTest(t, dir)
		wantBlocks(t, e, blocks)
		if got, err := e.Resolve(testContext(t), commitName(1)); err != nil || got != last(blocks) {
			t.Fatalf("after the upgrade from %d: %s, %v", old, got, err)
		}
		wantPrivate(t, repo)
		must(t, e.Close())
	}
	for _, bad := range []int{15, 19} {
		must(t, migrations.WriteRepoVersion(repo, bad))
		err := openError(t, dir)
		wantErr(t, fmt.Sprintf("version %d", bad), err, icfs.ErrNotSupported)
		if !strings.Contains(err.Error(), fmt.Sprint(bad)) {
			t.Fatalf("the error %q does not name the version", err)
		}
	}
}

// wantPrivate checks that a repo's settings reach for no network.
func wantPrivate(t *testing.T, repo string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repo, "config"))
	must(t, err)
	var conf struct {
		Addresses struct{ Swarm, Announce []string }
		Bootstrap []string
		AutoConf  struct{ Enabled *bool }
		AutoTLS   struct{ Enabled *bool }
		Provide   struct{ Enabled *bool }
		Discovery struct{ MDNS struct{ Enabled bool } }
		Routing   struct {
			Type             string
			DelegatedRouters []string
		}
		Plugins struct {
			Plugins map[string]struct{ Disabled bool }
		}
	}
	must(t, json.Unmarshal(b, &conf))
	off := func(b *bool) bool { return b != nil && !*b }
	if len(conf.Addresses.Swarm)+len(conf.Bootstrap)+len(conf.Routing.DelegatedRouters) > 0 ||
		!off(conf.AutoConf.Enabled) || !off(conf.AutoTLS.Enabled) || !off(conf.Provide.Enabled) ||
		conf.Discovery.MDNS.Enabled || conf.Routing.Type != "none" || !conf.Plugins.Plugins["telemetry"].Disabled {
		t.Fatalf("the settings of the repo: %+v", conf)
	}
	if strings.Contains(string(b), `"auto"`) {
		t.Fatalf("the settings of the repo have an automatic value:\n%s", b)
	}
}

// TestEmbeddedHalfMade opens a repo whose maker died after each of the files it writes.
func TestEmbeddedHalfMade(t *testing.T) {
	whole := shortDir(t)
	must(t, openTest(t, whole).Close())
	for _, files := range [][]string{{"config"}, {"config", "datastore_spec"}, {"version"}} {
		dir := shortDir(t)
		must(t, os.Mkdir(filepath.Join(dir, "repo"), 0o700))
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(whole, "repo", f))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "repo", f), b, 0o600))
		}
		putAndLink(t, openTest(t, dir), 1, fstest.Commit(1, 64))
	}
}

// TestEmbeddedShardFileEmpty opens a repo after a power cut in the second it was made.
func TestEmbeddedShardFileEmpty(t *testing.T) {
	for _, damage := range []func(string) error{os.Remove, func(p string) error { return os.Truncate(p, 0) }} {
		dir := shortDir(t)
		e := openTest(t, dir)
		blocks := fstest.Commit(1, 64)
		putAndLink(t, e, 1, blocks)
		must(t, e.Close())
		must(t, damage(filepath.Join(dir, "repo", blocksDir, "SHARDING")))
		wantBlocks(t, openTest(t, dir), blocks)
	}
}

func TestEmbeddedSocket(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	blocks := fstest.Commit(3, 4096)
	putAndLink(t, e, 7, blocks)
	socket := filepath.Join(dir, "api.sock")
	info, err := os.Stat(socket)
	must(t, err)
	if info.Mode() != 0o600|fs.ModeSocket {
		t.Fatalf("the socket has mode %v", info.Mode())
	}
	if got := filesLs(t, socket, "/ipfscloud/v/d"); !slices.Equal(got, []string{"0000000000000007"}) {
		t.Fatalf("files ls: %v", got)
	}
	if status, body := post(t, socket, "pin/add", "arg="+last(blocks).String(), "recursive=true"); status != http.StatusOK {
		t.Fatalf("pin add: %d %s", status, body)
	}
	if status, _ := post(t, socket, "shutdown"); status != http.StatusForbidden {
		t.Fatalf("shutdown: %d", status)
	}
	out, err := ipfs(t, filepath.Join(dir, "repo"), "refs", "local").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bafk") {
		t.Fatalf("the ipfs program through the api file: %v\n%s", err, out)
	}
	must(t, e.Close())
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket after Close: %v", err)
	}
}

// TestEmbeddedCollectionTakesGarbage makes sure that the other tests of the collection
// have one that collects, and that only what waits is spared.
func TestEmbeddedCollectionTakesGarbage(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	socket := filepath.Join(dir, "api.sock")
	garbage, waiting := fstest.Commit(2, 64), fstest.Commit(2, 64)
	must(t, e.Put(testContext(t), append(garbage, waiting...)))
	must(t, e.pending.remove(cidsOf(garbage)))
	repoGC(t, socket)
	for _, b := range garbage {
		if has, err := e.Has(testContext(t), b.CID); err != nil || has {
			t.Errorf("garbage %s: %v, %v", b.CID, has, err)
		}
	}
	wantBlocks(t, e, waiting)
	if got := len(e.Uncommitted()); got != len(waiting) {
		t.Errorf("%d blocks wait, want %d", got, len(waiting))
	}
	if status, _ := post(t, socket, "block/rm", "arg="+waiting[0].CID.String()); status != http.StatusOK {
		t.Errorf("block rm: %d", status)
	}
	wantBlocks(t, e, waiting)
	must(t, e.Free(testContext(t), cidsOf(waiting)))
	if got := e.Uncommitted(); len(got) != 0 {
		t.Errorf("freed blocks wait: %v", got)
	}
}

// TestEmbeddedLinkWaitsForCollection holds the collection's lock: Put and Get go on, Link
// gives up at its deadline and works afterwards.
func TestEmbeddedLinkWaitsForCollection(t *testing.T) {
	e := openTest(t, shortDir(t))
	lock := e.node.Blockstore.GCLock(testContext(t))
	blocks := fstest.Commit(2, 64)
	must(t, e.Put(testContext(t), blocks))
	must(t, e.Sync(testContext(t)))
	wantBlocks(t, e, blocks)
	short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	wantErr(t, "link during a collection",
		e.Link(short, commitName(1), last(blocks), cidsOf(blocks)), icfs.ErrUnavailable)
	lock.Unlock(testContext(t))
	must(t, e.Link(testContext(t), commitName(1), last(blocks), cidsOf(blocks)))
}

// TestEmbeddedUnreadableRoot damages each directory above a commit as a power cut does.
func TestEmbeddedUnreadableRoot(t *testing.T) {
	for depth, damaged := range []string{"/", "/ipfscloud", "/ipfscloud/v", "/ipfscloud/v/d"} {
		for _, damage := range []struct {
			name string
			do   func(path string) error
		}{
			{"empty", func(path string) error { return os.Truncate(path, 0) }},
			{"missing", os.Remove},
			{"garbled", func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) }},
		} {
			t.Run(fmt.Sprint(depth, damage.name), func(t *testing.T) {
				dir := shortDir(t)
				e := openTest(t, dir)
				socket := filepath.Join(dir, "api.sock")
				blocks := fstest.Commit(2, 64)
				putAndLink(t, e, 1, blocks)
				post(t, socket, "files/mkdir", "arg=/mine")
				status, body := post(t, socket, "files/stat", "arg="+damaged)
				var stat struct{ Hash string }
				if err := json.Unmarshal([]byte(body), &stat); err != nil || status != http.StatusOK {
					t.Fatalf("stat: %d %s", status, body)
				}
				must(t, e.Close())
				must(t, damage.do(blockFileOf(t, filepath.Join(dir, "repo"), stat.Hash)))

				e = openTest(t, dir)
				if !e.Recovered() {
					t.Fatal("the damage was not seen")
				}
				if names, err := e.Commits(testContext(t), ""); err != nil || len(names) != 0 {
					t.Fatalf("commits: %v, %v", names, err)
				}
				if depth > 0 {
					if got := filesLs(t, socket, "/"); !slices.Contains(got, "mine") {
						t.Fatalf("what could be read was dropped: %v", got)
					}
				}
				if status, _ := post(t, socket, "repo/gc"); status == http.StatusOK {
					t.Error("a collection ran with the names lost")
				}
				must(t, e.Close())
				e = openTest(t, dir)
				if !e.Recovered() {
					t.Fatal("the loss was forgotten with a restart")
				}
				lost := fstest.Commit(1, 64)
				wantErr(t, "relink what is gone",
					e.Relink(testContext(t), []Commit{{commitName(9), last(lost)}}), icfs.ErrNotFound)
				must(t, e.Relink(testContext(t), []Commit{{commitName(1), last(blocks)}, {commitName(9), last(lost)}}))
				if e.Recovered() {
					t.Fatal("still not recovered after Relink")
				}
				repoGC(t, socket)
				wantBlocks(t, e, blocks)
				must(t, e.Close())
				e = openTest(t, dir)
				if got, err := e.Resolve(testContext(t), commitName(1)); err != nil || got != last(blocks) || e.Recovered() {
					t.Fatalf("resolve: %s, %v", got, err)
				}
			})
		}
	}
}

// TestEmbeddedEmptyFiles cuts the files of blocks, as a power cut does to what was not
// synced: they are not there, cannot be linked, and can be put again.
func TestEmbeddedEmptyFiles(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	blocks := fstest.Commit(2, 64)
	must(t, e.Put(testContext(t), blocks))
	for _, size := range []int64{0, 10} {
		must(t, os.Truncate(blockFile(t, filepath.Join(dir, "repo"), blocks[0].CID), size))
		has, err := e.Has(testContext(t), blocks[0].CID)
		must(t, err)
		if has != (size > 0) {
			t.Fatalf("has a block of %d bytes: %v", size, has)
		}
		_, err = e.Get(testContext(t), blocks[0].CID)
		wantErr(t, "get", err, icfs.ErrIntegrity)
		wantErr(t, "link", e.Link(testContext(t), commitName(1), last(blocks), cidsOf(blocks)), icfs.ErrIntegrity)
	}
	putAndLink(t, e, 1, blocks)
	wantBlocks(t, e, blocks)
}

// TestEmbeddedDiskFull runs the node on a small file system.
func TestEmbeddedDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := shortDir(t)
	small := filepath.Join(dir, "small")
	must(t, os.Mkdir(small, 0o700))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=16m"))
	t.Cleanup(func() { must(t, syscall.Unmount(small, 0)) })
	e := openTest(t, small)
	kept := fstest.Commit(2, 4096)
	putAndLink(t, e, 1, kept)
	var put []icfs.CID
	var err error
	for range 32 {
		b := fstest.RawBlock(fstest.Random(1 << 20))
		if err = e.Put(testContext(t), []icfs.Block{b, fstest.RawBlock(fstest.Random(10))}); err != nil {
			break
		}
		put = append(put, b.CID)
	}
	wantErr(t, "put on a full disk", err, icfs.ErrNoSpace)
	wantBlocks(t, e, kept)
	must(t, e.Free(testContext(t), put))
	putAndLink(t, e, 2, fstest.Commit(2, 4096))
	must(t, e.Close())
	e = openTest(t, small)
	wantBlocks(t, e, kept)
	must(t, e.Close())
}

func TestEmbeddedSocketPathTooLong(t *testing.T) {
	dir := filepath.Join(shortDir(t), strings.Repeat("x", 100))
	must(t, os.Mkdir(dir, 0o700))
	_, err := OpenEmbedded(testContext(t), EmbeddedConfig{
		RepoDir: filepath.Join(dir, "repo"), SocketPath: filepath.Join(dir, "api.sock"),
	})
	if err == nil || !strings.Contains(err.Error(), "path of the socket") {
		t.Fatalf("the error is %v", err)
	}
	must(t, openError(t, dir)) // nothing is left locked
}

func TestPendingCompacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pending")
	p, err := openPending(path)
	must(t, err)
	stays := fstest.RawBlock([]byte("stays"))
	must(t, p.add([]icfs.Block{stays}))
	for i := range 20 {
		var batch []icfs.Block
		for j := range 1000 {
			batch = append(batch, fstest.RawBlock(fmt.Append(nil, i, j)))
		}
		must(t, p.add(batch))
		must(t, p.remove(cidsOf(batch)))
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() > 2*compactPending {
		t.Fatalf("%d bytes for one waiting block", info.Size())
	}
	must(t, p.close())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.Write([]byte("+U torn"))
	must(t, errors.Join(err, f.Close()))
	p, err = openPending(path)
	must(t, err)
	defer func() { must(t, p.close()) }()
	if got := p.list(); len(got) != 1 || got[0] != stays.CID {
		t.Fatalf("waiting: %v", got)
	}
	must(t, p.remove([]icfs.CID{stays.CID}))
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Fatalf("the file of an empty set: %v, %v", info, err)
	}
}
