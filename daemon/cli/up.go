package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// upCommand does all of it: identity, login, mount.
type upCommand struct {
	init       initCommand
	drive      driveFlags
	mountpoint string
}

func (c *upCommand) flags(f *flag.FlagSet) {
	c.init.flags(f)
	c.drive.flags(f)
}

func (c *upCommand) parse(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: want one mountpoint at most", errUsage)
	}
	if len(args) == 1 {
		c.mountpoint = args[0]
		return nil
	}
	home, err := os.UserHomeDir()
	c.mountpoint = filepath.Join(home, "IpfsCloud")
	return err
}

func (c *upCommand) run(ctx context.Context, e *env) error {
	cfg, err := c.drive.config(e)
	if err != nil {
		return err
	}
	if _, err := auth.Inspect(e.home.Keystore); errors.Is(err, auth.ErrNoIdentity) {
		did, err := c.init.create(ctx, e)
		if err != nil {
			return err
		}
		fmt.Fprintln(e.err, "Your identity is", did)
	} else if err != nil {
		return err
	}
	id, end, err := c.session(ctx, e)
	if err != nil {
		return err
	}
	defer end()
	if err := os.MkdirAll(c.mountpoint, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the mountpoint: %w", err)
	}
	log, closeLog, err := openLog(e, true)
	if err != nil {
		return err
	}
	defer closeLog()
	live, stop := context.WithCancel(ctx)
	defer stop()
	signals, stopSignals := stopSignals()
	defer stopSignals()
	err = daemon.Run(ctx, daemon.Params{
		Home: e.home, Config: cfg, Identity: id, Mountpoint: c.mountpoint, Options: c.drive.options,
		Signals: signals, Log: log,
		Ready: func(s *daemon.Service) {
			fmt.Fprintf(e.err, "Your drive is at %s. Ctrl-C unmounts it.\n", s.Status().Mountpoint)
			fmt.Fprintln(e.err, "Copies: one, on this machine.")
			if f, ok := e.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				go statusLine(live, e, s)
			}
		},
	})
	fmt.Fprintln(e.err)
	return err
}

// session uses the agent's session if there is one, and else logs in for this run.
func (c *upCommand) session(ctx context.Context, e *env) (daemon.Identity, func(), error) {
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	if err == nil { // the drive holds it while it is mounted
		return a, func() {}, nil
	}
	if !errors.Is(err, auth.ErrNoSession) {
		return nil, nil, err
	}
	pass, err := c.init.pass.get(e, "Passphrase", false)
	if err != nil {
		return nil, nil, err
	}
	defer clear(pass)
	s, err := auth.Login(ctx, e.home.Keystore, pass)
	if err != nil {
		return nil, nil, err
	}
	return s, func() { _ = s.Close() }, nil
}

// statusLine shows one line, again and again, until ctx ends.
func statusLine(ctx context.Context, e *env, s *daemon.Service) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		st := s.Status()
		line := fmt.Sprintf("commit %d · waiting: %s", st.Commit.Sequence, pendingLine(&st))
		if len(st.Alerts) > 0 {
			line += " · ALERT: " + st.Alerts[0]
		}
		fmt.Fprintf(e.err, "\r\x1b[K%.*s", 100, line)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
