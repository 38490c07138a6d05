package systemd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A machine is made by two processes, both this program again: the keeper has a mount
// namespace and makes the control group that the machine sees as its root; its child gets
// the other namespaces, makes the mounts, and becomes systemd.
const (
	stageEnv    = "IPFSCLOUD_TEST_STAGE"
	dirEnv      = "IPFSCLOUD_TEST_MACHINE"
	stageKeeper = "keeper"
	stageInit   = "init"

	systemd = "/lib/systemd/systemd"
	ada     = 1000 // a user of the machine
)

func TestMain(m *testing.M) {
	stages := map[string]func(dir string) error{stageKeeper: keep, stageInit: start}
	if stage, ok := stages[os.Getenv(stageEnv)]; ok {
		if err := stage(os.Getenv(dirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// keep runs a machine until it is off, or nobody holds the other end of descriptor 3.
// Descriptor 4 is told the pid of the machine's first process when that is systemd.
func keep(dir string) error {
	hold, told := os.NewFile(3, "hold"), os.NewFile(4, "told")
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	// Drives of other tests: this namespace would keep them mounted after they are unmounted
	// outside. It matters to those tests alone when one stays.
	_ = exec.Command("umount", "-c", "-l", "-a", "-t", "fuse.ipfscloud").Run()
	groups := filepath.Join(dir, "cgroup")
	if err := os.MkdirAll(groups, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", groups, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mounting the control groups: %w", err)
	}
	here, err := ownGroup()
	if err != nil {
		return err
	}
	here = filepath.Join(groups, here)
	group := filepath.Join(here, fmt.Sprintf("ipfscloud-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		return fmt.Errorf("a control group: %w", err)
	}
	err = supervise(dir, here, group, hold, told)
	return errors.Join(err, removeGroup(group))
}

func supervise(dir, here, group string, hold, told *os.File) error {
	started, theirStarted, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), stageEnv+"="+stageInit)
	cmd.ExtraFiles = []*os.File{theirStarted}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWCGROUP | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET}
	// The root of a namespace of control groups is the group of who makes it.
	if err := join(group); err != nil {
		return err
	}
	err = cmd.Start()
	theirStarted.Close()
	if err := errors.Join(err, join(here)); err != nil {
		return fmt.Errorf("starting the machine: %w", err)
	}
	go func() { // ends with this process
		_, _ = hold.Read(make([]byte, 1))
		_ = cmd.Process.Kill()
	}()
	// Closed without a word when systemd has taken the process over.
	problem, err := io.ReadAll(started)
	if err == nil && len(problem) == 0 {
		_, err = fmt.Fprintln(told, cmd.Process.Pid)
	}
	told.Close()
	waited := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(waited, &exit) && len(problem) == 0 {
		waited = nil // killed, by the test or by its own reboot(2)
	}
	return errors.Join(err, waited)
}

// ownGroup is the path of this process's group in the unified hierarchy.
func ownGroup() (string, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if path, ok := strings.CutPrefix(lines.Text(), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("the kernel has no unified control groups")
}

func join(group string) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0)
}

// removeGroup removes a group in which nothing runs, with all below it.
func removeGroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, unix.Rmdir(d))
	}
	return err
}

// start is the machine's first process: it makes its mounts and becomes systemd.
// Descriptor 3 is closed by that; what is written to it is why it failed.
func start(dir string) error {
	told := os.NewFile(3, "told")
	syscall.CloseOnExec(3)
	// Capabilities are a thread's, and this one becomes systemd.
	runtime.LockOSThread()
	err := mounts(dir)
	// What the kernel has once for all machines is not this one's to change.
	for _, c := range []uintptr{unix.CAP_SYS_MODULE, unix.CAP_SYS_TIME, unix.CAP_SYS_RAWIO} {
		if err == nil {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
	}
	if err == nil {
		err = unix.Exec(systemd, []string{systemd}, []string{"container=ipfscloud-test", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
	}
	_, _ = fmt.Fprintln(told, err)
	return err
}

// mounts makes the machine's file system, and it the only one to be seen.
func mounts(dir string) error {
	root := filepath.Join(dir, "root")
	in := func(name string) string { return filepath.Join(root, name) }
	quiet := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{root, root, "", unix.MS_BIND, ""},
		{"overlay", in("usr"), "overlay", unix.MS_RDONLY, "lowerdir=" + filepath.Join(dir, "usr") + ":/usr"},
		{"proc", in("proc"), "proc", quiet, ""},
		{in("proc/sys"), in("proc/sys"), "", unix.MS_BIND, ""},
		{"", in("proc/sys"), "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | quiet, ""},
		{"sysfs", in("sys"), "sysfs", quiet | unix.MS_RDONLY, ""},
		{"cgroup2", in("sys/fs/cgroup"), "cgroup2", quiet, ""},
		{"tmpfs", in("run"), "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", in("dev"), "tmpfs", unix.MS_NOSUID, "mode=755"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	if err := devices(in("dev")); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // what was the root lies over it
		return fmt.Errorf("the old root: %w", err)
	}
	// As systemd makes it on a machine of metal: what a service mounts, all can see.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// devices are what a program needs, and the one of FUSE with the mode that udev gives it.
func devices(dev string) error {
	var err error
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		err = errors.Join(err, device(filepath.Join(dev, name), 1, minor))
	}
	err = errors.Join(err, device(filepath.Join(dev, "tty"), 5, 0), device(filepath.Join(dev, "fuse"), 10, 229),
		device(filepath.Join(dev, "autofs"), 10, 235))
	for _, d := range []string{"pts", "shm"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dev, d), 0o755))
	}
	return errors.Join(err,
		unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"),
		os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx")),
		os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")))
}

func device(path string, major, minor uint32) error {
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	return os.Chmod(path, 0o666)
}
