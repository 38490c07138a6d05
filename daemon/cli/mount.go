package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/daemon/printable"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// driveFlags are the flags of commands that run a drive.
type driveFlags struct {
	options    string
	ipfs       string
	durability string
	configFile string
	cacheDir   string
	missing    bool
}

func (d *driveFlags) flags(f *flag.FlagSet) {
	f.StringVar(&d.options, "o", "", "mount `OPTIONS`: ro, allow_other, uid=N, gid=N, umask=MODE, noexec, noatime, nonempty, sync_on_close, acl, unchecked, nopoll, accept_missing_state, loop=auto|own|ring|gofuse")
	f.StringVar(&d.ipfs, "ipfs", "", "use the IPFS node whose RPC is at `URL` (http://…, https://… or the path of a socket)")
	f.StringVar(&d.durability, "durability", "", "`LEVEL` that fsync waits for: local (a power cut), ipfs (committed in the node) or egress:N (on N other machines)")
	f.StringVar(&d.configFile, "config", "", "read the configuration from `FILE`")
	f.BoolVar(&d.missing, "accept-missing-state", false, "mount although local state is missing that this machine had; what it alone held is lost")
	f.StringVar(&d.cacheDir, "cache-dir", "", "keep the cache of blocks in `DIR`")
}

// mountOptions are the options of the mount, with those that have a flag of their own.
func (d *driveFlags) mountOptions() string {
	if !d.missing {
		return d.options
	}
	return strings.TrimPrefix(d.options+",accept_missing_state", ",")
}

// places lets the flags say where things are.
func (d *driveFlags) places(e *env) (err error) {
	if d.configFile != "" {
		if e.home.Config, err = filepath.Abs(d.configFile); err != nil {
			return err
		}
		// One that is asked for must be there.
		if _, err := os.Stat(e.home.Config); err != nil {
			return fmt.Errorf("%w: %w", daemon.ErrConfig, err)
		}
	}
	if d.cacheDir != "" {
		e.home.Cache, err = filepath.Abs(d.cacheDir)
	}
	return err
}

// config reads the configuration and lets the flags overrule it.
func (d *driveFlags) config(e *env) (daemon.Config, error) {
	if err := d.places(e); err != nil {
		return daemon.Config{}, err
	}
	c, err := e.home.LoadConfig()
	if err != nil {
		return c, err
	}
	if d.ipfs != "" {
		c.IPFS = d.ipfs
		if st, err := os.Stat(d.ipfs); err == nil && st.Mode()&os.ModeSocket != 0 {
			if c.IPFS, err = filepath.Abs(d.ipfs); err != nil {
				return c, err
			}
		}
	}
	e.ipfs = c.IPFS
	if d.durability != "" {
		if err := daemon.ParseDurability(d.durability); err != nil {
			return c, fmt.Errorf("%w: %w", errUsage, err)
		}
		c.Durability = d.durability
	}
	return c, nil
}

// mountCommand mounts the drive.
type mountCommand struct {
	drive      driveFlags
	pass       passSource
	detach     bool
	snapshot   string
	ready      int
	mountpoint string
	helper     bool // mount(8) asks
}

func (c *mountCommand) flags(f *flag.FlagSet) {
	c.drive.flags(f)
	c.pass.flags(f)
	f.BoolVar(&c.detach, "d", false, "run in the background; return when the drive is ready")
	f.StringVar(&c.snapshot, "snapshot", "", "mount the snapshot `NAME`, read-only, instead of the newest state")
	f.IntVar(&c.ready, "ready-fd", -1, "internal: tell descriptor `N` when the drive is ready")
}

func (c *mountCommand) parse(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: want one mountpoint", errUsage)
	}
	if len(args) == 0 {
		return nil // the configuration may name one
	}
	var err error
	c.mountpoint, err = filepath.Abs(args[0])
	return err
}

// place is the mountpoint, when the configuration is known.
func (c *mountCommand) place(cfg *daemon.Config) error {
	if c.mountpoint == "" {
		c.mountpoint = cfg.Mountpoint
	}
	if c.mountpoint == "" {
		return fmt.Errorf("%w: want a mountpoint, here or in the configuration; see `ipfscloud mount --help`", errUsage)
	}
	return nil
}

// mountWait is for the background process, which may have much to replay.
const mountWait = 5 * time.Minute

func (c *mountCommand) run(ctx context.Context, e *env) error {
	if c.detach {
		return c.background(ctx, e)
	}
	if c.ready < 0 {
		return c.serve(ctx, e, func(s *daemon.Service) {
			e.err.Println("mounted at", s.Status().Mountpoint)
			restoredLine(e, s)
		})
	}
	pipe, told := inherited(c.ready), false
	if abandoned(pipe) {
		return errAbandoned
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := c.serve(ctx, e, func(s *daemon.Service) {
		told = true
		if err := errors.Join(ownSession(), tell(pipe, answer{DID: s.Status().DID})); err != nil {
			cancel() // nobody waits for this drive any more
		}
	})
	if err != nil && !told {
		_ = tell(pipe, failed(err))
	}
	return err
}

// serve mounts, and returns when the drive has ended.
func (c *mountCommand) serve(ctx context.Context, e *env, ready func(*daemon.Service)) error {
	cfg, err := c.drive.config(e)
	if err == nil {
		err = c.place(&cfg)
	}
	if err != nil {
		return err
	}
	id, end, err := e.session(ctx, func() ([]byte, error) { return c.passphrase(e) })
	if err != nil {
		return err
	}
	defer end()
	log, closeLog, err := openLog(e, c.ready >= 0)
	if err != nil {
		return err
	}
	defer closeLog()
	signals, reload, stopSignals := stopSignals()
	defer stopSignals()
	return daemon.Run(ctx, daemon.Params{
		Home: e.home, Config: cfg, Identity: id, Version: Version, Mountpoint: c.mountpoint, Options: c.drive.mountOptions(), Snapshot: c.snapshot,
		Signals: signals, Log: log, Reload: reload, LoadConfig: func() (daemon.Config, error) { return c.drive.config(e) }, Ready: ready,
	})
}

// passphrase is one that is given; mount does not ask.
func (c *mountCommand) passphrase(e *env) ([]byte, error) {
	if _, err := auth.Inspect(e.home.Keystore); err != nil {
		return nil, err
	}
	if !c.pass.given() {
		return nil, auth.ErrNoSession
	}
	return c.pass.get(e, "", false)
}

func (c *mountCommand) background(ctx context.Context, e *env) error {
	cfg, err := c.drive.config(e)
	if err == nil {
		err = c.place(&cfg)
	}
	if err != nil {
		return err
	}
	t := task{args: []string{"mount", "--ready-fd", fmt.Sprint(readyFD), "-o", c.drive.mountOptions()}, wait: mountWait}
	if c.snapshot != "" {
		t.args = append(t.args, "--snapshot", c.snapshot)
	}
	// The kernel mounts an automount for the process group of systemd's mount(8) alone: all
	// others wait until it is done, and a daemon that was one of them would wait for itself.
	t.stays = c.helper
	if c.drive.ipfs != "" {
		t.args = append(t.args, "--ipfs", cfg.IPFS)
	}
	if c.drive.durability != "" {
		t.args = append(t.args, "--durability", c.drive.durability)
	}
	if c.drive.configFile != "" {
		t.args = append(t.args, "--config", e.home.Config)
	}
	if c.drive.cacheDir != "" {
		t.args = append(t.args, "--cache-dir", e.home.Cache)
	}
	if _, err := auth.Dial(ctx, e.home.AgentSocket()); errors.Is(err, auth.ErrNoSession) {
		if t.secret, err = c.passphrase(e); err != nil {
			return err
		}
		defer clear(t.secret)
		t.args = append(t.args, "--passfd", fmt.Sprint(secretFD))
	} else if err != nil {
		return err
	}
	if err := e.home.Make(); err != nil {
		return err
	}
	t.log = e.home.LogFile()
	t.args = append(t.args, "--", c.mountpoint)
	_, err = background(ctx, t)
	return err
}

const logLimit = 8 << 20 // bytes; a longer log is put aside at the next start

// openLog opens the log: systemd's journal or standard error of a daemon in the
// foreground, else a file.
func openLog(e *env, toFile bool) (*slog.Logger, func(), error) {
	if log, ok := toJournal(); ok && !toFile {
		return log, func() {}, nil
	}
	if !toFile {
		return slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: slog.LevelWarn})), func() {}, nil
	}
	if err := e.home.Make(); err != nil {
		return nil, nil, err
	}
	name := e.home.LogFile()
	if st, err := os.Stat(name); err == nil && st.Size() > logLimit {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
	}
	f, err := safefile.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	return slog.New(slog.NewTextHandler(printable.NewWriter(f), nil)), func() { f.Close() }, nil
}
