package safefile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace puts a file, for this user alone, in the place of another: after a power cut there
// is one of them, whole. A symbolic link in that place is replaced, not followed.
func Replace(path string, data []byte) error { return replace(path, data, true, 0o600) }

// ReplacePublic is Replace for a file that others may read, in a directory that a person has
// named (see MakePublicDir).
func ReplacePublic(path string, data []byte) error { return replace(path, data, false, 0o644) }

func replace(path string, data []byte, strict bool, perm os.FileMode) error {
	w, name, err := parent(path, strict)
	defer w.close()
	if err != nil {
		return err
	}
	tmp := temporary(name)
	f, err := createAt(w.cur, tmp, filepath.Join(filepath.Dir(path), tmp), perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = unix.Renameat(w.cur, tmp, w.cur, name); err != nil {
			err = pathError("rename", path, err)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(w.cur, tmp, 0) // the error that counts is the first
		return err
	}
	dir, err := retry(func() (int, error) {
		return unix.Openat(w.cur, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("open", filepath.Dir(path), err)
	}
	defer unix.Close(dir)
	if err := unix.Fsync(dir); err != nil {
		return pathError("sync", filepath.Dir(path), err)
	}
	return nil
}

// temporary is the name of the file that will become name.
func temporary(name string) string {
	var b [8]byte
	rand.Read(b[:])
	return "." + name + ".new-" + hex.EncodeToString(b[:])
}

// CreateTemp makes a new file, for this user alone, that is to become another one in the same
// directory by os.Rename.
func CreateTemp(path string) (*os.File, error) {
	return OpenFile(filepath.Join(filepath.Dir(path), temporary(filepath.Base(path))), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// CreateNew makes a file that a person has named, for this user alone. What is there already
// is neither overwritten nor followed: os.ErrExist, with words that say what to do. Others may
// be able to write in the directory; but a symbolic link of theirs is not followed on the way.
func CreateNew(path string) (*os.File, error) {
	w, name, err := parent(path, false)
	defer w.close()
	if err != nil {
		return nil, err
	}
	f, err := createAt(w.cur, name, path, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w: nothing is overwritten: move it away, or name another file", err)
	}
	return f, err
}

// createAt makes a new file. What is new is ours, whatever owner and mode it shows on a file
// system that has none.
func createAt(dir int, name, path string, perm os.FileMode) (*os.File, error) {
	fd, err := open(dir, name, path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
