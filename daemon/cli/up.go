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
	}
	return nil
}

// place is the mountpoint: what is said here, in the configuration, or in the home
// directory.
func (c *upCommand) place(e *env, cfg *daemon.Config) error {
	if c.mountpoint == "" {
		c.mountpoint = cfg.Mountpoint
	}
	if c.mountpoint != "" {
		return nil
	}
	home, err := os.UserHomeDir()
	name := "IpfsCloud"
	if e.home.Drive != "" {
		name += "-" + e.home.Drive
	}
	c.mountpoint = filepath.Join(home, name)
	return err
}

func (c *upCommand) run(ctx context.Context, e *env) error {
	cfg, err := c.drive.config(e)
	if err == nil {
		err = c.place(e, &cfg)
	}
	if err != nil {
		return err
	}
	var pass []byte
	if _, err := auth.Inspect(e.home.Keystore); errors.Is(err, auth.ErrNoIdentity) {
		var did string
		if did, pass, err = c.init.create(ctx, e); err != nil {
			return err
		}
		if did != "" {
			fmt.Fprintln(e.err, "Your identity is", did)
		}
	} else if err != nil {
		return err
	}
	id, end, err := e.session(ctx, func() ([]byte, error) {
		if pass != nil {
			return pass, nil
		}
		// A service has no terminal; what it lacks is a session, and it says so.
		if !c.init.pass.given() && !term.IsTerminal(int(e.in.Fd())) {
			return nil, auth.ErrNoSession
		}
		return c.init.pass.get(e, "Passphrase", false)
	})
	clear(pass)
	if err != nil {
		return err
	}
	defer end()
	// A dead mount stays until the daemon takes it away.
	if err := daemon.MakeMountpoint(c.mountpoint); err != nil {
		return err
	}
	screen, live := e.screen()
	log, closeLog, err := openLog(e, live)
	if err != nil {
		return err
	}
	defer closeLog()
	signals, reload, stopSignals := stopSignals()
	defer stopSignals()
	var service *daemon.Service
	endLine := func() {}
	err = daemon.Run(ctx, daemon.Params{
		Home: e.home, Config: cfg, Identity: id, Version: Version, Mountpoint: c.mountpoint, Options: c.drive.mountOptions(),
		Signals: signals, Log: log, Reload: reload, LoadConfig: func() (daemon.Config, error) { return c.drive.config(e) },
		Ready: func(s *daemon.Service) {
			service = s
			fmt.Fprintf(e.err, "Your drive is at %s. Ctrl-C unmounts it.\n", s.Status().Mountpoint)
			st := s.Status()
			fmt.Fprintln(e.err, "Copies:", copiesLine(&st)+".")
			restoredLine(e, s)
			if live {
				endLine = statusLine(screen, s)
			}
		},
	})
	endLine()
	if service != nil && err == nil {
		if n := service.PendingChanges(); n > 0 {
			fmt.Fprintf(e.err, "Unmounted. %d changes wait in the journal; the next mount commits them.\n", n)
		} else {
			fmt.Fprintln(e.err, "Unmounted. Everything is in IPFS.")
		}
	}
	return err
}

// restoredLine says so if the vault was found in Egress.
func restoredLine(e *env, s *daemon.Service) {
	if n, at, ok := s.Restored(); ok {
		fmt.Fprintf(e.err, "Restored from Egress: commit %d of %s.\n", n, at.Local().Format(time.DateTime))
	}
}

// screen is the terminal that a status line can be shown on, if there is one.
func (e *env) screen() (*output, bool) {
	_, ok := e.err.terminal()
	return e.err, ok
}

// statusLine shows one line, again and again, until the returned function is called.
func statusLine(screen *output, s *daemon.Service) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			st := s.Status()
			line := fmt.Sprintf("commit %d · waiting: %s", st.Commit.Sequence, pendingLine(&st))
			if st.PhrasePending {
				line += " · not recoverable yet: `ipfscloud id phrase`"
			}
			if len(st.Alerts) > 0 {
				line += " · ALERT: " + st.Alerts[0]
			}
			fd, _ := screen.terminal()
			width, _, err := term.GetSize(fd)
			if err != nil || width < 20 {
				width = 80
			}
			screen.obey(beginLine)
			screen.Printf("%.*s", width-1, line)
			select {
			case <-tick.C:
			case <-stop:
				fmt.Fprintln(screen)
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}
