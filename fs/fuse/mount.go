package fuse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// Why a directory cannot be mounted on.
var (
	ErrMountpointMissing  = errors.New("mountpoint does not exist")
	ErrMountpointNotDir   = errors.New("mountpoint is not a directory")
	ErrMountpointNotEmpty = errors.New("mountpoint is not empty")
	ErrMountpointBusy     = errors.New("something is mounted there already")
	// ErrMount: the kernel or fusermount3 refused.
	ErrMount = errors.New("mount failed")
)

const subtype = "ipfscloud"

// mounted is one line of /proc/self/mountinfo.
type mounted struct {
	dev    string // major:minor
	point  string
	fstype string
}

// findMount returns the topmost mount at a path. It does not touch the path: its file
// system may be dead, or may be this process.
func findMount(path string) (m mounted, ok bool, err error) {
	err = eachMount(func(o mounted) {
		if o.point == path {
			m, ok = o, true
		}
	})
	return m, ok, err
}

// eachMount calls fn for each mount that this process sees, the topmost ones last.
func eachMount(fn func(mounted)) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		left, right, found := strings.Cut(s.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !found || len(l) < 5 || len(r) < 1 {
			continue
		}
		fn(mounted{l[2], unescape(l[4]), r[0]})
	}
	return s.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// resolve makes a mountpoint absolute and free of links, without touching the mountpoint
// itself, which may be a dead mount.
func resolve(path string) (string, error) {
	full, err := safefile.Resolve(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", fmt.Errorf("%s: %w", path, ErrMountpointMissing)
	}
	return full, err
}

// prepare checks a mountpoint, and takes away what a daemon that died left there.
func prepare(path string, nonEmpty bool) (string, error) {
	path, err := resolve(path)
	if err != nil {
		return "", err
	}
	for range 8 { // mounts may lie on one another
		m, ok, err := findMount(path)
		if err != nil {
			return "", err
		}
		if !ok || !strings.HasPrefix(m.fstype, "fuse") {
			break
		}
		// A dead mount of another program is not ours to take away.
		if m.fstype != "fuse."+subtype || !isDead(path) {
			return "", fmt.Errorf("%s: %w", path, ErrMountpointBusy)
		}
		if err := unmount(path, true); err != nil {
			return "", fmt.Errorf("removing the dead mount at %s: %w", path, err)
		}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("%s: %w", path, ErrMountpointMissing)
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case !st.IsDir():
		return "", fmt.Errorf("%s: %w", path, ErrMountpointNotDir)
	}
	if nonEmpty {
		return path, nil
	}
	d, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err == nil {
		return "", fmt.Errorf("%s: %w", path, ErrMountpointNotEmpty)
	} else if !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path, nil
}

// MakeMountpoint makes the directory of a mountpoint where it is missing. It does not touch
// one that something is mounted on, because a dead mount, or one that hangs, cannot be
// asked: mounting decides about that.
func MakeMountpoint(path string) error {
	if full, err := resolve(path); err == nil {
		if _, mounted, err := findMount(full); err != nil || mounted {
			return err
		}
	}
	if err := safefile.MakePublicDir(path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the mountpoint: %w", err)
	}
	return nil
}

// RemoveDead takes away what a daemon that died left at a mountpoint, and tells whether
// there was anything.
func RemoveDead(mountpoint string) (bool, error) {
	path, err := resolve(mountpoint)
	if err != nil {
		return false, err
	}
	m, ok, err := findMount(path)
	if err != nil || !ok || m.fstype != "fuse."+subtype || !isDead(path) {
		return false, err
	}
	if err := unmount(path, true); err != nil {
		return false, fmt.Errorf("removing the dead mount at %s: %w", path, err)
	}
	return true, nil
}

// isDead tells whether the daemon of a mount is gone: "transport endpoint is not
// connected". A mount that does not answer in time is not dead.
func isDead(path string) bool {
	answer := make(chan error, 1)
	go func() { // may wait for ever in the kernel, if that daemon does
		// Attributes would come from the kernel's cache, and speak of no daemon.
		var st unix.Statfs_t
		answer <- unix.Statfs(path, &st)
	}()
	select {
	case err := <-answer:
		return isGone(err)
	case <-time.After(5 * time.Second):
		return false
	}
}

// isGone reports whether a request failed for want of a daemon: it was gone before the
// request, or went when it came. With rings the kernel cancels what lay in them.
func isGone(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECANCELED)
}

// mountKernel mounts and returns the descriptor that requests come from.
func mountKernel(path string, o *Options) (int, error) {
	if os.Geteuid() == 0 {
		return mountDirect(path, o)
	}
	return mountHelper(path, o)
}

func mountDirect(path string, o *Options) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: opening /dev/fuse: %w", ErrMount, err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d",
		fd, unix.S_IFDIR, os.Geteuid(), os.Getegid(), maxWrite)
	if o.AllowOther {
		data += ",allow_other"
	}
	if !o.Unchecked {
		data += ",default_permissions"
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	for _, f := range []struct {
		on  bool
		bit uintptr
	}{{o.ReadOnly, unix.MS_RDONLY}, {o.NoExec, unix.MS_NOEXEC}, {o.NoAtime, unix.MS_NOATIME}} {
		if f.on {
			flags |= f.bit
		}
	}
	// Not by the path: who owns a directory on the way could lead it elsewhere meanwhile.
	place, err := safefile.OpenPlace(path)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: %w", ErrMount, err)
	}
	defer place.Close()
	if err := unix.Mount(o.FSName, fmt.Sprintf("/proc/self/fd/%d", place.Fd()), "fuse."+subtype, flags, data); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: mount(2) on %s: %w", ErrMount, path, err)
	}
	return fd, nil
}

// mountHelper mounts as an ordinary user: fusermount3 mounts, and sends the descriptor
// over a socket.
func mountHelper(path string, o *Options) (int, error) {
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		return -1, fmt.Errorf("%w: fusermount3 is needed to mount as an ordinary user (Debian: apt install fuse3)", ErrMount)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", ErrMount, err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	ours := os.NewFile(uintptr(pair[0]), "daemon")
	defer ours.Close()
	opts := []string{"nosuid", "nodev", "default_permissions", "fsname=" + o.FSName, "subtype=" + subtype,
		"max_read=" + strconv.Itoa(maxWrite)}
	for _, f := range []struct {
		on   bool
		name string
	}{{o.ReadOnly, "ro"}, {o.AllowOther, "allow_other"}, {o.NoExec, "noexec"}, {o.NoAtime, "noatime"}} {
		if f.on {
			opts = append(opts, f.name)
		}
	}
	cmd := exec.Command(helper, "-o", strings.Join(opts, ","), "--", path)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	out, err := cmd.CombinedOutput()
	theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("%w: %s", ErrMount, strings.TrimSpace(string(out)))
	}
	return receiveFD(ours)
}

func receiveFD(f *os.File) (int, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", ErrMount, err)
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("%w: not a unix socket", ErrMount)
	}
	var b [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := u.ReadMsgUnix(b[:], oob)
	if err != nil {
		return -1, fmt.Errorf("%w: receiving the descriptor: %w", ErrMount, err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%w: fusermount3 sent no descriptor", ErrMount)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%w: fusermount3 sent no descriptor", ErrMount)
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// unmount takes a mount away; lazy, also while it is in use.
func unmount(path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		err := unix.Unmount(path, flags)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s is in use: %w", path, fs.ErrBusy)
		}
		if err != nil {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
		return nil
	}
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	out, err := exec.Command("fusermount3", args...).CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if _, ok, _ := findMount(path); ok {
		return fmt.Errorf("%s: %w", text, fs.ErrBusy)
	}
	return fmt.Errorf("unmounting %s: %s", path, text)
}

// readAhead lets the kernel read further ahead than its default of 128 KiB; only root may.
func readAhead(path string) error {
	m, ok, err := findMount(path)
	if err != nil || !ok {
		return err
	}
	return os.WriteFile("/sys/class/bdi/"+m.dev+"/read_ahead_kb", []byte("1024"), 0)
}
