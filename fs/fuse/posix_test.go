package fuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// ground is a file system that cases run on.
type ground struct {
	t      *testing.T
	kind   string // "drive" or "ext4"
	dir    string
	other  string // a directory of another file system
	actors map[string]*actor
	count  int
	fixed  bool // the cases run in dir itself: nothing can be made there
}

// run is one case on one ground.
type run struct {
	g     *ground
	dir   string
	files map[string]int
	marks map[string]*unix.Stat_t
	seen  map[string]bool // users that are in the directory
}

func (g *ground) actor(user string) *actor {
	if a, ok := g.actors[user]; ok {
		return a
	}
	c, ok := users()[user]
	if !ok {
		g.t.Fatalf("no user %q", user)
	}
	a, err := newActor(c)
	if err != nil {
		g.t.Fatal(err)
	}
	g.actors[user] = a
	g.t.Cleanup(a.end)
	return a
}

// begin makes the directory of a case, which belongs to a user. end removes it.
func (g *ground) begin(t *testing.T, owner string) (r *run, end func()) {
	t.Helper()
	g.count++
	dir := g.dir
	if !g.fixed {
		dir = filepath.Join(g.dir, fmt.Sprintf("c%d", g.count))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if u := users()[owner]; u.uid != 0 {
			if err := os.Chown(dir, u.uid, u.gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	r = &run{g: g, dir: dir, files: map[string]int{}, marks: map[string]*unix.Stat_t{}, seen: map[string]bool{}}
	return r, func() {
		for _, fd := range r.files {
			unix.Close(fd)
		}
		if g.fixed {
			return
		}
		if err := removeTree(dir); err != nil {
			t.Errorf("removing %s: %v", dir, err)
		}
	}
}

// perform does what a line says, as a user.
func (r *run) perform(t *testing.T, l *line, user string) (got string, err error) {
	t.Helper()
	f := operationOf(t, l)
	r.g.actor(user).do(func() {
		if !r.seen[user] {
			r.seen[user] = true
			unix.Umask(0)
			if err = unix.Chdir(r.dir); err != nil {
				return
			}
		}
		got, err = f(r, l.args)
	})
	return got, err
}

// try runs a case. The same thread must not wait for both sides of anything.
func (g *ground) try(t *testing.T, c *testCase) {
	t.Helper()
	r, end := g.begin(t, "root")
	defer end()
	for i := range c.lines {
		l := &c.lines[i]
		if l.only != "" && l.only != g.kind {
			continue
		}
		if bad := l.judge(r.perform(t, l, l.user)); bad != "" {
			t.Fatalf("%s: %s: %s", l.at, l.text, bad)
		}
	}
}

// operationOf finds what a line does.
func operationOf(t *testing.T, l *line) operation {
	t.Helper()
	for _, all := range []map[string]operation{operations(), moreOperations(), aclOperations()} {
		if f, ok := all[l.op]; ok {
			return f
		}
	}
	t.Fatalf("%s: no operation %q", l.at, l.op)
	return nil
}

// judge says what is wrong with a result.
func (l *line) judge(got string, err error) string {
	if l.errs == nil {
		if err != nil {
			return err.Error()
		}
		if l.check && got != l.want {
			return fmt.Sprintf("got %q", got)
		}
		return ""
	}
	if err == nil {
		return "succeeded"
	}
	var e syscall.Errno
	if !errors.As(err, &e) {
		return err.Error()
	}
	for _, want := range l.errs {
		if unix.ErrnoName(e) == want || want == "EOPNOTSUPP" && e == unix.EOPNOTSUPP {
			return ""
		}
	}
	return "got " + unix.ErrnoName(e)
}

// removeTree removes what a case left, also names that are longer than a path may be.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, syscall.ENAMETOOLONG) {
		err = nil
	}
	return err
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the cases run as several users")
	}
}

// openWay lets other users through the directories that the test library made.
func openWay(t *testing.T, dir string) {
	t.Helper()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// local is the ground on the local disk, if that is an ext4.
func local(t *testing.T) *ground {
	t.Helper()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("%s is no ext4: the cases are not checked against it", dir)
	}
	openWay(t, dir)
	return &ground{t: t, kind: "ext4", dir: dir, other: elsewhere(t), actors: map[string]*actor{}}
}

// drive is the ground on a mounted drive.
func drive(t *testing.T, options string) *ground {
	t.Helper()
	m := mountTree(t, options)
	openWay(t, filepath.Dir(m.dir))
	return &ground{t: t, kind: "drive", dir: m.dir, other: elsewhere(t), actors: map[string]*actor{}}
}

// elsewhere is a directory on a third file system.
func elsewhere(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ipfscloud-test-")
	if err != nil {
		t.Skip("no /dev/shm here: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runTables runs the cases of some tables on both grounds. There must be as many on the
// drive as least says: else tables were lost.
func runTables(t *testing.T, pattern, options string, least int) {
	needRoot(t)
	cases := loadCases(t, pattern)
	t.Run("ext4", func(t *testing.T) { runCases(t, local(t), cases) })
	t.Run("drive", func(t *testing.T) {
		if n := runCases(t, drive(t, options), cases); n < least {
			t.Errorf("%d cases, and there should be %d at least", n, least)
		}
	})
}

// runCases runs cases and tells how many there were, by area.
func runCases(t *testing.T, g *ground, cases []testCase) (n int) {
	t.Helper()
	areas := map[string]int{}
	for i := range cases {
		c := &cases[i]
		if c.only != "" && c.only != g.kind {
			continue
		}
		n++
		areas[strings.SplitN(c.name, "/", 2)[0]]++
		t.Run(c.name, func(t *testing.T) { g.try(t, c) })
	}
	t.Logf("%d cases on %s: %v", n, g.kind, areas)
	return n
}

// TestGoFuse runs the list of tests that go-fuse has for file systems.
func TestGoFuse(t *testing.T) {
	needRoot(t)
	for name, fn := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if name == "FcntlFlockLocksFile" {
				// go-fuse leaves it out for a local directory too. What it is about is in
				// TestLocksOfProcesses, with a second process.
				t.Skip("wants a process's lock to shut out the process itself: POSIX says that it does not, and SQLite depends on that")
			}
			m := mountTree(t, "")
			fn(t, m.dir)
		})
	}
}

// TestPOSIX runs the tables.
func TestPOSIX(t *testing.T) { runTables(t, "testdata/posix/*.txt", "allow_other", 1100) }
