package safefile

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MakeDir makes a directory and those above it that are missing, each with mode 0700, and
// checks those that are there. It changes the mode of none.
func MakeDir(path string) error {
	w, err := begin(path, true, 0o700)
	if err != nil {
		return err
	}
	defer w.close()
	return w.directories(0)
}

// MakePrivate is MakeDir for a directory that is to be this user's alone: it must belong to
// this user, not even to root, and what others may do in it is taken away from them. If they
// could write there, it is refused: they may have put links there.
func MakePrivate(path string) error {
	w, err := begin(path, true, 0o700)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.directories(0); err != nil {
		return err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(w.cur, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("open", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", path, err)
	}
	switch {
	case st.Uid != uint32(os.Geteuid()):
		return foreign(path, st.Uid)
	case st.Mode&0o777 == 0o700:
		return nil
	case writableByOthers(&st): // sticky
		return writable(path, &st)
	case w.links > 0 && filepath.Clean(path) != w.at:
		// A link may lead to a directory that others live on, such as /var/cache.
		return fmt.Errorf("%w: %s leads to %s, which others may read (mode %04o): if it is for this drive alone, say `chmod 700 %s`",
			ErrUnsafe, path, w.at, st.Mode&0o7777, w.at)
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return pathError("chmod", path, err)
	}
	return nil
}

// MakePublicDir makes a directory that a person has named, and those above it that are
// missing, each with mode 0755: a mountpoint, or where files for others go. It may lie in a
// directory of somebody else, but no symbolic link of theirs is followed.
func MakePublicDir(path string) error {
	w, err := begin(path, false, 0o755)
	if err != nil {
		return err
	}
	defer w.close()
	return w.directories(0)
}

// CheckPrivate says whether MakePrivate would refuse a path, as far as it is there, and
// changes nothing.
func CheckPrivate(path string) error {
	w, err := begin(path, true, 0)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.directories(0); os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(w.cur, &st); err != nil {
		return pathError("stat", path, err)
	}
	if st.Uid != uint32(os.Geteuid()) {
		return foreign(path, st.Uid)
	}
	return nil
}

// OpenDir opens a directory, to sync it, to lock it, or for OpenIn.
func OpenDir(path string) (*os.File, error) {
	w, err := begin(path, true, 0)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.directories(0); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(w.cur, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// SyncDir makes the names in a directory survive a power cut.
func SyncDir(path string) error {
	d, err := OpenDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// MkdirIn makes a directory, 0700, in one that OpenDir has opened; one that is there is fine.
func MkdirIn(dir *os.File, name string) error {
	at, err := below(dir, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := unix.Mkdirat(at, filepath.Base(name), 0o700); err != nil && err != unix.EEXIST {
		return pathError("mkdir", filepath.Join(dir.Name(), name), err)
	}
	fd, err := below(dir, name)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// CheckTree checks what lies in a directory, down to a depth, before a library opens it by
// names: nothing belongs to others, and no name is a link, but one of this user's own that
// leads to a directory. A directory that is not there has nothing wrong in it.
func CheckTree(path string, depth int) error {
	d, err := OpenDir(path)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := checkEntry(d, filepath.Join(path, n), n, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkEntry(dir *os.File, path, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
		return nil // it went meanwhile
	} else if err != nil {
		return pathError("stat", path, err)
	}
	if !trusted(st.Uid) {
		return foreign(path, st.Uid)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		d, err := OpenDir(path) // every step of it is checked
		if os.IsNotExist(err) || err != nil && isNotDir(err) {
			return linked(path)
		} else if err != nil {
			return err
		}
		d.Close()
	case unix.S_IFDIR:
	default:
		return nil
	}
	if depth <= 1 {
		return nil
	}
	return CheckTree(path, depth-1)
}
