package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// farAway is a proxy before a node: it makes each request take longer, or gives no answer.
type farAway struct {
	url    string // what --ipfs takes
	delay  atomic.Int64
	hangs  atomic.Bool
	served atomic.Int64
	end    chan struct{}
}

// newFarAway listens on a port of loopback, or on a unix socket if path is not empty.
func newFarAway(t *testing.T, k *kubo, path string) *farAway {
	t.Helper()
	target, err := url.Parse(k.url())
	if err != nil {
		t.Fatal(err)
	}
	network, address := "tcp", "127.0.0.1:0"
	if path != "" {
		network, address = "unix", path
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	f := &farAway{url: path, end: make(chan struct{})}
	if path == "" {
		f.url = "http://" + l.Addr().String()
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.served.Add(1)
		for f.hangs.Load() { // as a process that is stopped: it answers when it goes on
			select {
			case <-r.Context().Done():
				return
			case <-f.end:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		if d := time.Duration(f.delay.Load()); d > 0 {
			time.Sleep(d) // as far away as light takes
		}
		proxy.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		close(f.end)
		s.Close()
		<-done
	})
	return f
}

// A drive is mounted while its node is away: from the journal, from what is cached, and
// from what is known of the last commit. What is not there is an error, soon. When the
// node is back, everything gets to it.
func TestMountWhileTheNodeIsAway(t *testing.T) {
	t.Parallel()
	k := newKubo(t)
	k.start()
	d := newHome(t)
	far := newFarAway(t, k, filepath.Join(d.dir, "far.sock"))
	d.init()
	d.login()
	d.mount("--ipfs", far.url)
	big := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	want := map[string][]byte{"big": big}
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(d.on(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.on(name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		want[name] = b
	}
	put("big", big)
	for round := range 4 { // what earlier commits wrote is not staged any more
		for i := range 20 {
			put(fmt.Sprintf("dir%d/sub/small%d", round, i), []byte(fmt.Sprint("text ", round, " ", i)))
		}
		d.ok("sync")
	}
	list := func() string { return d.sh("find . -printf '%p %y %m %s %n %T@\n' | LC_ALL=C sort") }
	before := list()
	d.umount()

	k.kill()
	begun := time.Now()
	d.mount("--ipfs", far.url)
	t.Logf("mounted in %v without a node", time.Since(begun).Round(time.Millisecond))
	if got := list(); got != before {
		t.Errorf("without the node the listing is\n%swith it\n%s", got, before)
	}
	check := func(when string, except ...string) {
		t.Helper()
		for name, b := range want {
			got, err := os.ReadFile(d.on(name))
			if len(except) > 0 && name == except[0] {
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("%s, %s: %d bytes, %v", when, name, len(got), err)
				}
			} else if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s, %s: %d bytes, %v", when, name, len(got), err)
			}
		}
	}
	begun = time.Now()
	check("without the node", "big")
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("what is not here was an error after %v", took)
	} else {
		t.Logf("what is not here was an error within %v", took.Round(time.Millisecond))
	}
	put("dir1/new", []byte("made while the node was away"))
	put("dir9/sub/large", bytes.Repeat([]byte("large "), 500000))
	d.sh("mv dir2/sub/small3 dir3/moved; sync dir3; rm dir0/sub/small0")
	want["dir3/moved"] = want["dir2/sub/small3"]
	delete(want, "dir2/sub/small3")
	delete(want, "dir0/sub/small0")
	if s := d.status(); s.Pending.Ops == 0 || s.State != "mounted" {
		t.Errorf("%+v", s)
	}
	begun = time.Now()
	if says := d.fails(ExitUnavailable, "sync"); !strings.Contains(says, "away") {
		t.Errorf("sync says %q", says)
	}
	t.Logf("sync failed within %v", time.Since(begun).Round(time.Millisecond))
	if s := d.status(); s.LastError == "" {
		t.Errorf("the node is away, and status says %+v", s)
	}
	d.kill()
	d.mount("--ipfs", far.url) // over the dead mount
	check("after a kill, without the node", "big")
	d.ok("umount", d.mnt)

	// A node that takes requests and never answers is no better, and no worse.
	far.hangs.Store(true)
	d.write(d.home.Config, "deadline = \"2s\"\n")
	begun = time.Now()
	d.mount("--ipfs", far.url)
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("a node that hangs held mount for %v", took)
	} else {
		t.Logf("mounted in %v with a node that hangs", took.Round(time.Millisecond))
	}
	if b, err := os.ReadFile(d.on("dir1/new")); err != nil || !bytes.Equal(b, want["dir1/new"]) {
		t.Errorf("with a node that hangs: %q, %v", b, err)
	}
	begun = time.Now()
	f, err := os.Open(d.on("big"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 4096), 5<<20); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading what a node that hangs has: %v", err)
	}
	f.Close()
	if took := time.Since(begun); took > 2*time.Minute {
		t.Errorf("a node that hangs held a read for %v", took)
	} else {
		t.Logf("a read of what a node that hangs has failed within %v", took.Round(time.Millisecond))
	}

	k.start()
	far.hangs.Store(false)
	for deadline := time.Now().Add(longest); ; time.Sleep(100 * time.Millisecond) { // nobody asks for it
		s := d.status()
		if s.Pending.Ops == 0 && s.LastError == "" {
			if s.Store.Version == "" {
				t.Errorf("the node is back, and status says %+v", s.Store)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node is back, and status says %+v%s", s, d.log())
		}
	}
	check("the node is back")
	d.umount()
	for _, dir := range []string{d.home.Journal, d.home.State, d.home.Staging, d.home.Cache, d.keptState()} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	d.mount("--ipfs", far.url)
	check("with nothing but the node")
	d.umount()

	// Nothing is known on this machine but the node, and that is away.
	k.kill()
	for _, dir := range []string{d.home.Journal, d.home.State, d.home.Staging, d.home.Cache, d.keptState()} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	d.fails(ExitUnavailable, "mount", "-d", "--ipfs", far.url, d.mnt)
}

// A drive whose node is 50 ms away, mounted with nothing cached, is usable: a listing of a
// hundred directories does not take a hundred times that, nor does a file take as long as
// its blobs one after the other.
func TestColdMountOverALongWay(t *testing.T) {
	const (
		delay       = 50 * time.Millisecond
		dirs, files = 100, 20
		size        = 64 << 20
	)
	k := newKubo(t)
	k.start()
	far := newFarAway(t, k, "")
	d := newDrive(t, "--ipfs", far.url)
	for i := range dirs {
		dir := d.on(fmt.Sprintf("tree/dir%02d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			b := bytes.Repeat([]byte(fmt.Sprint(i, " ", j, "\n")), 1+j*300)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%02d", j)), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(d.on("large"), bytes.Repeat([]byte("0123456789abcdef"), size/16), 0o644); err != nil {
		t.Fatal(err)
	}
	d.ok("sync")
	d.umount()
	if err := os.RemoveAll(d.home.Cache); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(d.home.Staging); err != nil {
		t.Fatal(err)
	}
	far.delay.Store(int64(delay))
	measure := func(what string, limit time.Duration, f func()) {
		t.Helper()
		requests, begun := far.served.Load(), time.Now()
		f()
		took := time.Since(begun)
		t.Logf("%-40s %6.2f s, %d requests", what, took.Seconds(), far.served.Load()-requests)
		if took > limit {
			t.Errorf("%s took %v over a way of %v, and should take %v at most", what, took, delay, limit)
		}
	}
	measure("mount", 15*time.Second, func() { d.mount("--ipfs", far.url) })
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
		t.Log("the kernel keeps what it has: ", err)
	}
	measure("ls -lR of 2,000 files in 100 directories", 15*time.Second, func() {
		if out := d.sh("ls -lR tree | grep -c '^-'"); strings.TrimSpace(out) != fmt.Sprint(dirs*files) {
			t.Errorf("%s files are listed", out)
		}
	})
	measure("reading 64 MiB in order", 15*time.Second, func() {
		if out := d.sh("cat large | wc -c"); strings.TrimSpace(out) != fmt.Sprint(size) {
			t.Errorf("%s bytes are read", out)
		}
	})
	measure("reading 500 small files of 25 directories", 30*time.Second, func() {
		if out := d.sh("cat tree/dir[01]?/* tree/dir2[0-4]/* | wc -l"); strings.TrimSpace(out) != fmt.Sprint(25*(files+300*files*(files-1)/2)) {
			t.Errorf("%s lines are read", out)
		}
	})
	d.umount()
}
