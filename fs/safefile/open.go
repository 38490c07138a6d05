package safefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFile is os.OpenFile for a file of this program's own. A symbolic link at the end is
// refused, and so is what is no regular file, belongs to others, or can be written by them;
// nothing is cut short (O_TRUNC) before that is known.
func OpenFile(path string, flag int, perm os.FileMode) (*os.File, error) {
	w, name, err := parent(path, true)
	defer w.close()
	if err != nil {
		return nil, err
	}
	return openAt(w.cur, name, path, flag, perm)
}

// Open is OpenFile for reading.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY, 0) }

// ReadFile reads all of a file of this program's own.
func ReadFile(path string) ([]byte, error) { return all(Open(path)) }

// OpenIn is OpenFile of a name below a directory that OpenDir has opened. No symbolic link on
// the way is followed. It is for where files are opened all the time.
func OpenIn(dir *os.File, name string, flag int, perm os.FileMode) (*os.File, error) {
	path := filepath.Join(dir.Name(), name)
	if !strings.Contains(name, "/") {
		conn, err := dir.SyscallConn()
		if err != nil {
			return nil, err
		}
		var f *os.File
		if ctlErr := conn.Control(func(d uintptr) { f, err = openAt(int(d), name, path, flag, perm) }); ctlErr != nil {
			return nil, ctlErr
		}
		return f, err
	}
	at, err := below(dir, filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	return openAt(at, filepath.Base(name), path, flag, perm)
}

// ReadIn reads all of a file below a directory that OpenDir has opened.
func ReadIn(dir *os.File, name string) ([]byte, error) { return all(OpenIn(dir, name, os.O_RDONLY, 0)) }

// below opens a directory below another, by way of directories alone.
func below(dir *os.File, name string) (int, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if ctlErr := conn.Control(func(d uintptr) { fd, err = unix.FcntlInt(d, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return -1, ctlErr
	}
	if err != nil {
		return -1, pathError("open", dir.Name(), err)
	}
	for _, part := range strings.Split(name, "/") {
		if part == "." || part == "" {
			continue
		}
		if part == ".." {
			unix.Close(fd)
			return -1, fmt.Errorf("%w: %s leads out of %s", ErrUnsafe, name, dir.Name())
		}
		next, err := retry(func() (int, error) {
			return unix.Openat(fd, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		unix.Close(fd)
		if err != nil {
			return -1, pathError("open", filepath.Join(dir.Name(), name), err)
		}
		fd = next
	}
	return fd, nil
}

// openAt opens a name in a directory and checks what it has opened.
func openAt(dir int, name, path string, flag int, perm os.FileMode) (*os.File, error) {
	// Not O_TRUNC, which would empty what is refused afterwards.
	fd, err := open(dir, name, path, flag&^os.O_TRUNC, perm)
	if err != nil {
		return nil, err
	}
	if err = check(fd, path); err == nil && flag&os.O_TRUNC != 0 {
		if err = unix.Ftruncate(fd, 0); err != nil {
			err = pathError("truncate", path, err)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// open opens a name in a directory, but no symbolic link.
func open(dir int, name, path string, flag int, perm os.FileMode) (int, error) {
	// With O_NONBLOCK, for a FIFO that somebody has put there would let this wait for ever.
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, uint32(perm.Perm()))
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, linked(path)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EISDIR): // a FIFO, a socket, a device, a directory
		return -1, fmt.Errorf("%w: %w", wrongKind(path, "a regular file"), pathError("open", path, err))
	case err != nil:
		return -1, pathError("open", path, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flag); err != nil { // without O_NONBLOCK
		unix.Close(fd)
		return -1, pathError("open", path, err)
	}
	return fd, nil
}

// check sees that an open file is one that only root and this user can change.
func check(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", path, err)
	}
	switch {
	case !trusted(st.Uid):
		return foreign(path, st.Uid)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return wrongKind(path, "a regular file")
	case writableByOthers(&st):
		return writable(path, &st)
	}
	return nil
}

func all(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
