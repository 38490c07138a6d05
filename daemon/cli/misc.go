package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// destroyCommand removes everything of this home.
type destroyCommand struct{ yes bool }

func (c *destroyCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.yes, "yes", false, "do not ask")
}
func (c *destroyCommand) parse(args []string) error { return noArgs(args) }

func (c *destroyCommand) run(ctx context.Context, e *env) error {
	if _, err := daemon.Connect(ctx, e.home); err == nil {
		return fmt.Errorf("the drive is mounted; unmount it first: %w", daemon.ErrBusy)
	}
	id, err := auth.Inspect(e.home.Keystore)
	if err != nil && !errors.Is(err, auth.ErrKeystore) {
		return err
	}
	if !c.yes {
		if !e.terminal() {
			return fmt.Errorf("%w: without a terminal, say --yes", errUsage)
		}
		got, err := e.ask(fmt.Sprintf("This removes the keys of %s and everything in the embedded node.\nType \"destroy\" to do it: ", id.DID))
		if err != nil {
			return err
		}
		if got != "destroy" {
			return errors.New("nothing was removed")
		}
	}
	if a, err := auth.Dial(ctx, e.home.AgentSocket()); err == nil {
		if err := a.Logout(ctx); err != nil {
			return err
		}
	}
	return e.home.Destroy()
}

// versionCommand prints the version.
type versionCommand struct{}

func (c *versionCommand) flags(*flag.FlagSet)       {}
func (c *versionCommand) parse(args []string) error { return noArgs(args) }
func (c *versionCommand) run(_ context.Context, e *env) error {
	fmt.Fprintln(e.out, "ipfscloud", Version)
	return nil
}
