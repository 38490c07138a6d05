package fuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A Go program must never touch its own mount. So the tests run their daemon as another
// process: this same binary, told so by its environment.
const daemonEnv = "IPFSCLOUD_TEST_FUSE_DAEMON"

func TestMain(m *testing.M) {
	if dir := os.Getenv(daemonEnv); dir != "" {
		if err := daemon(dir, os.Getenv(daemonEnv+"_OPTIONS")); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if args := os.Getenv(exerciserEnv); args != "" {
		if err := runExerciser(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// daemon mounts a tree on a memory store at dir/mnt until it gets a signal.
func daemon(dir, options string) error {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	id, err := fstest.NewIdentity("fuse")
	if err != nil {
		return err
	}
	base, err := testStore(dir)
	if err != nil {
		return err
	}
	store := fstest.NewFaulty(base)
	cfg := fs.Config{Store: store, Identity: id, StateDir: filepath.Join(dir, "state"),
		JournalDir: filepath.Join(dir, "journal"), Log: log}
	o := Options{Log: log}
	if err := ParseOptions(options, &o); err != nil {
		return err
	}
	cfg.ReadOnly = o.ReadOnly
	if n := os.Getenv(memoryEnv); n != "" {
		if _, err := fmt.Sscan(n, &cfg.MemoryLimit); err != nil {
			return err
		}
	}
	switch vaults, err := fs.Discover(ctx, store, id); {
	case err != nil:
		return err
	case len(vaults) > 0:
		cfg.Vault = vaults[0].Vault
	default:
		if cfg.Vault, err = fs.Create(ctx, cfg); err != nil {
			return err
		}
	}
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer tree.Abort()
	hang := make(chan os.Signal, 1)
	signal.Notify(hang, syscall.SIGUSR1)
	go func() { // SIGUSR1: the store does not answer any more, and nothing is cached
		for range hang {
			store.Hang(fstest.OpGet)
			fmt.Println("hanging")
		}
	}()
	commit := make(chan os.Signal, 1)
	signal.Notify(commit, syscall.SIGHUP)
	go func() {
		for range commit {
			if err := tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
				fmt.Println("committing:", err)
			} else {
				fmt.Println("committed")
			}
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	s, err := Mount(ctx, panicky{tree}, filepath.Join(dir, "mnt"), o)
	if err != nil {
		return err
	}
	s.noPrune.Store(os.Getenv(noPruneEnv) != "")
	restrain, end := context.WithCancel(ctx)
	defer end()
	go tree.Restrain(restrain, s)
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGWINCH)
	go func() {
		for range ask {
			n, bytes := tree.Loaded()
			fmt.Println("loaded", n, bytes, s.KeepsUsed())
		}
	}()
	giveUp := make(chan os.Signal, 1)
	signal.Notify(giveUp, syscall.SIGUSR2)
	fmt.Println("mounted")
	select {
	case <-stop:
		err := s.Unmount(false)
		// A program that looks at all mounts, as df does, is in this one for a moment.
		for end := time.Now().Add(10 * time.Second); errors.Is(err, fs.ErrBusy) && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
			err = s.Unmount(false)
		}
		if err != nil || os.Getenv(keptEnv) == "" {
			return err
		}
		return tree.Close(ctx)
	case <-giveUp:
		s.Abort()
		<-s.Done()
		return nil
	case <-s.Done():
		return nil
	}
}

const (
	memoryEnv  = daemonEnv + "_MEMORY"  // the memory limit, in bytes
	noPruneEnv = daemonEnv + "_NOPRUNE" // the kernel is taken for an old one
)

// keptEnv says that the store is a directory, which the next daemon finds again.
const keptEnv = daemonEnv + "_KEPT"

func testStore(dir string) (fs.Store, error) {
	if os.Getenv(keptEnv) == "" {
		return fstest.NewMemory(), nil
	}
	return newDirStore(filepath.Join(dir, "store"))
}

// panicky is a tree with a fault: it panics when it is asked for a name.
type panicky struct{ Tree }

func (p panicky) Lookup(ctx context.Context, parent fs.Ino, name string) (fs.Attr, error) {
	if name == "panic" {
		panic("a fault of the test")
	}
	return p.Tree.Lookup(ctx, parent, name)
}

// mount is a mount served by another process.
type mount struct {
	t   *testing.T
	dir string // the mountpoint
	cmd *exec.Cmd
	out *lines
}

// lines reads the daemon's lines.
type lines struct {
	r   io.Reader
	buf string
}

// next returns the next line.
func (l *lines) next() (string, error) {
	for {
		if line, rest, ok := strings.Cut(l.buf, "\n"); ok {
			l.buf = rest
			return line, nil
		}
		b := make([]byte, 4096)
		n, err := l.r.Read(b)
		l.buf += string(b[:n])
		if err != nil {
			return "", err
		}
	}
}

func start(t *testing.T, base, options string, env ...string) *mount {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here: ", err)
	}
	// IPFSCLOUD_TEST_LOOP runs all tests with one way to read requests.
	if loop := os.Getenv("IPFSCLOUD_TEST_LOOP"); loop != "" && !strings.Contains(options, "loop=") {
		options = strings.TrimPrefix(options+",loop="+loop, ",")
		if Loop(loop) == LoopRing {
			enableRings(t)
		}
	}
	m := &mount{t: t, dir: filepath.Join(base, "mnt")}
	m.cmd = daemonCommand(t, base)
	m.cmd.Env = append(os.Environ(), daemonEnv+"="+base, daemonEnv+"_OPTIONS="+options)
	m.cmd.Env = append(m.cmd.Env, env...)
	m.cmd.Stderr = stderr(t)
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.out = &lines{r: out}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	line, err := m.out.next()
	if err != nil || line != "mounted" {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	return m
}

// startKept starts a daemon whose store is kept below base, where one may have run before.
func startKept(t *testing.T, base, options string, env ...string) *mount {
	t.Helper()
	if err := os.Mkdir(filepath.Join(base, "mnt"), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return start(t, base, options, append(env, keptEnv+"=1")...)
}

// mountTree starts a daemon with a fresh tree.
func mountTree(t *testing.T, options string) *mount {
	t.Helper()
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "mnt"), 0o755); err != nil {
		t.Fatal(err)
	}
	return start(t, base, options)
}

// kill ends the daemon, and the mount, whatever state they are in.
func (m *mount) kill() {
	if m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
	_ = syscall.Unmount(m.dir, syscall.MNT_DETACH)
}

// stop unmounts as the daemon does at SIGTERM.
func (m *mount) stop() {
	m.t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	said, _ := io.ReadAll(m.out.r)
	if err := m.cmd.Wait(); err != nil {
		m.t.Fatalf("the daemon ended with %v: %s%s", err, m.out.buf, said)
	}
}

// within fails the test if fn takes longer.
func within(t *testing.T, d time.Duration, what string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(d):
		t.Fatalf("%s took longer than %v", what, d)
	}
}

// stderr is where a daemon's complaints go: into the test's log, line by line.
func stderr(t *testing.T) io.Writer { return testLog{t} }

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
