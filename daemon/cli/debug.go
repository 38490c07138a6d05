package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// debugCommand writes a profile of the running daemon.
type debugCommand struct {
	length     time.Duration
	kind, path string
}

func (c *debugCommand) flags(f *flag.FlagSet) {
	f.DurationVar(&c.length, "for", 10*time.Second, "how long `TIME` a cpu or mutex profile takes, in whole seconds")
}

func (c *debugCommand) parse(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: want a kind of profile and a file", errUsage)
	}
	c.kind, c.path = args[0], args[1]
	return nil
}

func (c *debugCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	f, err := safefile.CreateNew(c.path)
	if err != nil {
		return fmt.Errorf("%w: a profile wants a new file: %w", errUsage, err)
	}
	return errors.Join(d.Profile(ctx, f, c.kind, c.length), f.Close())
}
