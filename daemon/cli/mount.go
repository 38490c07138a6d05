package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// driveFlags are the flags of commands that run a drive.
type driveFlags struct {
	options    string
	ipfs       string
	durability string
}

func (d *driveFlags) flags(f *flag.FlagSet) {
	f.StringVar(&d.options, "o", "", "mount `OPTIONS`: ro, allow_other, uid=N, gid=N, umask=MODE, noexec, noatime, nonempty, sync_on_close")
	f.StringVar(&d.ipfs, "ipfs", "", "use the IPFS node whose RPC is at `URL` (http://…, https://… or the path of a socket)")
	f.StringVar(&d.durability, "durability", "", "what fsync waits for: local (a power cut) or ipfs (committed in the node)")
}

// config reads the configuration and lets the flags overrule it.
func (d *driveFlags) config(e *env) (daemon.Config, error) {
	c, err := daemon.LoadConfig(e.home.Config)
	if err != nil {
		return c, err
	}
	if d.ipfs != "" {
		c.IPFS = d.ipfs
	}
	switch d.durability {
	case "":
	case "local", "ipfs":
		c.Durability = d.durability
	default:
		return c, fmt.Errorf("%w: durability is local or ipfs, not %q", errUsage, d.durability)
	}
	return c, nil
}

// mountCommand mounts the drive.
type mountCommand struct {
	drive      driveFlags
	detach     bool
	readyFD    int
	mountpoint string
}

func (c *mountCommand) flags(f *flag.FlagSet) {
	c.drive.flags(f)
	f.BoolVar(&c.detach, "d", false, "run in the background; return when the drive is ready")
	f.IntVar(&c.readyFD, "ready-fd", -1, "internal: tell descriptor `N` when the drive is ready")
}

func (c *mountCommand) parse(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: want one mountpoint", errUsage)
	}
	var err error
	c.mountpoint, err = filepath.Abs(args[0])
	return err
}

const mountWait = 5 * time.Minute

func (c *mountCommand) run(ctx context.Context, e *env) error {
	cfg, err := c.drive.config(e)
	if err != nil {
		return c.tell(err)
	}
	if c.detach {
		return c.background(ctx, e)
	}
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	if err != nil {
		return c.tell(err)
	}
	log, closeLog, err := openLog(e, c.readyFD >= 0)
	if err != nil {
		return c.tell(err)
	}
	defer closeLog()
	ready := false
	signals, stopSignals := stopSignals()
	defer stopSignals()
	err = daemon.Run(ctx, daemon.Params{
		Home: e.home, Config: cfg, Identity: a, Mountpoint: c.mountpoint, Options: c.drive.options,
		Signals: signals, Log: log,
		Ready: func(s *daemon.Service) {
			ready = true
			if c.readyFD < 0 {
				fmt.Fprintln(e.err, "mounted at", s.Status().Mountpoint)
				return
			}
			if err := tell(os.NewFile(uintptr(c.readyFD), "ready"), answer{DID: a.DID()}); err != nil {
				log.Warn("telling that the drive is ready", "error", err)
			}
		},
	})
	if err != nil && !ready {
		return c.tell(err)
	}
	return err
}

// tell passes an error on to the process that waits for this one.
func (c *mountCommand) tell(err error) error {
	if c.readyFD < 0 {
		return err
	}
	return errors.Join(err, tell(os.NewFile(uintptr(c.readyFD), "ready"), failed(err)))
}

func (c *mountCommand) background(ctx context.Context, e *env) error {
	args := []string{"mount", "--ready-fd", "3", "-o", c.drive.options}
	if c.drive.ipfs != "" {
		args = append(args, "--ipfs", c.drive.ipfs)
	}
	if c.drive.durability != "" {
		args = append(args, "--durability", c.drive.durability)
	}
	_, err := background(ctx, append(args, "--", c.mountpoint), mountWait, nil, nil)
	return err
}

// openLog opens the log: standard error of a daemon in the foreground, else a file.
func openLog(e *env, toFile bool) (*slog.Logger, func(), error) {
	if !toFile {
		return slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelWarn})), func() {}, nil
	}
	if err := e.home.Make(); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(e.home.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { f.Close() }, nil
}

// mountHelper is what mount(8) runs for the type ipfscloud: SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS].
func (e *env) mountHelper(args []string) error {
	var err error
	if e.home, err = daemon.FindHome(); err != nil {
		return err
	}
	c := &mountCommand{detach: true, readyFD: -1}
	set := flag.NewFlagSet("mount.ipfscloud", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&c.drive.options, "o", "", "")
	fake := set.Bool("f", false, "")
	for _, ignored := range []string{"s", "n", "v", "r", "w"} {
		set.Bool(ignored, false, "")
	}
	set.String("t", "", "")
	rest, err := parseFlags(set, args)
	if err != nil || len(rest) != 2 {
		return fmt.Errorf("%w: mount.ipfscloud SOURCE MOUNTPOINT [-o OPTIONS]", errUsage)
	}
	var keep []string
	for _, o := range strings.Split(c.drive.options, ",") {
		if d, ok := strings.CutPrefix(o, "durability="); ok {
			c.drive.durability = d
			continue
		}
		keep = append(keep, o)
	}
	c.drive.options = strings.Join(keep, ",")
	if err := c.parse(rest[1:]); err != nil || *fake {
		return err
	}
	return c.run(context.Background(), e)
}

// umountCommand unmounts the drive.
type umountCommand struct {
	flush      bool
	mountpoint string
}

func (c *umountCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.flush, "flush", false, "wait until everything is committed in IPFS")
}

func (c *umountCommand) parse(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: want one mountpoint", errUsage)
	}
	if len(args) == 1 {
		c.mountpoint = args[0]
	}
	return nil
}

func (c *umountCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	if c.mountpoint != "" {
		s, err := d.Status(ctx)
		if err != nil {
			return err
		}
		if rel, err := s.Within(c.mountpoint); err != nil || rel != "." {
			return fmt.Errorf("the drive is mounted at %s, not at %s: %w", s.Mountpoint, c.mountpoint, daemon.ErrNotFound)
		}
	}
	return d.Unmount(ctx, c.flush)
}
