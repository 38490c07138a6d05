package safefile

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadNamed reads at most limit bytes of a file that the configuration or a flag names, such
// as a certificate: symbolic links of root's and of this user's are followed, to the end. It
// must be root's or this user's, and not to be written by others: the configuration of a drive
// must not make this process read what its user could not, or what others have put there.
func ReadNamed(path string, limit int64) ([]byte, error) { return read(path, limit, nil) }

// ReadSecret is ReadNamed for a passphrase, a key or a token. It refuses one that everybody
// can read. A pipe or a descriptor of this process (/dev/stdin, /dev/fd/3) is read as it is.
func ReadSecret(path string, limit int64) ([]byte, error) {
	return read(path, limit, func(st *unix.Stat_t) error {
		if st.Mode&0o007 != 0 {
			return fmt.Errorf("%w: everybody on this machine can read the secret in %s (mode %04o): say `chmod 600 %s`, and consider it known",
				ErrUnsafe, path, st.Mode&0o7777, path)
		}
		return nil
	})
}

func read(path string, limit int64, also func(*unix.Stat_t) error) ([]byte, error) {
	f, err := openNamed(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, pathError("stat", path, err)
	}
	if also != nil && st.Mode&unix.S_IFMT == unix.S_IFREG && !given(path) {
		if err := also(&st); err != nil {
			return nil, err
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		clear(b)
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, path, limit)
	}
	return b, err
}

// given tells whether a path stands for a descriptor that this process was started with: who
// started it has opened that with rights of his own.
func given(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

func openNamed(path string) (*os.File, error) {
	if given(path) {
		return os.Open(path)
	}
	w, name, err := last(path, true)
	defer w.close()
	if err != nil {
		return nil, err
	}
	fd, st, err := w.look(name, path)
	if err != nil {
		return nil, err
	}
	unix.Close(fd)
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFIFO && k != unix.S_IFCHR {
		return openAt(w.cur, name, path, os.O_RDONLY, 0)
	}
	// A pipe or a terminal, which a person may name: it is waited for.
	fd, err = retry(func() (int, error) {
		return unix.Openat(w.cur, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
