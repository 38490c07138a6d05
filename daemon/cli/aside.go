package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

const (
	asideWords = "list | show [NAME] | export [NAME] DIRECTORY | discard [NAME]"
	asideHelp  = "When another device takes over the drive, or this one is locked out, this device may have changes that programs were told are safe, and that the drive does not have. Nothing of them is thrown away: they are set aside, sealed as before, and an alert says so until you have decided.\n" +
		"`aside list` says what there is, `aside show` which files differ and how, and `aside export` writes the new and changed files into a directory that does not exist yet, whole and readable, with a list of what was renamed or removed. It changes nothing in the drive: copy back what you want. `aside discard` then removes it and ends the alert; what was never exported is removed only with --force (8).\n" +
		"All of this works while the drive is mounted, and when it is not; a device that can no longer log in gives its passphrase with --passfile, or is asked for it."
)

// asideCommand is about changes that this device has and the drive does not.
type asideCommand struct {
	pass       passSource
	what, name string
	dir        string
	force      bool
	json       bool
	configFile string
	ipfs       string
}

func (c *asideCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.BoolVar(&c.force, "force", false, "discard: also what was never exported")
	f.BoolVar(&c.json, "json", false, "list, show, export: print JSON")
	f.StringVar(&c.configFile, "config", "", "read the configuration from `FILE`")
	f.StringVar(&c.ipfs, "ipfs", "", "use the IPFS node whose RPC is at `URL`")
}

func (c *asideCommand) parse(args []string) error {
	if c.what = "list"; len(args) > 0 {
		c.what, args = args[0], args[1:]
	}
	switch {
	case c.what == "list" && len(args) == 0:
		return nil
	case (c.what == "show" || c.what == "discard") && len(args) <= 1:
		c.name = strings.Join(args, "")
		return nil
	case c.what == "export" && (len(args) == 1 || len(args) == 2):
		if len(args) == 2 {
			c.name = args[0]
		}
		var err error
		c.dir, err = filepath.Abs(args[len(args)-1])
		return err
	}
	return fmt.Errorf("%w: want %s", errUsage, asideWords)
}

// asideSource is the daemon of the drive, or this process in its place.
type asideSource struct {
	list    func() ([]daemon.Aside, error)
	export  func(name, dir string) (*daemon.AsideExport, error)
	discard func(name string, force bool) error
	mounted bool
}

func (c *asideCommand) source(ctx context.Context, e *env) (*asideSource, error) {
	d, err := daemon.Connect(ctx, e.home)
	if err == nil {
		return &asideSource{
			list:    func() ([]daemon.Aside, error) { return d.ListAsides(ctx) },
			export:  func(name, dir string) (*daemon.AsideExport, error) { return d.ExportAside(ctx, name, dir) },
			discard: func(name string, force bool) error { return d.DiscardAside(ctx, name, force) }, mounted: true,
		}, nil
	}
	if !errors.Is(err, daemon.ErrNotRunning) {
		return nil, err
	}
	drive := driveFlags{configFile: c.configFile, ipfs: c.ipfs}
	cfg, err := drive.config(e)
	if err != nil {
		return nil, err
	}
	a := daemon.Asides{Home: e.home, Config: cfg, Log: e.quiet()}
	return &asideSource{
		list: a.List,
		export: func(name, dir string) (*daemon.AsideExport, error) {
			if _, err := auth.Dial(ctx, e.home.AgentSocket()); errors.Is(err, auth.ErrNoSession) {
				if a.Passphrase, err = c.pass.get(e, "Passphrase", false); err != nil {
					return nil, err
				}
				defer clear(a.Passphrase)
			}
			return a.Export(ctx, name, dir)
		},
		discard: a.Discard,
	}, nil
}

func (c *asideCommand) run(ctx context.Context, e *env) error {
	s, err := c.source(ctx, e)
	if err != nil {
		return err
	}
	all, err := s.list()
	if err != nil {
		return err
	}
	if c.what == "list" {
		return c.list(e, all)
	}
	if c.name == "" {
		switch len(all) {
		case 0:
			return fmt.Errorf("nothing was set aside: %w", daemon.ErrNotFound)
		case 1:
			c.name = all[0].Name
		default:
			return fmt.Errorf("%w: several were set aside; say which, by the name that `ipfscloud aside list` shows", errUsage)
		}
	}
	if c.what == "discard" {
		if err := s.discard(c.name, c.force); err != nil {
			return err
		}
		e.err.Println("Discarded.")
		return nil
	}
	x, err := s.export(c.name, c.dir)
	if err != nil {
		return err
	}
	return c.exported(e, x)
}

func (c *asideCommand) list(e *env, all []daemon.Aside) error {
	if c.json {
		return json.NewEncoder(e.out).Encode(all)
	}
	if len(all) == 0 {
		e.err.Println("Nothing is set aside. Where two machines wrote the drive and it is read-only for that, `ipfscloud device take-over` goes on from one machine's changes and sets the other's aside.")
	}
	for _, a := range all {
		what := []string{}
		if a.Changes > 0 {
			what = append(what, fmt.Sprintf("%d changes that are in no commit", a.Changes))
		}
		if a.Beside {
			what = append(what, "commits of this device that the drive does not go on from")
		}
		if a.Problem != "" {
			what = append(what, a.Problem)
		}
		done := "not exported yet"
		if a.Exported != nil {
			done = "exported " + a.Exported.Local().Format(time.DateTime)
		}
		e.out.Printf("%s  %s: %s; %s\n", a.Name, a.Since.Local().Format(time.DateTime), strings.Join(what, ", "), done)
		if a.Because != "" {
			e.out.Printf("    because %s\n", a.Because)
		}
	}
	return nil
}

// exported tells what an export wrote, or what one would write.
func (c *asideCommand) exported(e *env, x *daemon.AsideExport) error {
	if c.json {
		return json.NewEncoder(e.out).Encode(x)
	}
	if x.Dir == "" {
		for _, d := range x.Differences {
			path := d.Path
			if d.Old != "" {
				path = d.Old + " -> " + d.Path
			}
			e.out.Printf("%-8s %s\n", d.Kind, path)
		}
	} else {
		e.out.Printf("%d files, %s, in %s; CHANGES.txt there lists all changes.\n", x.Files, size(x.Bytes), x.Dir)
		for _, s := range x.Skipped {
			e.err.Println("Left out:", s)
		}
		e.err.Printf("They are readable there by anyone who can read that directory. `ipfscloud aside discard %s` ends the alert.\n", x.Name)
	}
	e.err.Printf("Compared with %s.\n", x.Compared)
	return nil
}
