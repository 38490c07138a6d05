package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exerciser is another process, this same binary, that works on a file of the drive and
// knows what must be in it: in the manner of fsx.
const exerciserEnv = "IPFSCLOUD_TEST_FUSE_FSX"

// fsx is what one exerciser does. It owns every step-th stripe of the file: with one
// stripe, all of it.
type fsx struct {
	path   string
	want   []byte // what the file must hold; of stripes of others, nothing is known
	r      *rand.Rand
	fd     int
	log    []step
	max    int64 // bytes in the file at most
	stripe int64 // bytes in a stripe, 0 if the file is its own
	first  int64 // its first stripe
	step   int64 // stripes from one of its to the next
}

// step is something that an exerciser did, to the bytes from off on.
type step struct {
	what   string
	off, n int64
}

// How large files get: the smaller one has all processes in the same few pages.
const (
	fsxMax   = 6 << 20
	fsxSmall = 96 << 10
)

// runExerciser is the main function of an exerciser: "path seed steps max stripe
// first step".
// What the file must hold at the end it writes to standard output.
func runExerciser(args string) error {
	f := strings.Fields(args)
	n := make([]int64, len(f))
	for i := 1; i < len(f); i++ {
		var err error
		if n[i], err = strconv.ParseInt(f[i], 10, 64); err != nil {
			return err
		}
	}
	x := &fsx{path: f[0], r: rand.New(rand.NewPCG(uint64(n[1]), 9)), max: n[3], stripe: n[4], first: n[5], step: n[6]}
	if x.stripe > 0 {
		x.want = make([]byte, x.max)
	}
	if err := x.open(unix.O_CREAT); err != nil {
		return err
	}
	for i := range n[2] {
		if err := x.once(); err != nil {
			return fmt.Errorf("step %d: %w; before that: %v", i, err, x.log[max(0, len(x.log)-10):])
		}
	}
	if err := errors.Join(x.check(0, int64(len(x.want))), unix.Fsync(x.fd), unix.Close(x.fd)); err != nil {
		return err
	}
	for _, s := range x.log { // for historyOf
		fmt.Fprintln(os.Stderr, s.off, s.n, s.what)
	}
	_, err := os.Stdout.Write(x.want)
	return err
}

func (x *fsx) note(off, n int64, format string, args ...any) {
	x.log = append(x.log, step{fmt.Sprintf(format, args...), off, n})
}

// historyOf are the steps of a log that touched the page of a byte; of a byte that was
// copied there last, also where it came from.
func historyOf(log []step, at int64) string {
	var out strings.Builder
	source := ""
	for i, s := range log {
		if s.off <= at|4095 && at&^4095 < s.off+s.n {
			fmt.Fprintf(&out, "\n%d: %s: %d at %d, to %d", i, s.what, s.n, s.off, s.off+s.n)
		}
		if s.off > at || at >= s.off+s.n {
			continue
		}
		var from int64
		if n, _ := fmt.Sscanf(s.what, "copy from %d", &from); n == 1 {
			source = "\nits source:" + historyOf(log[:i], from+at-s.off)
		} else if !strings.Contains(s.what, "read") && s.what != "seek" && s.what != "msync" && s.what != "allocate" {
			source = ""
		}
	}
	return out.String() + source
}

// logOf reads the log that an exerciser wrote at its end.
func logOf(b []byte) (log []step) {
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) < 3 {
			continue
		}
		off, _ := strconv.ParseInt(f[0], 10, 64)
		n, _ := strconv.ParseInt(f[1], 10, 64)
		log = append(log, step{f[2], off, n})
	}
	return log
}

func (x *fsx) open(flags int) (err error) {
	x.fd, err = unix.Open(x.path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	return err
}

// mine draws a range that is the exerciser's own to change, not beyond max.
func (x *fsx) mine(limit int64) (off, n int64) {
	size := int64(1) << x.r.IntN(19)
	n = 1 + x.r.Int64N(size)
	if x.stripe == 0 {
		off = x.r.Int64N(max(1, limit-n+1))
		if x.r.IntN(3) == 0 {
			off &^= 4095
		}
		return off, min(n, limit-off)
	}
	k := x.r.Int64N(x.max / x.stripe / x.step)
	at := (k*x.step + x.first) * x.stripe
	skip := x.r.Int64N(x.stripe)
	return at + skip, min(n, x.stripe-skip)
}

func (x *fsx) data(n int64) []byte {
	b := make([]byte, n)
	s := x.r.Uint64()
	for i := range b {
		s = s*6364136223846793005 + 1442695040888963407
		b[i] = byte(s >> 56)
	}
	return b
}

// set notes what a range holds now; nil for zeros.
func (x *fsx) set(off, n int64, b []byte) {
	if end := off + n; end > int64(len(x.want)) {
		x.want = append(x.want, make([]byte, end-int64(len(x.want)))...)
	}
	if b == nil {
		clear(x.want[off : off+n])
		return
	}
	copy(x.want[off:], b)
}

func (x *fsx) size() int64 { return int64(len(x.want)) }

// once does one thing.
func (x *fsx) once() error {
	alone := x.stripe == 0
	if alone && x.size() == 0 {
		return x.write()
	}
	switch x.r.IntN(18) {
	case 0, 1, 2, 3:
		return x.write()
	case 4, 5:
		off, n := x.mine(x.size())
		return x.check(off, n)
	case 6, 7:
		return x.mapped(true)
	case 8:
		return x.mapped(false)
	case 9:
		if !alone {
			return nil
		}
		n := x.r.Int64N(x.max)
		x.note(min(n, x.size()), max(n, x.size())-min(n, x.size()), "truncate %d to %d", x.size(), n)
		if err := unix.Ftruncate(x.fd, n); err != nil {
			return err
		}
		if n <= x.size() {
			x.want = x.want[:n:n]
		} else {
			x.set(x.size(), n-x.size(), nil)
		}
		return x.checkSize()
	case 10:
		off, n := x.mine(x.size())
		x.note(off, n, "punch")
		x.set(off, n, nil)
		return unix.Fallocate(x.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	case 11:
		off, n := x.mine(x.max)
		x.note(off, n, "zero")
		x.set(off, n, nil)
		return unix.Fallocate(x.fd, unix.FALLOC_FL_ZERO_RANGE, off, n)
	case 12:
		off, n := x.mine(x.max)
		x.note(off, n, "allocate")
		if off+n > x.size() {
			x.set(x.size(), off+n-x.size(), nil)
		}
		return unix.Fallocate(x.fd, 0, off, n)
	case 13:
		return x.copy()
	case 14:
		x.note(0, 0, "reopen")
		if err := unix.Close(x.fd); err != nil {
			return err
		}
		return x.open(0)
	case 15:
		x.note(0, 0, "fsync")
		return unix.Fsync(x.fd)
	case 16:
		return x.direct()
	default:
		return x.holes()
	}
}

func (x *fsx) write() error {
	off, n := x.mine(x.max)
	b := x.data(n)
	x.note(off, n, "write")
	if k, err := unix.Pwrite(x.fd, b, off); err != nil || k != len(b) {
		return fmt.Errorf("wrote %d: %w", k, err)
	}
	x.set(off, n, b)
	return nil
}

func (x *fsx) checkSize() error {
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return err
	}
	if x.stripe == 0 && st.Size != x.size() {
		return fmt.Errorf("%d bytes, want %d", st.Size, x.size())
	}
	return nil
}

// check reads a range and compares what is the exerciser's own.
func (x *fsx) check(off, n int64) error {
	b := make([]byte, n)
	for done := int64(0); done < n; {
		k, err := unix.Pread(x.fd, b[done:], off+done)
		if err != nil || k == 0 && x.stripe == 0 {
			return fmt.Errorf("reading %d at %d: %d, %w", n, off, done, err)
		}
		if k == 0 {
			break
		}
		done += int64(k)
	}
	return x.compare("read", off, b)
}

func (x *fsx) compare(how string, off int64, b []byte) error {
	for i := range b {
		at := off + int64(i)
		if b[i] == x.want[at] || x.stripe > 0 && at/x.stripe%x.step != x.first {
			continue
		}
		return fmt.Errorf("%s %d at %d: byte %d is %02x, want %02x; what was done to its page:%s",
			how, len(b), off, at, b[i], x.want[at], historyOf(x.log, at))
	}
	return x.checkSize()
}

// mapped reads or writes through a shared mapping. While another process makes the file
// longer, stat(2) may tell the new size a moment before a mapping reaches as far: that
// fault may come, and must go.
func (x *fsx) mapped(write bool) error {
	off, n := x.mine(x.size())
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := x.tryMapped(write, off, n)
		if x.stripe == 0 || !errors.Is(err, errFault) || time.Now().After(end) {
			return err
		}
	}
}

var errFault = errors.New("a fault of a mapping")

func (x *fsx) tryMapped(write bool, off, n int64) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%d at %d: %v: %w", n, off, v, errFault)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil || st.Size < off+n {
		return err // nobody has written there: a mapping would fault
	}
	start := off &^ 4095
	m, err := unix.Mmap(x.fd, start, int(off+n-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer func() { _ = unix.Munmap(m) }()
	p := m[off-start:]
	if !write {
		x.note(off, n, "mapread")
		return x.compare("mapread", off, p)
	}
	b := x.data(n)
	x.note(off, n, "mapwrite")
	copy(p, b)
	x.set(off, n, b)
	if x.r.IntN(3) == 0 {
		x.note(start, off+n-start, "msync")
		return unix.Msync(m, unix.MS_SYNC)
	}
	return nil
}

// copy copies within the file.
func (x *fsx) copy() error {
	from, n := x.mine(x.size())
	to, m := x.mine(x.max)
	n = min(n, m)
	if from < to+n && to < from+n {
		return nil
	}
	x.note(to, n, "copy from %d", from)
	text, err := copyWhole(x.fd, from, x.fd, to, n)
	if err != nil {
		return err
	}
	if done, _ := strconv.ParseInt(text, 10, 64); done != n {
		if x.stripe > 0 { // beyond the end as it is
			x.set(to, done, bytes.Clone(x.want[from:from+done]))
			return nil
		}
		return fmt.Errorf("copied %d of %d", done, n)
	}
	x.set(to, n, bytes.Clone(x.want[from:from+n]))
	return nil
}

// direct reads around the page cache.
func (x *fsx) direct() error {
	fd, err := unix.Open(x.path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	off, n := x.mine(x.size())
	n += off & 4095
	off &^= 4095
	b, err := unix.Mmap(-1, 0, int(n+4095)&^4095, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(b) }()
	x.note(off, int64(len(b)), "direct read")
	k, err := unix.Pread(fd, b, off)
	if err != nil {
		return err
	}
	return x.compare("direct read", off, b[:k])
}

// holes wants what SEEK_DATA and SEEK_HOLE call a hole to read as zeros.
func (x *fsx) holes() error {
	off, n := x.mine(x.size())
	x.note(off, n, "seek")
	data, err := unix.Seek(x.fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		data, err = off+n, nil
	}
	if err != nil {
		return err
	}
	data = min(data, off+n)
	for at := off; at < data && at < x.size(); at++ {
		if x.want[at] != 0 && (x.stripe == 0 || at/x.stripe%x.step == x.first) {
			return fmt.Errorf("byte %d is data, and in what SEEK_DATA calls a hole: %d to %d", at, off, data)
		}
	}
	return nil
}

// exercise starts an exerciser.
func exercise(t *testing.T, path string, seed, steps, limit, stripe, first, step int) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), exerciserEnv+"="+fmt.Sprint(path, " ", seed, " ", steps, " ", limit, " ", stripe, " ", first, " ", step))
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, &out, &problem
}

// exercisers runs several of them at once: each with a file of its own, and some on
// stripes of one file, whose pages they share. It returns what the files must hold, and
// what was done to each.
func exercisers(t *testing.T, dir string, seed, steps int) (map[string][]byte, map[string][][]step) {
	t.Helper()
	type job struct {
		cmd          *exec.Cmd
		out, problem *bytes.Buffer
		name         string
		first        int
	}
	const stripe, sharers = 3001, 3
	var jobs []job
	limit := fsxMax
	if seed%2 == 1 {
		limit = fsxSmall
	}
	start := func(name string, seed, limit, stripe, first, step int) {
		cmd, out, problem := exercise(t, filepath.Join(dir, name), seed, steps, limit, stripe, first, step)
		jobs = append(jobs, job{cmd, out, problem, name, first})
	}
	for i := range 3 {
		start(fmt.Sprint("own", i), seed*10+i, fsxMax, 0, 0, 1)
	}
	for i := range sharers {
		start("shared", seed*10+5+i, limit, stripe, i, sharers)
	}
	want, logs := map[string][]byte{}, map[string][][]step{}
	for _, j := range jobs {
		if err := j.cmd.Wait(); err != nil {
			t.Fatalf("seed %d: %s: %v: %s", seed, j.name, err, j.problem)
		}
		logs[j.name] = append(logs[j.name], logOf(j.problem.Bytes()))
		b := j.out.Bytes()
		if j.name != "shared" {
			want[j.name] = b
			continue
		}
		if want["shared"] == nil {
			want["shared"] = make([]byte, limit)
		}
		for at := range b {
			if at/stripe%sharers == j.first {
				want["shared"][at] = b[at]
			}
		}
	}
	return want, logs
}

func verifyFiles(t *testing.T, when, dir string, want map[string][]byte, logs map[string][][]step) {
	t.Helper()
	for name, w := range want {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %s: %v", when, name, err)
		}
		if name == "shared" { // as long as somebody wrote
			w = w[:min(len(w), len(got))]
			if len(bytes.Trim(want[name][len(w):], "\x00")) > 0 {
				t.Fatalf("%s: the shared file is cut at %d", when, len(got))
			}
		}
		if !bytes.Equal(got, w) {
			at := 0
			for at < min(len(got), len(w)) && got[at] == w[at] {
				at++
			}
			for i, log := range logs[name] {
				t.Logf("what process %d did to the page:%s", i, historyOf(log, int64(at)))
			}
			t.Fatalf("%s: %s has %d bytes, want %d, and differs at %d", when, name, len(got), len(w), at)
		}
	}
}

// TestExercisers is fsx: several processes read, write, map, cut, punch and copy; then the
// daemon is killed, and unmounted, and everything must be as they left it.
func TestExercisers(t *testing.T) {
	rounds, steps := 2, 250
	if testing.Short() {
		rounds = 1
	}
	if soak() {
		rounds, steps = 100, 3000
	}
	t.Run("local", func(t *testing.T) {
		dir := t.TempDir()
		want, logs := exercisers(t, dir, 1, steps)
		verifyFiles(t, "at the end", dir, want, logs)
	})
	t.Run("drive", func(t *testing.T) {
		base := t.TempDir()
		m := startKept(t, base, "")
		for seed := range rounds {
			dir := filepath.Join(m.dir, fmt.Sprint("d", seed))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			want, logs := exercisers(t, dir, seed, steps)
			if seed%2 == 0 {
				if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil { // it may be in the middle of it
					t.Fatal(err)
				}
			}
			m.kill()
			m = startKept(t, base, "")
			verifyFiles(t, "after a kill", dir, want, logs)
			m.stop()
			m = startKept(t, base, "")
			verifyFiles(t, "after a commit and remount", dir, want, logs)
		}
		m.stop()
	})
}
