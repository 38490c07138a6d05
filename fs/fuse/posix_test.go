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

// try runs a case. The same thread must not wait for both sides of anything.
func (g *ground) try(t *testing.T, c *testCase) {
	t.Helper()
	g.count++
	dir := g.dir
	if !g.fixed {
		dir = filepath.Join(g.dir, fmt.Sprintf("c%d", g.count))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := &run{g: g, dir: dir, files: map[string]int{}, marks: map[string]*unix.Stat_t{}}
	defer func() {
		for _, fd := range r.files {
			unix.Close(fd)
		}
		if g.fixed {
			return
		}
		if err := removeTree(dir); err != nil {
			t.Errorf("removing %s: %v", dir, err)
		}
	}()
	seen := map[string]bool{}
	for i := range c.lines {
		l := &c.lines[i]
		if l.only != "" && l.only != g.kind {
			continue
		}
		f, ok := operations()[l.op]
		if !ok {
			f, ok = aclOperations()[l.op]
		}
		if !ok {
			t.Fatalf("%s: no operation %q", l.at, l.op)
		}
		a := g.actor(l.user)
		var got string
		var err error
		a.do(func() {
			if !seen[l.user] {
				seen[l.user] = true
				unix.Umask(0)
				if err = unix.Chdir(dir); err != nil {
					return
				}
			}
			got, err = f(r, l.args)
		})
		if bad := l.judge(got, err); bad != "" {
			t.Fatalf("%s: %s: %s", l.at, l.text, bad)
		}
	}
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

// runTables runs the cases of some tables on both grounds.
func runTables(t *testing.T, pattern, options string) {
	needRoot(t)
	cases := loadCases(t, pattern)
	t.Run("ext4", func(t *testing.T) { runCases(t, local(t), cases) })
	t.Run("drive", func(t *testing.T) { runCases(t, drive(t, options), cases) })
}

func runCases(t *testing.T, g *ground, cases []testCase) {
	n := 0
	for i := range cases {
		c := &cases[i]
		if c.only != "" && c.only != g.kind {
			continue
		}
		n++
		t.Run(c.name, func(t *testing.T) { g.try(t, c) })
	}
	t.Logf("%d cases", n)
}

// TestGoFuse runs the list of tests that go-fuse has for file systems.
func TestGoFuse(t *testing.T) {
	needRoot(t)
	for name, fn := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if name == "FcntlFlockLocksFile" {
				t.Skip("wants a process's lock to shut out the process itself, which no local file system does")
			}
			m := mountTree(t, "")
			fn(t, m.dir)
		})
	}
}

// TestPOSIX runs the tables.
func TestPOSIX(t *testing.T) { runTables(t, "testdata/posix/*.txt", "allow_other") }
