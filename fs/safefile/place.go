package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Resolve returns a path that a person has named, such as a mountpoint, free of symbolic
// links. It may lead through directories of others, but by no link of theirs: where root
// mounts must not be for them to say. The end of the path is only looked at as far as to see
// that it is no link: it may be a dead mount, which answers nothing else.
func Resolve(path string) (string, error) {
	w, name, err := parent(path, false)
	defer w.close()
	for err == nil {
		buf := make([]byte, 1)
		_, err = unix.Readlinkat(w.cur, name, buf)
		at := filepath.Join(w.at, name)
		if errors.Is(err, unix.EINVAL) { // no link
			return at, nil
		}
		if err != nil {
			return "", pathError("readlink", at, err)
		}
		var fd int
		if fd, _, err = w.look(name, at); err != nil {
			break
		}
		w.todo = w.todo[1:]
		if err = w.follow(fd, at); err != nil {
			break
		}
		err = w.directories(1)
		if err == nil && len(w.todo) == 0 {
			return w.at, nil
		}
		if err == nil {
			name = w.todo[0]
		}
	}
	if strings.Trim(filepath.Clean(path), "/") == "" {
		return "/", nil
	}
	return "", err
}

// OpenPlace opens a directory that a person has named (see Resolve), with O_PATH: what is done
// with /proc/self/fd of it happens there, whatever becomes of the path.
func OpenPlace(path string) (*os.File, error) {
	w, err := begin(path, false, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.directories(0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(w.take()), path), nil
}
