package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// snapshotCommand keeps commits.
type snapshotCommand struct {
	what, name string
	json       bool
}

func (c *snapshotCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.json, "json", false, "create, list: print JSON")
}

func (c *snapshotCommand) parse(args []string) error {
	if len(args) > 0 {
		c.what = args[0]
	}
	if len(args) > 1 {
		c.name = args[1]
	}
	switch {
	case c.what == "create" && len(args) <= 2, c.what == "list" && len(args) == 1, c.what == "remove" && len(args) == 2:
		return nil
	}
	return fmt.Errorf("%w: want create [NAME], list, or remove NAME", errUsage)
}

func (c *snapshotCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if errors.Is(err, daemon.ErrNotRunning) && c.what == "list" {
		all, err := daemon.ReadSnapshots(e.home)
		return errors.Join(err, c.print(e, all))
	}
	if err != nil {
		return err
	}
	switch c.what {
	case "create":
		x, err := d.MakeSnapshot(ctx, c.name)
		if err != nil {
			return err
		}
		if c.json {
			return json.NewEncoder(e.out).Encode(x)
		}
		e.out.Printf("%s: commit %d\n", x.Name, x.Sequence)
		return nil
	case "remove":
		return d.RemoveSnapshot(ctx, c.name)
	}
	all, err := d.Snapshots(ctx)
	if err != nil {
		return err
	}
	return c.print(e, all)
}

func (c *snapshotCommand) print(e *env, all []daemon.Snapshot) error {
	if c.json {
		if all == nil {
			all = []daemon.Snapshot{}
		}
		return json.NewEncoder(e.out).Encode(all)
	}
	for _, x := range all {
		line := fmt.Sprintf("%-24s commit %d, %s", x.Name, x.Sequence, x.Time.Local().Format(time.DateTime))
		if x.Target > 0 {
			line += fmt.Sprintf(", %d of %d copies (%s)", x.Copies, x.Target, x.State)
		}
		e.out.Println(line)
	}
	return nil
}
