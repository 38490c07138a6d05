package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

func TestFilesThroughTheKernel(t *testing.T) {
	eachLoop(t, func(t *testing.T, options string) {
		m := mountTree(t, options)
		within(t, time.Minute, "files", func() error { return useFiles(m.dir) })
		m.stop()
	}, LoopOwn, LoopRing, LoopGoFuse)
}

func useFiles(dir string) error {
	f := filepath.Join(dir, "a")
	want := bytes.Repeat([]byte("some bytes "), 300000)
	if err := os.WriteFile(f, want, 0o640); err != nil {
		return err
	}
	got, err := os.ReadFile(f)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("read back: %w", err)
	}
	if err := os.Rename(f, filepath.Join(dir, "b")); err != nil {
		return err
	}
	if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the old name: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "d/e/f"), 0o700); err != nil {
		return err
	}
	if err := os.Symlink("../b", filepath.Join(dir, "d/link")); err != nil {
		return err
	}
	if got, err := os.ReadFile(filepath.Join(dir, "d/link")); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("through the link: %w", err)
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, "d/e", fmt.Sprintf("file%05d", i)), []byte("x"), 0o600); err != nil {
			return err
		}
	}
	names, err := os.ReadDir(filepath.Join(dir, "d/e"))
	if err != nil || len(names) != 3001 {
		return fmt.Errorf("%d names: %w", len(names), err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
		return err
	}
	return sharedMap(filepath.Join(dir, "b"), got)
}

// sharedMap writes through a mapping and reads with read(2).
func sharedMap(path string, want []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, want) {
		return errors.New("the mapping differs")
	}
	copy(b[5000:], "changed")
	if err := unix.Msync(b, unix.MS_SYNC); err != nil {
		return err
	}
	if err := unix.Munmap(b); err != nil {
		return err
	}
	got := make([]byte, 7)
	if _, err := f.ReadAt(got, 5000); err != nil || string(got) != "changed" {
		return fmt.Errorf("%q: %w", got, err)
	}
	return f.Sync()
}

func TestDeadMountIsCleaned(t *testing.T) {
	eachLoop(t, func(t *testing.T, options string) {
		m := mountTree(t, options)
		if err := m.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = m.cmd.Wait()
		if _, err := os.Stat(m.dir); !isGone(err) {
			t.Fatalf("the mount of a dead daemon: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(filepath.Dir(m.dir), "state")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(filepath.Dir(m.dir), "journal")); err != nil {
			t.Fatal(err)
		}
		again := start(t, filepath.Dir(m.dir), options)
		within(t, 10*time.Second, "writing", func() error { return os.WriteFile(filepath.Join(again.dir, "x"), nil, 0o600) })
		again.stop()
	}, LoopOwn, LoopRing)
}

func TestMountpoints(t *testing.T) {
	dir := t.TempDir()
	if _, err := prepare(filepath.Join(dir, "no"), false); !errors.Is(err, ErrMountpointMissing) {
		t.Error(err)
	}
	if _, err := prepare(filepath.Join(dir, "no/no"), false); !errors.Is(err, ErrMountpointMissing) {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(file, false); !errors.Is(err, ErrMountpointNotDir) {
		t.Error(err)
	}
	if _, err := prepare(dir, false); !errors.Is(err, ErrMountpointNotEmpty) {
		t.Error(err)
	}
	if _, err := prepare(dir, true); err != nil {
		t.Error(err)
	}
	m := mountTree(t, "")
	if _, err := prepare(m.dir, false); !errors.Is(err, ErrMountpointBusy) {
		t.Error(err)
	}
	m.stop()
}

// A reader that waits for a store that hangs can be killed, and others are served.
func TestHangingStore(t *testing.T) {
	eachLoop(t, func(t *testing.T, options string) {
		m := mountTree(t, options)
		path := filepath.Join(m.dir, "big")
		within(t, time.Minute, "writing", func() error {
			// More than the tree keeps in memory: it must ask the store.
			b := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			defer f.Close()
			for range 200 {
				if _, err := f.Write(b); err != nil {
					return err
				}
			}
			return f.Sync()
		})
		if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if line, err := m.out.next(); err != nil || line != "hanging" {
			t.Fatal(line, err)
		}
		// More readers than the loop has threads.
		var readers []*exec.Cmd
		for i := range 6 {
			c := exec.Command("dd", "if="+path, "of=/dev/null", "bs=1M", "count=20", fmt.Sprint("skip=", 3*i), "iflag=direct")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, c)
		}
		within(t, 10*time.Second, "another file while readers wait", func() error {
			return os.WriteFile(filepath.Join(m.dir, "other"), []byte("x"), 0o600)
		})
		for _, c := range readers[:3] {
			_ = c.Process.Kill()
			within(t, 10*time.Second, "the end of a killed reader", func() error { _ = c.Wait(); return nil })
		}
		// Giving the mount up interrupts the others.
		if err := m.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "the end of a mount that is given up", m.cmd.Wait)
		for _, c := range readers[3:] {
			within(t, 10*time.Second, "the end of a reader without a mount", func() error { _ = c.Wait(); return nil })
		}
	}, LoopOwn, LoopRing)
}

// A fault in the tree ends the daemon: nothing is served from a state that may be half a change.
func TestPanicEndsTheDaemon(t *testing.T) {
	eachLoop(t, func(t *testing.T, options string) {
		m := mountTree(t, options)
		if _, err := os.Stat(filepath.Join(m.dir, "panic")); err == nil {
			t.Error("a name that panics is there")
		}
		within(t, 10*time.Second, "the daemon's end", func() error {
			if err := m.cmd.Wait(); err == nil {
				return errors.New("it ended as if all was well")
			}
			return nil
		})
	}, LoopOwn, LoopRing)
}

// The dead mount of another program is left alone.
func TestForeignDeadMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Mount("other", dir, "fuse.other", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if _, err := prepare(dir, false); !errors.Is(err, ErrMountpointBusy) {
		t.Errorf("mounting over it: %v", err)
	}
	if _, ok, err := findMount(dir); !ok || err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

func TestParseOptions(t *testing.T) {
	var o Options
	if err := ParseOptions("ro,allow_other,uid=1000,gid=100,umask=027,noexec,x-systemd.automount,_netdev", &o); err != nil {
		t.Fatal(err)
	}
	if !o.ReadOnly || !o.AllowOther || !o.NoExec || *o.UID != 1000 || *o.GID != 100 || o.Umask != 0o27 {
		t.Fatalf("%+v", o)
	}
	for _, bad := range []string{"nonsense", "uid=x", "uid", "suid", "dev", "ro=1", "loop=other"} {
		if err := ParseOptions(bad, &Options{}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestErrnoTable(t *testing.T) {
	log := (&Options{}).filled().Log
	// What the manuals of the calls promise for each meaning.
	want := map[error]syscall.Errno{
		fs.ErrRollback: syscall.EROFS, fs.ErrFork: syscall.EROFS, fs.ErrReadOnly: syscall.EROFS,
		fs.ErrIntegrity: syscall.EIO, fs.ErrUnavailable: syscall.EIO, context.DeadlineExceeded: syscall.EIO,
		fs.ErrNoSpace: syscall.ENOSPC, fs.ErrNotFound: syscall.ENOENT, fs.ErrExist: syscall.EEXIST,
		fs.ErrNotDir: syscall.ENOTDIR, fs.ErrIsDir: syscall.EISDIR, fs.ErrNotEmpty: syscall.ENOTEMPTY,
		fs.ErrInvalid: syscall.EINVAL, fs.ErrNameTooLong: syscall.ENAMETOOLONG, fs.ErrPermission: syscall.EPERM,
		fs.ErrAccess: syscall.EACCES, fs.ErrTooLarge: syscall.EFBIG, fs.ErrTooManyLinks: syscall.EMLINK,
		fs.ErrNoAttr: syscall.ENODATA, fs.ErrAttrRange: syscall.ERANGE, fs.ErrNoSeek: syscall.ENXIO,
		fs.ErrNotSupported: syscall.EOPNOTSUPP, fs.ErrStale: syscall.ESTALE, fs.ErrBusy: syscall.EBUSY,
		fs.ErrInterrupted: syscall.EINTR, context.Canceled: syscall.EINTR,
	}
	if len(errnos) != len(want) {
		t.Errorf("%d meanings have a number, want %d", len(errnos), len(want))
	}
	for err, no := range want {
		if got := errno(log, fmt.Errorf("outer: %w", err)); syscall.Errno(got) != no {
			t.Errorf("%v gives %v, want %v", err, syscall.Errno(got), no)
		}
	}
	if got := errno(log, errors.New("unheard of")); syscall.Errno(got) != syscall.EIO {
		t.Errorf("an unknown error gives %v", got)
	}
	if got := errno(log, nil); got != 0 {
		t.Errorf("no error gives %v", got)
	}
}

func (o *Options) filled() *Options {
	o.fill()
	return o
}
