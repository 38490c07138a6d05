package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFilesThroughTheKernel(t *testing.T) {
	for _, loop := range []Loop{LoopOwn, LoopGoFuse} {
		t.Run(string(loop), func(t *testing.T) {
			m := mountTree(t, "loop="+string(loop))
			within(t, time.Minute, "files", func() error { return useFiles(m.dir) })
			m.stop()
		})
	}
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
	m := mountTree(t, "")
	if err := m.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = m.cmd.Wait()
	if _, err := os.Stat(m.dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("the mount of a dead daemon: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(m.dir), "state")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(m.dir), "journal")); err != nil {
		t.Fatal(err)
	}
	again := start(t, filepath.Dir(m.dir), "")
	within(t, 10*time.Second, "writing", func() error { return os.WriteFile(filepath.Join(again.dir, "x"), nil, 0o600) })
	again.stop()
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
	m := mountTree(t, "")
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
	if err := unix.Access("/proc/sys/vm/drop_caches", unix.W_OK); err != nil {
		t.Skip("needs root to drop the kernel's cache: ", err)
	}
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
	for _, c := range readers {
		_ = c.Process.Kill()
		within(t, 10*time.Second, "the end of a killed reader", func() error { _ = c.Wait(); return nil })
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
	seen := map[error]bool{}
	for _, e := range errnos {
		if seen[e.err] {
			t.Errorf("%v stands in the table twice", e.err)
		}
		seen[e.err] = true
		if got := errno(log, fmt.Errorf("outer: %w", e.err)); syscall.Errno(got) != e.errno {
			t.Errorf("%v gives %v, want %v", e.err, got, e.errno)
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
