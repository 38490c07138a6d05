package fleet

import (
	"os/exec"
	"runtime"
	"syscall"
)

// spawner starts children from one thread that lives as long as they: the kernel kills a
// child when the thread that started it ends, which it calls the parent.
type spawner struct {
	work chan spawn
	done chan struct{}
}

type spawn struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan spawn), done: make(chan struct{})}
	go s.loop()
	return s
}

func (s *spawner) loop() {
	defer close(s.done)
	runtime.LockOSThread()
	// The children are gone by now: the thread may go on to other work.
	defer runtime.UnlockOSThread()
	for w := range s.work {
		w.err <- w.cmd.Start()
	}
}

// start starts a child that dies with this process, and that a terminal's signals do not
// reach: the supervisor ends it.
func (s *spawner) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	w := spawn{cmd: cmd, err: make(chan error, 1)}
	s.work <- w
	return <-w.err
}

// close ends the thread. No child may be left and nobody may start another.
func (s *spawner) close() {
	close(s.work)
	<-s.done
}
