package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeUser gives up root for a user, for good, in the whole process: user, groups and
// environment. mount(8) runs the helper as root; a drive that belongs to a user is mounted by
// that user, or it could make root read, change or give away any file by a symbolic link or by
// a name in its configuration. name may be a number.
func becomeUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return fmt.Errorf("%w: setuid=%s: there is no such user", errUsage, name)
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("%w: setuid=%s: %w", errUsage, name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("%w: setuid=%s: %w", errUsage, name, err)
	}
	if os.Geteuid() == uid { // it is that user who mounts
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: setuid=%s: only root and that user mount this", errUsage, name)
	}
	groups, err := groupsOf(u)
	if err != nil {
		return err
	}
	// Groups first: without root they cannot be changed any more.
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return fmt.Errorf("setuid=%s: %w", name, err)
	}
	// Nothing of root's may lead the user's process to root's files, or the user to a wrong home.
	for _, v := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY",
		"CONFIGURATION_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY"} {
		if err := os.Unsetenv(v); err != nil {
			return err
		}
	}
	err = errors.Join(os.Setenv("HOME", u.HomeDir), os.Setenv("USER", u.Username), os.Setenv("LOGNAME", u.Username))
	// Where the user's own commands look for the daemon's socket, if the user has logged in.
	var st unix.Stat_t
	if run := filepath.Join("/run/user", u.Uid); unix.Lstat(run, &st) == nil && st.Uid == uint32(uid) {
		err = errors.Join(err, os.Setenv("XDG_RUNTIME_DIR", run))
	}
	return err
}

func groupsOf(u *user.User) ([]int, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w", u.Username, err)
	}
	groups := make([]int, len(ids))
	for i, id := range ids {
		if groups[i], err = strconv.Atoi(id); err != nil {
			return nil, fmt.Errorf("the groups of %s: %w", u.Username, err)
		}
	}
	return groups, nil
}
