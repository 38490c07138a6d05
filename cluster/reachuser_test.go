package cluster

import "syscall"

// setThreadUID changes the user of this thread alone; syscall.Setuid is for all of them.
func setThreadUID(uid int) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return errno
	}
	return nil
}
