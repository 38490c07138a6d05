package fleet

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	stopGrace    = 20 * time.Second // between SIGTERM and SIGKILL
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 30 * time.Second
	steadyAfter  = 30 * time.Second // a child that ran so long is started again at once
)

// child is one process of a node that is started again when it ends without having been
// told to. Its loop alone starts and ends the process.
type child struct {
	name    string
	command func() (*exec.Cmd, error)
	spawner *spawner
	log     *slog.Logger

	hurry <-chan struct{} // closed: no more grace for any child

	orders chan order
	ended  chan struct{}
	wait   backoff // the loop's own

	mu  sync.Mutex
	now childView // guarded by mu
}

// childView is what can be seen of a child from outside.
type childView struct {
	wanted   bool
	pid      int // 0: not running
	since    time.Time
	restarts int
	lastExit string // of the last end that was not ordered
}

type orderKind int

const (
	orderRun   orderKind = iota
	orderStop            // with grace
	orderHalt            // at once
	orderCrash           // at once, and be started again
)

type order struct {
	kind orderKind
	ack  chan struct{}
}

type backoff struct{ next time.Duration }

func (b *backoff) after(ran time.Duration) time.Duration {
	if ran > steadyAfter || b.next == 0 {
		b.next = firstBackoff
	}
	d := b.next
	b.next = min(2*b.next, lastBackoff)
	return d
}

func newChild(name string, s *spawner, hurry <-chan struct{}, log *slog.Logger, command func() (*exec.Cmd, error)) *child {
	return &child{
		name: name, command: command, spawner: s, log: log, hurry: hurry,
		orders: make(chan order), ended: make(chan struct{}),
	}
}

// loop runs until ctx ends; the process ends with it.
func (c *child) loop(ctx context.Context) {
	defer close(c.ended)
	var cmd *exec.Cmd
	var exited chan error // of cmd
	var retry <-chan time.Time
	for {
		if c.view().wanted && cmd == nil && retry == nil {
			var err error
			if cmd, exited, err = c.start(); err != nil {
				c.log.Error("start", "child", c.name, "err", err)
				retry = time.After(c.crashed(err.Error()))
			}
		}
		select {
		case o := <-c.orders:
			retry = nil
			if o.kind == orderRun || o.kind == orderStop || o.kind == orderHalt {
				c.set(func(v *childView) { v.wanted = o.kind == orderRun })
				c.wait = backoff{}
			}
			if cmd != nil && o.kind != orderRun {
				c.end(cmd, exited, o.kind == orderStop)
				cmd, exited = nil, nil
				c.set(func(v *childView) { v.pid = 0 })
				if o.kind == orderCrash {
					retry = time.After(c.crashed("killed"))
				}
			}
			close(o.ack)
		case err := <-exited:
			cmd, exited = nil, nil
			why := "exit status 0"
			if err != nil {
				why = err.Error()
			}
			c.log.Warn("a child ended", "child", c.name, "why", why)
			retry = time.After(c.crashed(why))
		case <-retry:
			retry = nil
		case <-ctx.Done():
			if cmd != nil {
				c.end(cmd, exited, true)
			}
			c.set(func(v *childView) { v.wanted, v.pid = false, 0 })
			return
		}
	}
}

func (c *child) start() (*exec.Cmd, chan error, error) {
	cmd, err := c.command()
	if err == nil {
		err = c.spawner.start(cmd)
	}
	if err != nil {
		return nil, nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	c.set(func(v *childView) { v.pid, v.since = cmd.Process.Pid, time.Now() })
	return cmd, exited, nil
}

// end ends a running process and waits for it.
func (c *child) end(cmd *exec.Cmd, exited <-chan error, grace bool) {
	if grace {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails if it is gone already
		t := time.NewTimer(stopGrace)
		defer t.Stop()
		select {
		case <-exited:
			return
		case <-c.hurry:
		case <-t.C:
			c.log.Warn("a child does not end: killed", "child", c.name)
		}
	}
	_ = cmd.Process.Kill() // fails if it is gone already
	<-exited
}

// crashed notes an end that nobody asked for and returns how long to wait.
func (c *child) crashed(why string) time.Duration {
	var ran time.Duration
	c.set(func(v *childView) {
		if v.pid != 0 {
			ran = time.Since(v.since)
		}
		v.pid, v.lastExit = 0, why
		v.restarts++
	})
	return c.wait.after(ran)
}

// do gives an order and waits until it is carried out.
func (c *child) do(ctx context.Context, kind orderKind) error {
	o := order{kind: kind, ack: make(chan struct{})}
	select {
	case c.orders <- o:
	case <-c.ended:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-o.ack:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *child) view() childView {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *child) set(change func(*childView)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.now)
}
