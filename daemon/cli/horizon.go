package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// horizonCommand opens the page of the mounted drive.
type horizonCommand struct {
	print bool
	json  bool
}

func (c *horizonCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.print, "print", false, "print the link; do not open a browser")
	f.BoolVar(&c.json, "json", false, "print the link, the code and the port as JSON")
}
func (c *horizonCommand) parse(args []string) error { return noArgs(args) }

func (c *horizonCommand) run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	l, err := d.Page(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(map[string]any{"url": l.URL, "code": l.Code, "port": l.Port, "expires": l.Expires})
	}
	// The code must not stand in the arguments of a process: the browser gets a file.
	if !c.print && (os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "") {
		path, err := e.home.WriteRedirect(l)
		if err != nil {
			return err
		}
		if err := exec.CommandContext(ctx, "xdg-open", path).Run(); err == nil {
			fmt.Fprintln(e.err, "Opened in your browser.")
			return nil
		}
	}
	e.out.Println(l.URL)
	fmt.Fprintf(e.err, "The link works once, within two minutes. From another machine, forward the port first: ssh -L %d:127.0.0.1:%d HOST\n", l.Port, l.Port)
	return nil
}
