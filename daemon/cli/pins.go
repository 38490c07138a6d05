package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// pinsCommand shows which copies there are.
type pinsCommand struct {
	json  bool
	retry string
}

func (c *pinsCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.StringVar(&c.retry, "retry", "", "try again at once what failed for `CID`")
}
func (c *pinsCommand) parse(args []string) error { return noArgs(args) }

func (c *pinsCommand) run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	if c.retry != "" {
		if err := d.RetryPin(ctx, c.retry); err != nil {
			return err
		}
	}
	pins, err := d.Pins(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(pins)
	}
	for _, p := range pins {
		mark := ""
		if p.Newest {
			mark = "  (newest)"
		}
		for _, name := range p.Snapshots {
			mark += "  (snapshot " + name + ")"
		}
		e.out.Printf("%-8s %d of %d  %s  since %s%s\n", p.State, p.Copies, p.Target, p.CID,
			p.Since.Local().Format(time.DateTime), mark)
		if p.Reason != "" {
			e.out.Println("        ", p.Reason)
		}
		for _, x := range p.Peers {
			line := fmt.Sprintf("         %-16s %s", x.Name, x.Status)
			if x.Error != "" {
				line += ": " + x.Error
			}
			e.out.Println(line)
		}
	}
	return nil
}

// unpinCommand gives up the copies of a commit.
type unpinCommand struct {
	cid string
	yes bool
}

func (c *unpinCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.yes, "yes", false, "do not ask")
}

func (c *unpinCommand) parse(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: want one CID, as `ipfscloud pins` shows it", errUsage)
	}
	c.cid = args[0]
	return nil
}

func (c *unpinCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	if !c.yes {
		if !e.terminal() {
			return fmt.Errorf("%w: without a terminal, say --yes", errUsage)
		}
		got, err := e.ask("This gives up the copies of " + c.cid + ". Type \"unpin\" to do it: ")
		if err != nil || got != "unpin" {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return d.Unpin(ctx, c.cid)
}
