package safefile

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrUnsafe: somebody else could decide what a path leads to, or could read a secret. The
// error says who, and what to do.
var ErrUnsafe = errors.New("refused for safety")

// ErrTooLarge: a file has more bytes than it can have.
var ErrTooLarge = errors.New("file too large")

// pathError keeps the number of a system call's error: errors.Is finds fs.ErrNotExist in it.
func pathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}

// owner says who a user is, for people.
func owner(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username + " (uid " + id + ")"
	}
	return "uid " + id
}

// foreign is the refusal of what belongs to somebody else.
func foreign(path string, uid uint32) error {
	me := uint32(os.Geteuid())
	if me != 0 {
		return fmt.Errorf("%w: %s belongs to %s, and this program runs as %s: use a path of your own, or have root give it to you (chown)",
			ErrUnsafe, path, owner(uid), owner(me))
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%w: %s belongs to %s, and this program runs as root, whom it could lead to any file: run it as that user "+
		"(`runuser -u %s -- ipfscloud …`; in fstab the option setuid=%s), or if it is to be root's, give it to root (chown)", ErrUnsafe, path, owner(uid), name, name)
}

func writable(path string, st *unix.Stat_t) error {
	return fmt.Errorf("%w: others can write %s (mode %04o): take that away with `chmod go-w %s`, after a look at what they may have put there",
		ErrUnsafe, path, st.Mode&0o7777, path)
}

func linked(path string) error {
	return fmt.Errorf("%w: %s is a symbolic link, which is not followed here: put the file itself there, or remove the link", ErrUnsafe, path)
}

func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }

func wrongKind(path, want string) error {
	return fmt.Errorf("%w: %s is not %s: move it away", ErrUnsafe, path, want)
}
