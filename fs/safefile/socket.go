package safefile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// addressMax is how many bytes the path in a socket's address may have.
const addressMax = 107

// Listen listens on a unix socket that only this user (and root) can connect to, from the
// moment that it is there. A socket of this user's that is there already is taken away: the
// caller knows, by a lock, that its process has died. Anything else is refused. The caller
// removes the socket at the end; closing the listener does not.
func Listen(path string) (*net.UnixListener, error) {
	w, name, err := parent(path, true)
	defer w.close()
	if err != nil {
		return nil, err
	}
	if err := w.clearSocket(name, path); err != nil {
		return nil, err
	}
	address := path
	if len(path) > addressMax { // by the descriptor of its directory it is shorter
		address = fmt.Sprintf("/proc/self/fd/%d/%s", w.cur, name)
	}
	if len(address) > addressMax {
		return nil, pathError("listen", path, unix.ENAMETOOLONG)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// A new socket gets the mode that its descriptor had before bind(2), less the umask;
		// chmod afterwards would come too late.
		if ctlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); ctlErr != nil {
			return ctlErr
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", address)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: a listener of another kind", path), l.Close())
	}
	u.SetUnlinkOnClose(false)
	var st unix.Stat_t
	err = unix.Fstatat(w.cur, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Mode&0o177 != 0) {
		err = unix.EPERM
	}
	if err != nil {
		return nil, errors.Join(pathError("listen", path, err), u.Close())
	}
	return u, nil
}

// clearSocket takes a dead socket away.
func (w *walker) clearSocket(name, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(w.cur, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return pathError("stat", path, err)
	case !trusted(st.Uid):
		return foreign(path, st.Uid)
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return linked(path)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return wrongKind(path, "a socket")
	}
	if err := unix.Unlinkat(w.cur, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("remove", path, err)
	}
	return nil
}

// CheckSocket sees, before a client says anything to it, that nobody but root and this user
// can have made what is at the path of a socket.
func CheckSocket(path string) error {
	w, name, err := parent(path, true)
	defer w.close()
	if err != nil {
		return err
	}
	fd, st, err := w.look(name, filepath.Join(w.at, name))
	if err != nil {
		return err
	}
	unix.Close(fd)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return linked(path)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wrongKind(path, "a socket")
	}
	return nil
}
