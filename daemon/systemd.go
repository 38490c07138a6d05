package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	statusEvery = 5 * time.Second  // between looks at what systemctl status shows
	extendEvery = 5 * time.Second  // between requests for more time, while a stop goes on
	extendBy    = 20 * time.Second // what each of them asks for
)

// notify tells systemd, if it started this process.
func (s *Service) notify(lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		s.p.Log.Warn("telling systemd", "error", err)
	}
}

// statusText is the line that systemctl status shows.
func (s *Service) statusText() string {
	st := s.Status()
	text := fmt.Sprintf("STATUS=%s, commit %d", st.State, st.Commit.Sequence)
	if st.Pending.Ops > 0 {
		text += fmt.Sprintf(", %d changes wait", st.Pending.Ops)
	}
	switch e := st.Egress; {
	case e == nil:
		text += ", one copy, on this machine"
	case e.Error != "":
		text += ", Egress does not answer"
	default:
		text += fmt.Sprintf(", %d of %d copies", e.Copies, e.Target)
	}
	if len(st.Alerts) > 0 {
		text += ". ALERT: " + strings.ReplaceAll(st.Alerts[0], "\n", " ")
	}
	return text
}

// tellSystemd keeps systemd's watchdog quiet while the drive answers, and its status
// line true. The returned function ends it.
func (s *Service) tellSystemd() (end func()) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		s.p.Log.Warn("systemd's watchdog", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		status := time.NewTicker(statusEvery)
		defer status.Stop()
		var check <-chan time.Time
		if interval > 0 {
			// An answer that takes long, twice this, is still in time.
			t := time.NewTicker(interval / 4)
			defer t.Stop()
			check = t.C
		}
		shown, hidden := "", ""
		for {
			select {
			case <-status.C:
			case <-check:
				hidden = s.checked(ctx, interval/2)
			case <-ctx.Done():
				return
			}
			if text := s.statusText() + hidden; text != shown {
				s.notify(text)
				shown = text
			}
		}
	}()
	return func() { cancel(); <-done }
}

// checked tells systemd's watchdog that the drive answers, if it does. It returns what the
// status line has to say of that.
func (s *Service) checked(ctx context.Context, longest time.Duration) string {
	err := s.answers(ctx, longest)
	switch {
	case errors.Is(err, errHidden):
		// Somebody has hidden it, or taken it away while programs use it: then it ends
		// with the last of them. To end it now would be no help.
		s.notify(sd.SdNotifyWatchdog)
		return ". It is not what is seen at " + s.server.Path()
	case err == nil:
		s.notify(sd.SdNotifyWatchdog)
	case ctx.Err() == nil:
		s.p.Log.Error("the drive does not answer; systemd will end it", "error", err)
		return ". It does not answer"
	}
	return ""
}

// errHidden: another file system is seen at the mountpoint.
var errHidden = errors.New("the drive is not what is seen at its mountpoint")

// answers asks the drive as its users do: through the kernel. Another process does it,
// for a process that waits for its own mount may wait for ever.
func (s *Service) answers(ctx context.Context, longest time.Duration) error {
	s.tree.Status() // takes the tree's lock: a tree that is stuck tells nothing
	stat, err := exec.LookPath("stat")
	if err != nil {
		return nil // a system without it has this much less of a check
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, stat, "-f", "-c", "%t", "--", s.server.Path())
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	kind := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Errorf("stat -f: %w: %s", err, kind)
	}
	if kind != fmt.Sprintf("%x", unix.FUSE_SUPER_MAGIC) {
		return errHidden
	}
	return nil
}

// stopping tells systemd that the drive ends, and asks for the time that takes. The
// returned function is called when it has ended.
func (s *Service) stopping() (end func()) {
	s.notify(sd.SdNotifyStopping, s.flushText())
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(extendEvery)
		defer tick.Stop()
		enough := time.After(flushWait + signalWait) // by then each part has given up
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
				s.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()), s.flushText())
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
		if n := s.PendingChanges(); n > 0 {
			s.notify(fmt.Sprintf("STATUS=%d changes wait in the journal; the next start commits them", n))
		} else {
			s.notify("STATUS=Flushed: everything is committed")
		}
	}
}

func (s *Service) flushText() string {
	return fmt.Sprintf("STATUS=Flushing: %d changes wait", s.PendingChanges())
}

// reload reads the configuration again. What can change while the drive is mounted
// does; a configuration that is wrong changes nothing.
func (s *Service) reload() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		s.p.Log.Warn("the clock", "error", err)
	}
	s.notify(sd.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	c, err := s.p.LoadConfig()
	if err != nil {
		s.p.Log.Error("the configuration is as it was", "error", err)
		s.notify(sd.SdNotifyReady, "STATUS=The configuration is as it was: "+strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	s.tree.SetDurability(fs.Durability(c.Durability))
	old := s.p.Config
	old.Durability = c.Durability
	if !reflect.DeepEqual(old, c) {
		s.p.Log.Warn("other keys than durability count from the next mount on")
	}
	s.p.Log.Info("read the configuration again")
	s.notify(sd.SdNotifyReady, s.statusText())
}
