package fuse

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// credentials of the users of the tables. They stand in no /etc/passwd.
type credentials struct {
	uid, gid int
	groups   []int
}

func users() map[string]credentials {
	return map[string]credentials{
		"root": {0, 0, nil},
		"u":    {60009, 60009, nil}, // in root's place, see TestPOSIXAsUser
		"a":    {60001, 60001, nil},
		"b":    {60002, 60002, nil},
		"ab":   {60001, 60001, []int{60002}}, // a, in b's group too
		"c":    {60003, 60001, nil},          // in a's group
		"d":    {60004, 60004, []int{60001}}, // in a's group, but not first
	}
}

// actor is a thread of its own with a user's credentials, umask and working directory.
// The thread ends with its goroutine and is never used for anything else.
type actor struct {
	work chan func()
	done chan struct{}
}

func newActor(c credentials) (*actor, error) {
	a := &actor{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(a.done)
		runtime.LockOSThread() // and never unlocked
		err := become(c)
		ready <- err
		if err != nil {
			return
		}
		for f := range a.work {
			f()
		}
	}()
	return a, <-ready
}

func become(c credentials) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	unix.Umask(0)
	if c.uid == 0 {
		return nil
	}
	groups := make([]uint32, 0, 4)
	for _, g := range append([]int{c.gid}, c.groups...) {
		groups = append(groups, uint32(g))
	}
	// Raw: the library's calls would change all threads.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	g, u := uintptr(c.gid), uintptr(c.uid)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, g, g, g); e != 0 {
		return fmt.Errorf("setresgid: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, u, u, u); e != 0 {
		return fmt.Errorf("setresuid: %w", e)
	}
	return nil
}

// do runs f in the actor's thread and waits for it.
func (a *actor) do(f func()) {
	done := make(chan struct{})
	a.work <- func() { defer close(done); f() }
	<-done
}

func (a *actor) end() {
	close(a.work)
	<-a.done
}
