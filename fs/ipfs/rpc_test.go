package ipfs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/cluster-labs/ipfscloud/fs"

	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func openTestRPC(t *testing.T, conf RPCConfig) *RPC {
	t.Helper()
	conf.Log = testLog(t)
	r, err := OpenRPC(testContext(t), conf)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func runRPC(t *testing.T, d *daemon, secret string) {
	ask := func(t *testing.T, command string, args ...string) {
		t.Helper()
		c, err := newClient(d.url, secret, time.Minute)
		must(t, err)
		defer c.close()
		q := request{command: command, options: map[string]any{}}
		for _, a := range args {
			k, v, isOption := strings.Cut(a, "=")
			if isOption {
				q.options[k] = v
			} else {
				q.args = append(q.args, a)
			}
		}
		if err := c.call(testContext(t), q, nil); err != nil {
			t.Error(err)
		}
	}
	var mu sync.Mutex
	staging := map[fs.Store]string{}
	open := func(t *testing.T, dir string) fs.Store {
		r := openTestRPC(t, RPCConfig{URL: d.url, Authorization: secret, StagingDir: dir})
		mu.Lock()
		defer mu.Unlock()
		staging[r] = dir
		return r
	}
	dirOf := func(s fs.Store) string {
		mu.Lock()
		defer mu.Unlock()
		return staging[s]
	}
	fstest.RunStore(t, func(t *testing.T) fs.Store {
		ask(t, "files/rm", fs.CommitRoot, "recursive=true", "force=true")
		return open(t, t.TempDir())
	},
		fstest.LeavesFreed(),
		fstest.Reopen(func(t *testing.T, s fs.Store) fs.Store {
			must(t, s.Close())
			return open(t, dirOf(s))
		}),
		fstest.Collect(func(t *testing.T, _ fs.Store) { ask(t, "repo/gc", "quiet=true") }),
		fstest.Damage(func(t *testing.T, s fs.Store, c fs.CID) {
			data, err := s.Get(testContext(t), c)
			must(t, err)
			flip(t, blockFile(t, d.repo(), c))
			flipStaged(t, dirOf(s), data)
		}))
}

// flipStaged damages a block in the segments of a staging directory.
func flipStaged(t *testing.T, dir string, data []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	must(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		if i := bytes.Index(b, data); i >= 0 {
			b[i] ^= 1
			must(t, os.WriteFile(name, b, 0o600))
			return
		}
	}
	t.Fatal("the block is not staged")
}

func TestRPCUnixSocket(t *testing.T) {
	runRPC(t, newDaemon(t, ""), "")
}

func TestRPCAuthorized(t *testing.T) {
	const secret = "bearer:open-sesame"
	d := newDaemon(t, secret)
	runRPC(t, d, secret)
	for _, wrong := range []string{"", "bearer:other", "basic:test:open-sesame"} {
		_, err := OpenRPC(testContext(t), RPCConfig{URL: d.url, Authorization: wrong, StagingDir: t.TempDir()})
		wantErr(t, "wrong authorization", err, fs.ErrUnavailable)
		if !strings.Contains(err.Error(), "authorization") || strings.Contains(err.Error(), "sesame") {
			t.Fatalf("the error is %q", err)
		}
	}
	r := openTestRPC(t, RPCConfig{URL: d.url, Authorization: "Bearer open-sesame", StagingDir: t.TempDir()})
	must(t, r.Close())
}

func cidsOf(blocks []fs.Block) []fs.CID {
	out := make([]fs.CID, len(blocks))
	for i, b := range blocks {
		out[i] = b.CID
	}
	return out
}

func last(blocks []fs.Block) fs.CID { return blocks[len(blocks)-1].CID }

func commitName(sequence uint64) fs.CommitName {
	return fs.CommitName{Vault: "v", Device: "d", Sequence: sequence}
}

func putAndLink(t *testing.T, s fs.Store, n uint64, blocks []fs.Block) {
	t.Helper()
	must(t, s.Put(testContext(t), blocks))
	must(t, s.Link(testContext(t), commitName(n), last(blocks), cidsOf(blocks)))
}

func wantBlocks(t *testing.T, s fs.Store, blocks []fs.Block) {
	t.Helper()
	for _, b := range blocks {
		got, err := s.Get(testContext(t), b.CID)
		if err != nil || !bytes.Equal(got, b.Data) {
			t.Fatalf("get %s: %d bytes, %v", b.CID, len(got), err)
		}
	}
}

func TestRPCNodeKilled(t *testing.T) {
	d := newDaemon(t, "")
	dir := t.TempDir()
	conf := RPCConfig{URL: d.url, StagingDir: dir, RequestTimeout: 2 * time.Second, GetTimeout: 5 * time.Second}
	r := openTestRPC(t, conf)
	first, second, third := fstest.Commit(3, 4096), fstest.Commit(3, 4096), fstest.Commit(3, 4096)
	putAndLink(t, r, 1, first)
	putAndLink(t, r, 2, second)
	must(t, r.Put(testContext(t), third))
	must(t, r.Sync(testContext(t)))
	d.kill(t)

	wantBlocks(t, r, append(second, third...)) // staged, so the node is not needed
	_, err := r.Get(testContext(t), first[0].CID)
	wantErr(t, "get from a dead node", err, fs.ErrUnavailable)
	_, err = r.Commits(testContext(t), "")
	wantErr(t, "commits of a dead node", err, fs.ErrUnavailable)
	wantErr(t, "link in a dead node",
		r.Link(testContext(t), commitName(3), last(third), cidsOf(third)), fs.ErrUnavailable)
	must(t, r.Put(testContext(t), first[:1])) // goes on without the node
	must(t, r.Close())
	_, err = OpenRPC(testContext(t), conf)
	wantErr(t, "open with a dead node", err, fs.ErrUnavailable)

	d.start(t)
	r = openTestRPC(t, conf)
	wantBlocks(t, r, append(append(first, second...), third...))
	must(t, r.Link(testContext(t), commitName(3), last(third), cidsOf(third)))
	names, err := r.Commits(testContext(t), "v")
	must(t, err)
	if len(names) != 3 {
		t.Fatalf("commits: %v", names)
	}
	if status, body := post(t, d.socket, "pin/add", "arg="+last(third).String(), "recursive=true", "offline=true"); status != 200 {
		t.Fatalf("pin add: %d %s", status, body)
	}
}

// TestRPCStagingOutlivesTheNodesDisk lets the node lose the newest commit, as in a power
// cut, and links it again from the staging.
func TestRPCStagingOutlivesTheNodesDisk(t *testing.T) {
	d := newDaemon(t, "")
	r := openTestRPC(t, RPCConfig{URL: d.url, StagingDir: t.TempDir()})
	first, second := fstest.Commit(3, 4096), fstest.Commit(3, 4096)
	putAndLink(t, r, 1, first)
	putAndLink(t, r, 2, second)
	for _, c := range append(cidsOf(first), cidsOf(second)...) {
		if _, ok := r.staging.size(c); ok != (c != first[0].CID && contains(second, c)) {
			t.Fatalf("block %s staged: %v", c, ok)
		}
	}
	post(t, d.socket, "files/rm", "arg="+commitName(2).Path(), "recursive=true")
	repoGC(t, d.socket)
	if has, err := r.client.hasBlock(testContext(t), mustKubo(t, second[0].CID)); err != nil || has {
		t.Fatalf("the node still has the block: %v, %v", has, err)
	}
	must(t, r.Link(testContext(t), commitName(2), last(second), cidsOf(second)))
	if missing, err := r.missing(testContext(t), cidsOf(second)); err != nil || len(missing) > 0 {
		t.Fatalf("missing after the second link: %v, %v", missing, err)
	}
}

func contains(blocks []fs.Block, c fs.CID) bool {
	for _, b := range blocks {
		if b.CID == c {
			return true
		}
	}
	return false
}

func TestRPCRefusing(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, lis.Close())
	for _, address := range []string{"http://" + lis.Addr().String(), filepath.Join(t.TempDir(), "no.sock")} {
		begin := time.Now()
		_, err = OpenRPC(testContext(t), RPCConfig{URL: address, StagingDir: t.TempDir()})
		wantErr(t, "open "+address, err, fs.ErrUnavailable)
		if d := time.Since(begin); d > 5*time.Second {
			t.Fatalf("%s: refused after %v", address, d)
		}
	}
}

func TestRPCHanging(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0") // connects, and never answers
	must(t, err)
	defer lis.Close()
	begin := time.Now()
	_, err = OpenRPC(testContext(t), RPCConfig{URL: "http://" + lis.Addr().String(), StagingDir: t.TempDir(),
		RequestTimeout: 100 * time.Millisecond, GetTimeout: 300 * time.Millisecond})
	wantErr(t, "open", err, fs.ErrUnavailable)
	if d := time.Since(begin); d > 3*time.Second {
		t.Fatalf("it took %v", d)
	}
}

// A node that may be away need not answer. One that refuses, or is none, still does not do.
func TestRPCMayBeAway(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, lis.Close())
	r, err := OpenRPC(testContext(t), RPCConfig{URL: "http://" + lis.Addr().String(), StagingDir: t.TempDir(), MayBeAway: true, Log: testLog(t)})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	if i := r.Info(); i.Kind != "rpc" || i.Version != "" {
		t.Errorf("%+v", i)
	}
	here, there := fstest.RawBlock(fstest.Random(5000)), fstest.RawBlock(fstest.Random(5000))
	must(t, r.Put(testContext(t), []fs.Block{here}))
	must(t, r.Sync(testContext(t)))
	wantBlocks(t, r, []fs.Block{here})
	_, err = r.Get(testContext(t), there.CID)
	wantErr(t, "a block that is not staged", err, fs.ErrUnavailable)
	_, err = r.Commits(testContext(t), "")
	wantErr(t, "the list of commits", err, fs.ErrUnavailable)

	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }))
		_, err = OpenRPC(testContext(t), RPCConfig{URL: s.URL, StagingDir: t.TempDir(), MayBeAway: true, Log: testLog(t)})
		s.Close()
		wantErr(t, http.StatusText(status), err, fs.ErrUnavailable)
	}
}

func TestRPCBadAddress(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:5001", "ftp://host", "http://", "http://u:hidden@host", "http://h?x=1", "http://h:port:1"} {
		_, err := OpenRPC(testContext(t), RPCConfig{URL: address, StagingDir: t.TempDir()})
		wantErr(t, address, err, fs.ErrInvalid)
		if strings.Contains(err.Error(), "hidden") {
			t.Fatalf("%q shows the password", err)
		}
	}
}

// TestRPCFlapping puts a proxy before the node that fails now and then, in each way.
func TestRPCFlapping(t *testing.T) {
	const secret = "bearer:x"
	d := newDaemon(t, secret)
	target, err := url.Parse(d.url)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	var n atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 6 {
		case 0:
			http.Error(w, "the proxy is sorry", http.StatusBadGateway)
		case 2:
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		case 4: // done, but the answer is lost
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			http.Error(w, "timeout", http.StatusGatewayTimeout)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	defer front.Close()
	r := openTestRPC(t, RPCConfig{URL: front.URL, Authorization: secret, StagingDir: t.TempDir()})
	for i := range uint64(5) {
		blocks := fstest.Commit(4, 4096)
		putAndLink(t, r, i, blocks)
		must(t, r.staging.drop(cidsOf(blocks)))
		wantBlocks(t, r, blocks)
		if i > 0 {
			must(t, r.Unlink(testContext(t), commitName(i-1)))
		}
	}
	names, err := r.Commits(testContext(t), "")
	must(t, err)
	if len(names) != 1 || names[0] != commitName(4) {
		t.Fatalf("commits: %v", names)
	}
}

// TestRPCLyingNode speaks to something that is no honest node.
func TestRPCLyingNode(t *testing.T) {
	block := fstest.RawBlock(fstest.Random(100))
	var answer atomic.Value
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/version") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"Version":"9.9.9"}`)
			return
		}
		answer.Load().(http.HandlerFunc)(w, r)
	}))
	defer front.Close()
	r := openTestRPC(t, RPCConfig{URL: front.URL, StagingDir: t.TempDir(), GetTimeout: 20 * time.Second})
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"other bytes", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(fstest.Random(100)) }, fs.ErrIntegrity},
		{"no bytes", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") }, fs.ErrIntegrity},
		{"endless bytes", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, fs.ErrUnavailable},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusNotFound) }, fs.ErrUnavailable},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, fs.ErrUnavailable},
	} {
		answer.Store(c.answer)
		_, err := r.Get(testContext(t), block.CID)
		wantErr(t, c.name, err, c.want)
	}
}

func TestRPCStagingBusy(t *testing.T) {
	d := newDaemon(t, "")
	conf := RPCConfig{URL: d.url, StagingDir: t.TempDir()}
	openTestRPC(t, conf)
	_, err := OpenRPC(testContext(t), conf)
	wantErr(t, "open twice", err, fs.ErrBusy)
}

func TestStagingTornTail(t *testing.T) {
	dir := t.TempDir()
	s, err := openStaging(dir)
	must(t, err)
	blocks := []fs.Block{fstest.RawBlock(fstest.Random(5000)), fstest.RawBlock(fstest.Random(5000))}
	must(t, s.put(blocks))
	must(t, s.sync(context.Background()))
	name := s.active().file.Name()
	size := s.active().size
	must(t, s.close())
	for _, cut := range []int64{1, 4999, 5000, 5001, 5043} {
		must(t, os.Truncate(name, size-cut))
		s, err := openStaging(dir)
		must(t, err)
		if got, err := s.get(blocks[0].CID); err != nil || !bytes.Equal(got, blocks[0].Data) {
			t.Fatalf("cut %d: the whole block: %v", cut, err)
		}
		_, err = s.get(blocks[1].CID)
		wantErr(t, "the torn block", err, fs.ErrNotFound)
		must(t, s.put(blocks[1:]))
		must(t, s.close())
		s, err = openStaging(dir)
		must(t, err)
		if got, err := s.get(blocks[1].CID); err != nil || !bytes.Equal(got, blocks[1].Data) {
			t.Fatalf("cut %d: the block put again: %v", cut, err)
		}
		must(t, s.drop([]fs.CID{blocks[1].CID}))
		must(t, s.close())
	}
}

// TestStagingReclaims fills segments and checks that what is no longer needed leaves the
// disk, and that what is needed stays, also after reopening.
func TestStagingReclaims(t *testing.T) {
	dir := t.TempDir()
	s, err := openStaging(dir)
	must(t, err)
	keep := fstest.RawBlock(fstest.Random(1000))
	must(t, s.put([]fs.Block{keep}))
	var old []fs.CID
	for range 3 {
		var cids []fs.CID
		for range 80 {
			b := fstest.RawBlock(fstest.Random(1 << 20))
			must(t, s.put([]fs.Block{b}))
			cids = append(cids, b.CID)
		}
		must(t, s.linked(cids))
		for _, c := range old {
			if _, ok := s.size(c); ok {
				t.Fatal("a block of the commit before the newest is staged")
			}
		}
		for _, c := range cids {
			if _, err := s.get(c); err != nil {
				t.Fatal(err)
			}
		}
		old = cids
	}
	must(t, s.linked(nil))
	must(t, s.close())
	s, err = openStaging(dir)
	must(t, err)
	defer func() { must(t, s.close()) }()
	if got, err := s.get(keep.CID); err != nil || !bytes.Equal(got, keep.Data) {
		t.Fatalf("the block that no commit named: %v", err)
	}
	if _, err := s.get(old[0]); err == nil {
		t.Fatal("a dropped block came back")
	}
	var total int64
	for _, seg := range s.segments {
		total += seg.size
	}
	if total > 1<<20 {
		t.Fatalf("%d bytes are left for one block of 1000", total)
	}
}

func mustKubo(t *testing.T, c fs.CID) cid.Cid {
	t.Helper()
	k, err := kuboCID(c)
	must(t, err)
	return k
}
