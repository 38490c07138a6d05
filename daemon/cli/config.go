package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// configCommand shows or checks the configuration.
type configCommand struct {
	json bool
	what string
	file string
}

func (c *configCommand) flags(f *flag.FlagSet) { f.BoolVar(&c.json, "json", false, "print JSON") }

func (c *configCommand) parse(args []string) error {
	switch {
	case len(args) == 1 && (args[0] == "show" || args[0] == "check"):
	case len(args) == 2 && args[0] == "check":
		c.file = args[1]
	default:
		return fmt.Errorf("%w: want show, or check [FILE]", errUsage)
	}
	c.what = args[0]
	return nil
}

func (c *configCommand) run(_ context.Context, e *env) error {
	if c.file == "" {
		c.file = e.home.Config
	}
	if c.what == "check" {
		if err := daemon.CheckConfig(c.file); err != nil {
			return err
		}
		fmt.Fprintln(e.out, c.file+": ok")
		return nil
	}
	settings, err := e.home.Settings()
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(settings)
	}
	fmt.Fprintln(e.out, "# "+c.file)
	section := ""
	for _, s := range settings {
		name := s.Key
		if before, after, ok := strings.Cut(s.Key, "."); ok {
			if name = after; before != section {
				section = before
				fmt.Fprintf(e.out, "\n[%s]\n", section)
			}
		}
		fmt.Fprintf(e.out, "%-40s # %s\n", name+" = "+s.TOML(), s.From)
	}
	return nil
}
