package auth

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenProcess keeps secrets of this process out of core dumps and away from other
// processes of the same user: no core file, not dumpable, and therefore no ptrace and no
// /proc/PID/mem for them. Call it first thing in every process that reads a passphrase
// or holds a session. It does not survive execve.
func HardenProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process not dumpable: %w", err)
	}
	return nil
}
