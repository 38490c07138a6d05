// Package fleettest gives tests a real fleet of Egress nodes, with programs that it
// builds when they are not there, so that a test needs no step before it.
//
// Only tests import it.
package fleettest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
)

const (
	module    = "module github.com/cluster-labs/ipfscloud\n"
	buildTime = 15 * time.Minute
	stopTime  = time.Minute
)

// Binaries returns the programs of a node, in the module's bin directory: those that are
// there if they were built from what go.mod says now, else new ones. Tests of several
// packages may call it at the same time.
func Binaries(t testing.TB) fleet.Binaries {
	t.Helper()
	b, err := binaries(t)
	if err != nil {
		t.Fatal("programs of the Egress node: ", err)
	}
	return b
}

func binaries(t testing.TB) (fleet.Binaries, error) {
	root, err := moduleRoot()
	if err != nil {
		return fleet.Binaries{}, err
	}
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil { //nolint:gosec // programs are for all
		return fleet.Binaries{}, err
	}
	unlock, err := lock(filepath.Join(bin, ".egress.lock"))
	if err != nil {
		return fleet.Binaries{}, err
	}
	defer unlock()
	key, err := buildKey(root)
	if err != nil {
		return fleet.Binaries{}, err
	}
	stamp := filepath.Join(bin, ".egress.stamp")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == key {
		if b, err := fleet.FindBinaries(bin); err == nil && filepath.Dir(b.IPFS) == bin {
			return b, nil
		}
	}
	t.Log("building Kubo and the cluster service; the first time takes some minutes")
	if err := build(root); err != nil {
		return fleet.Binaries{}, err
	}
	b, err := fleet.FindBinaries(bin)
	if err != nil {
		return b, err
	}
	return b, os.WriteFile(stamp, []byte(key), 0o600)
}

// build does what `make egress` does, by the Makefile itself: the same flags are the same
// cache of compiled packages.
func build(root string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", "egress")
	cmd.Dir = root
	// A make that runs the tests would hand down its flags.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make egress: %w: %s", errors.Join(ctx.Err(), err), out)
	}
	return nil
}

// moduleRoot is found from the directory of the package under test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), module) {
			return dir, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of the project above the working directory: %w", fs.ErrNotExist)
		}
		dir = filepath.Dir(dir)
	}
}

// buildKey changes when the programs have to be built again.
func buildKey(root string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version())
	for _, name := range []string{
		"go.mod", "go.sum", "packaging/egress/go.mod", "packaging/egress/go.sum",
		"packaging/egress/httpunix/httpunix.go",
	} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name, len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock waits for a lock that other test processes take too.
func lock(path string) (func(), error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("flock", err), unix.Close(fd))
	}
	return func() { _ = unix.Close(fd) }, nil // which unlocks
}

// Up starts a fleet on loopback and stops it when the test ends. Of c it takes what is
// set; the directory may be one that a test has used before.
func Up(t testing.TB, c fleet.Config) *fleet.Fleet {
	t.Helper()
	c.Binaries = Binaries(t)
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	f, err := fleet.Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if err := f.Stop(ctx); err != nil {
			t.Error("stop the fleet: ", err)
		}
	})
	return f
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
