package ipfs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fstest.Timeout)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that is %q", what, err, want)
	}
}

// testLog shows the node's messages with the test's.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// shortDir is a directory with a path short enough for a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func openTest(t testing.TB, dir string) *Embedded {
	t.Helper()
	e, err := OpenEmbedded(context.Background(), EmbeddedConfig{
		RepoDir: filepath.Join(dir, "repo"), SocketPath: filepath.Join(dir, "api.sock"), Log: testLog(t),
	})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// socketClient speaks HTTP to a unix socket.
func socketClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
}

// post calls the RPC of a node through its socket and returns the whole answer.
func post(t *testing.T, socket, command string, args ...string) (status int, body string) {
	t.Helper()
	u := url.URL{Scheme: "http", Host: "unix", Path: "/api/v0/" + command}
	q := url.Values{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		q.Add(k, v)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, u.String(), nil)
	must(t, err)
	res, err := socketClient(socket).Do(req)
	must(t, err)
	defer res.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b.String()
}

// repoGC collects garbage through the node's RPC. It stands for a user who runs
// "ipfs repo gc" at a bad moment. Blocks put while it sweeps are refused to it, which it
// reports as errors of single blocks; the caller looks at the blocks.
func repoGC(t *testing.T, socket string) {
	t.Helper()
	if status, body := post(t, socket, "repo/gc", "quiet=true"); status != http.StatusOK {
		t.Errorf("repo gc: %d %s", status, body)
	}
}

// blockFile is where an ordinary Kubo repo keeps a block.
func blockFile(t *testing.T, repo string, c fs.CID) string {
	t.Helper()
	return blockFileOf(t, repo, c.String())
}

func blockFileOf(t *testing.T, repo, text string) string {
	t.Helper()
	k, err := cid.Decode(text)
	must(t, err)
	name := strings.TrimPrefix(dshelp.MultihashToDsKey(k.Hash()).String(), "/")
	return filepath.Join(repo, blocksDir, name[len(name)-3:len(name)-1], name+".data")
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
}

func TestEmbedded(t *testing.T) {
	var mu sync.Mutex
	dirs := map[fs.Store]string{}
	open := func(t *testing.T, dir string) fs.Store {
		e := openTest(t, dir)
		mu.Lock()
		defer mu.Unlock()
		dirs[e] = dir
		return e
	}
	dirOf := func(s fs.Store) string {
		mu.Lock()
		defer mu.Unlock()
		return dirs[s]
	}
	fstest.RunStore(t, func(t *testing.T) fs.Store { return open(t, shortDir(t)) },
		fstest.Reopen(func(t *testing.T, s fs.Store) fs.Store {
			must(t, s.Close())
			return open(t, dirOf(s))
		}),
		fstest.Collect(func(t *testing.T, s fs.Store) {
			repoGC(t, filepath.Join(dirOf(s), "api.sock"))
		}),
		fstest.Damage(func(t *testing.T, s fs.Store, c fs.CID) {
			flip(t, blockFile(t, filepath.Join(dirOf(s), "repo"), c))
		}))
}
