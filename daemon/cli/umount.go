package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/cluster-labs/ipfscloud/daemon"
)

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
	if errors.Is(err, daemon.ErrNotRunning) && c.mountpoint != "" {
		removed, dead := daemon.RemoveDead(c.mountpoint)
		if removed {
			fmt.Fprintln(e.err, "removed the mount of a daemon that has died; its changes are in the journal")
			return nil
		}
		return errors.Join(err, dead)
	}
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
