package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// manifest is what one writer was told is done: the names of its directory, and what
// their files hold. The writer lives in another process than the daemon, and survives it.
type manifest struct {
	dir   string
	r     *rand.Rand
	files map[string][]byte

	// What was under way at the kill: it may be done or not.
	from, to string // names: of one file, or of a rename
	next     []byte // content of to afterwards; nil for an unlink
	emptied  bool   // first: what to had goes before next comes
	busy     bool
}

// write makes changes until one fails, and counts those that returned.
func (m *manifest) write(done *atomic.Int64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := m.change(); err != nil {
			return
		}
		m.busy, m.emptied = false, false
		done.Add(1)
	}
}

func (m *manifest) path(name string) string { return filepath.Join(m.dir, name) }

func (m *manifest) any() string {
	for name := range m.files {
		return name
	}
	return ""
}

// change makes one change, and notes it when it returned.
func (m *manifest) change() error {
	name := m.any()
	kind := m.r.IntN(6)
	switch {
	case name == "" || len(m.files) < 10:
		kind = 0
	case len(m.files) > 200: // enough to read after each kill
		kind = 3 + m.r.IntN(3)
	}
	sizes := []int{10, 600, 3000, 20000, 150000, 3 << 16, 10, 600, 3000, 14 << 16} // multiples of 64 KiB go another way
	content := make([]byte, sizes[m.r.IntN(len(sizes))])
	for i := range content {
		content[i] = byte(m.r.Uint32())
	}
	switch kind {
	case 0, 1: // a new file
		name = fmt.Sprintf("f%d", m.r.Uint64())
		m.from, m.to, m.next, m.busy = name, name, content, true
		if err := put(m.path(name), content, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0); err != nil {
			return err
		}
		m.files[name] = content
	case 2: // append
		all := append(bytes.Clone(m.files[name]), content...)
		m.from, m.to, m.next, m.busy = name, name, all, true
		if err := put(m.path(name), content, os.O_APPEND|os.O_WRONLY, 0); err != nil {
			return err
		}
		m.files[name] = all
	case 3: // overwrite within
		old := m.files[name]
		content = content[:min(len(content), len(old))]
		off := m.r.IntN(len(old) - len(content) + 1)
		all := bytes.Clone(old)
		copy(all[off:], content)
		m.from, m.to, m.next, m.busy = name, name, all, true
		if err := put(m.path(name), content, os.O_WRONLY, int64(off)); err != nil {
			return err
		}
		m.files[name] = all
	case 4: // an editor's save, and every other time with fsync
		tmp := name + ".tmp"
		m.from, m.to, m.next, m.busy, m.emptied = tmp, tmp, content, true, true
		if err := put(m.path(tmp), content, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0); err != nil {
			return err
		}
		m.files[tmp] = content
		m.from, m.to, m.emptied = tmp, name, false
		if err := os.Rename(m.path(tmp), m.path(name)); err != nil {
			return err
		}
		delete(m.files, tmp)
		m.files[name] = content
	case 5:
		m.from, m.to, m.next, m.busy = name, name, nil, true
		if err := os.Remove(m.path(name)); err != nil {
			return err
		}
		delete(m.files, name)
	}
	return nil
}

func put(path string, b []byte, flags int, off int64) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if flags&os.O_APPEND == 0 {
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return err
		}
	}
	if n, err := f.Write(b); err != nil || n != len(b) {
		return fmt.Errorf("%d of %d bytes: %w", n, len(b), errors.Join(err, io.ErrShortWrite))
	}
	return nil
}

// check compares the directory with the manifest, and learns how the change ended that
// was under way.
func (m *manifest) check(t *testing.T) {
	t.Helper()
	if m.busy {
		m.settle(t)
	}
	names, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if _, ok := m.files[n.Name()]; !ok {
			t.Fatalf("%s is there and should not be", n.Name())
		}
	}
	for name, want := range m.files {
		if got, err := os.ReadFile(m.path(name)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
}

// settle accepts either end of the change under way: not begun, done, or, of a write,
// a part of it. Nothing else.
func (m *manifest) settle(t *testing.T) {
	t.Helper()
	emptied := m.emptied
	m.busy, m.emptied = false, false
	got, err := os.ReadFile(m.path(m.to))
	gone := errors.Is(err, os.ErrNotExist)
	if err != nil && !gone {
		t.Fatal(err)
	}
	old, had := m.files[m.to]
	if m.from != m.to { // a rename: all or nothing
		if _, err := os.Stat(m.path(m.from)); errors.Is(err, os.ErrNotExist) {
			if !bytes.Equal(got, m.next) {
				t.Fatalf("%s was renamed to %s, which holds something else", m.from, m.to)
			}
			delete(m.files, m.from)
			m.files[m.to] = got
		} else if !bytes.Equal(got, old) {
			t.Fatalf("%s was not renamed, and %s changed", m.from, m.to)
		}
		return
	}
	switch {
	case gone && (m.next == nil || !had):
		delete(m.files, m.to)
		return
	case gone:
		t.Fatalf("%s is gone", m.to)
	}
	if emptied && bytes.HasPrefix(m.next, got) {
		m.files[m.to] = got
		return
	}
	if len(got) > max(len(old), len(m.next)) || len(got) < min(len(old), len(m.next)) {
		t.Fatalf("%s has %d bytes, had %d and should get %d", m.to, len(got), len(old), len(m.next))
	}
	for i, b := range got {
		if !(i < len(old) && old[i] == b) && !(i < len(m.next) && m.next[i] == b) {
			t.Fatalf("%s holds at %d what nobody wrote", m.to, i)
		}
	}
	m.files[m.to] = got
}

const writers = 3

func newManifests(t *testing.T, d *drive) []*manifest {
	t.Helper()
	var out []*manifest
	for i := range writers {
		m := &manifest{dir: d.on(fmt.Sprint("writer", i)), r: rand.New(rand.NewPCG(uint64(i), 99)), files: map[string][]byte{}}
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// run lets the writers work, and calls kill when the daemon is to die under them.
func run(ms []*manifest, kill func(done *atomic.Int64)) {
	var done atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, m := range ms {
		wg.Go(func() { m.write(&done, stop) })
	}
	kill(&done)
	close(stop)
	wg.Wait()
}

var replayed = regexp.MustCompile(`replayed the journal" changes=(\d+)`)

// atRisk is how many changes the newest start found in the journal alone.
func (d *drive) atRisk() int {
	d.t.Helper()
	b, err := os.ReadFile(d.home.LogFile())
	if err != nil {
		d.t.Fatal(err)
	}
	all := replayed.FindAllSubmatch(b, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(all[len(all)-1][1]))
	return n
}

func soak() bool { return os.Getenv("IPFSCLOUD_SOAK") != "" }

// kill -9 of the daemon under load, again and again: what returned is there.
func TestKillLoops(t *testing.T) {
	t.Parallel()
	loops := 50
	if soak() {
		loops = 1000
	}
	d := newDrive(t)
	ms := newManifests(t, d)
	r := rand.New(rand.NewPCG(1, 1))
	starts := 0
	for loop := range loops {
		pid := d.status().PID
		run(ms, func(done *atomic.Int64) {
			// Sometimes at once, sometimes long enough for commits to be under way.
			want, end := int64(20+r.IntN(700)), time.Now().Add(longest)
			for done.Load() < want && time.Now().Before(end) {
				time.Sleep(time.Millisecond) // between two looks
			}
			killWait(t, pid)
		})
		before := bytes.Count(mustRead(t, d.home.LogFile()), []byte("replayed the journal"))
		d.mount()
		after := bytes.Count(mustRead(t, d.home.LogFile()), []byte("replayed the journal"))
		if after == before || d.atRisk() == 0 {
			t.Fatalf("loop %d: nothing was at risk", loop)
		}
		starts++
		for _, m := range ms {
			m.check(t)
		}
		if s := d.status(); len(s.Alerts) > 0 {
			t.Fatalf("loop %d: %v", loop, s.Alerts)
		}
	}
	t.Logf("%d kills, %d changes at risk in the last", starts, d.atRisk())
	// And it all gets to IPFS in the end.
	d.umount()
	for _, dir := range []string{d.home.Journal, d.home.State, d.keptState()} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	d.mount()
	for _, m := range ms {
		m.check(t)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// accepted is the newest commit that the daemon has noted as linked.
func (d *drive) accepted() uint64 {
	var s struct {
		Accepted struct {
			Sequence uint64 `json:"sequence"`
		} `json:"accepted"`
	}
	b, err := os.ReadFile(filepath.Join(d.home.State, "heads.json"))
	if err != nil || json.Unmarshal(b, &s) != nil {
		return 0
	}
	return s.Accepted.Sequence
}

// The daemon dies when the node has the commit and the journal is not trimmed, while
// writing goes on: nothing is lost, and nothing is done twice.
func TestKillBetweenLinkAndTrim(t *testing.T) {
	t.Parallel()
	const wanted, tries = 3, 300 // on an idle machine one in twenty falls there
	d := newDrive(t)
	ms := newManifests(t, d)
	hits := 0
	for try := 0; try < tries && hits < wanted; try++ {
		s := d.status()
		stat := fmt.Sprintf("files/stat?hash=true&arg=/ipfscloud/%s", s.Vault)
		ctx, cancel := context.WithCancel(context.Background())
		var syncs sync.WaitGroup
		run(ms, func(done *atomic.Int64) {
			syncs.Go(func() { // one commit after the other
				c, err := daemon.Connect(ctx, d.home)
				for err == nil {
					err = c.Sync(ctx, "ipfs")
				}
			})
			// The name appears; then the node writes its root, syncs, and is read back;
			// then the daemon notes the commit and trims. Kill somewhere there.
			end, last := time.Now().Add(20*time.Second), d.answer(stat)
			for time.Now().Before(end) && (done.Load() == 0 || d.answer(stat) == last) {
				if done.Load() == 0 {
					last = d.answer(stat)
				}
			}
			for range try % 8 {
				d.answer(stat)
			}
			killWait(t, s.PID)
		})
		cancel()
		syncs.Wait()
		noted := d.accepted()
		d.mount()
		if linked := d.status().Commit.Sequence; linked > noted {
			hits++
		}
		for _, m := range ms {
			m.check(t)
		}
	}
	t.Logf("%d kills fell between link and trim", hits)
	if hits < wanted {
		t.Fatalf("only %d kills of %d fell between link and trim", hits, tries)
	}
}

// answer is what the node says, or "".
func (d *drive) answer(call string) string {
	b, err := d.rpc(call)
	if err != nil {
		return ""
	}
	return string(b)
}
