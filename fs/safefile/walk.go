package safefile

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// linksMax is how many symbolic links a path may lead through, as for the kernel.
const linksMax = 40

// walker goes along a path. cur is the directory where it stands, open with O_PATH.
type walker struct {
	cur    int
	at     string // the path of cur, for errors
	todo   []string
	links  int
	root   uint32 // the owner of /
	strict bool   // else it may go through directories of others, but by no link of theirs
	make   uint32 // the mode of directories that are made where they are missing; 0: none is
}

// begin starts at the root, with the way to path before it.
func begin(path string, strict bool, mk uint32) (*walker, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w := &walker{cur: -1, strict: strict, make: mk}
	if err := w.restart(); err != nil {
		return nil, err
	}
	w.push(abs)
	return w, nil
}

func (w *walker) close() {
	if w.cur >= 0 {
		unix.Close(w.cur)
		w.cur = -1
	}
}

// take gives the descriptor to the caller.
func (w *walker) take() int {
	fd := w.cur
	w.cur = -1
	return fd
}

// restart goes back to the root.
func (w *walker) restart() error {
	fd, err := retry(func() (int, error) {
		return unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("open", "/", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return pathError("stat", "/", err)
	}
	w.close()
	w.cur, w.at, w.root = fd, "/", st.Uid
	return nil
}

// push puts a path before what is still to be walked.
func (w *walker) push(path string) {
	var parts []string
	for _, p := range strings.Split(path, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	w.todo = append(parts, w.todo...)
}

// directories walks until keep names are left, and checks each directory on the way.
func (w *walker) directories(keep int) error {
	for len(w.todo) > keep {
		name := w.todo[0]
		w.todo = w.todo[1:]
		path := filepath.Join(w.at, name)
		fd, st, err := w.look(name, path)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			if err := w.follow(fd, path); err != nil {
				return err
			}
			continue
		}
		if err := w.enter(fd, &st, path); err != nil {
			return err
		}
	}
	return nil
}

// look opens a name in cur, whatever it is, and makes a directory of it if it may.
func (w *walker) look(name, path string) (fd int, st unix.Stat_t, err error) {
	open := func() (int, error) {
		return unix.Openat(w.cur, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	fd, err = retry(open)
	if errors.Is(err, unix.ENOENT) && w.make != 0 {
		if err = unix.Mkdirat(w.cur, name, w.make); err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = retry(open)
		}
	}
	if err != nil {
		return -1, st, pathError("open", path, err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, pathError("stat", path, err)
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if !trusted(st.Uid) && st.Uid != w.root && (w.strict || link) {
		unix.Close(fd)
		return -1, st, foreign(path, st.Uid)
	}
	return fd, st, nil
}

// follow goes where a symbolic link leads, whose owner was checked, and closes fd.
func (w *walker) follow(fd int, path string) error {
	defer unix.Close(fd)
	if w.links++; w.links > linksMax {
		return pathError("open", path, unix.ELOOP)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return pathError("readlink", path, err)
	}
	target := string(buf[:n])
	if filepath.IsAbs(target) {
		if err := w.restart(); err != nil {
			return err
		}
	}
	w.push(target)
	return nil
}

// enter makes a directory the one where the walk stands. fd is the walker's from here on.
func (w *walker) enter(fd int, st *unix.Stat_t, path string) error {
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Close(fd)
		return pathError("open", path, unix.ENOTDIR)
	}
	if w.strict && st.Mode&unix.S_ISVTX == 0 && writableByOthers(st) {
		unix.Close(fd)
		return writable(path, st)
	}
	w.close()
	w.cur, w.at = fd, path
	return nil
}

// parent opens the directory of a path, and returns the name that is left. close must be
// called, also after an error.
func parent(path string, strict bool) (w *walker, name string, err error) {
	if w, err = begin(path, strict, 0); err != nil {
		return &walker{cur: -1}, "", err
	}
	if err = w.directories(1); err != nil {
		return w, "", err
	}
	if len(w.todo) == 0 {
		return w, "", pathError("open", path, unix.EISDIR)
	}
	return w, w.todo[0], nil
}

// last is parent, but where the name that is left is a symbolic link, it is followed too.
func last(path string, strict bool) (w *walker, name string, err error) {
	w, name, err = parent(path, strict)
	for err == nil {
		at := filepath.Join(w.at, name)
		fd, st, lookErr := w.look(name, at)
		if lookErr != nil {
			return w, name, lookErr
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			unix.Close(fd)
			return w, name, nil
		}
		w.todo = w.todo[1:]
		if err = w.follow(fd, at); err != nil {
			break
		}
		if err = w.directories(1); err != nil {
			break
		}
		if len(w.todo) == 0 {
			return w, "", pathError("open", path, unix.EISDIR)
		}
		name = w.todo[0]
	}
	return w, name, err
}

// trusted tells whether what belongs to a user is as good as ours.
func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// writableByOthers tells whether anybody but root and this user can write a thing of theirs.
func writableByOthers(st *unix.Stat_t) bool {
	return st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && !ownGroup(st.Gid)
}

// ownGroup tells whether a group is this user's own: its first one, and called like the user.
func ownGroup(gid uint32) bool {
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil || u.Gid != strconv.FormatUint(uint64(gid), 10) {
		return false
	}
	g, err := user.LookupGroupId(u.Gid)
	return err == nil && g.Name == u.Username
}

// retry calls again what a signal has interrupted.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
