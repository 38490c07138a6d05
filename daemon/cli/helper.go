package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// helperUsage is how mount(8) calls its helper.
const helperUsage = "mount.ipfscloud SOURCE MOUNTPOINT [-sfnvrw] [-t TYPE] [-o OPTIONS]"

// helper is what mount(8) runs for the type ipfscloud. SOURCE is the directory that holds
// all state, as IPFSCLOUD_HOME does; if it is no absolute path, it is a mere name.
type helper struct {
	mount  mountCommand
	source string
	fake   bool
}

func (h *helper) parse(args []string) error {
	h.mount = mountCommand{detach: true, ready: -1, pass: passSource{fd: -1}}
	set := flag.NewFlagSet("mount.ipfscloud", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	options := set.String("o", "", "")
	set.BoolVar(&h.fake, "f", false, "")
	readOnly := set.Bool("r", false, "")
	for _, ignored := range []string{"s", "n", "v", "w"} {
		set.Bool(ignored, false, "")
	}
	set.String("t", "", "")
	set.String("N", "", "")
	rest, err := parseFlags(set, args)
	if err != nil || len(rest) != 2 {
		return fmt.Errorf("%w: %s", errUsage, helperUsage)
	}
	h.source = rest[0]
	keep := []string{}
	for _, o := range strings.Split(*options, ",") {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "durability":
			h.mount.drive.durability = value
		case "ipfs":
			h.mount.drive.ipfs = value
		case "passfile":
			h.mount.pass.file = value
		default:
			keep = append(keep, o)
		}
	}
	if *readOnly {
		keep = append(keep, "ro")
	}
	h.mount.drive.options = strings.Join(keep, ",")
	return h.mount.parse(rest[1:])
}

func (h *helper) run(ctx context.Context, e *env) (err error) {
	if filepath.IsAbs(h.source) { // the background process must find it too
		if err := os.Setenv(daemon.HomeEnv, h.source); err != nil {
			return err
		}
	}
	if e.home, err = daemon.FindHome(); err != nil || h.fake {
		return err
	}
	return h.mount.run(ctx, e)
}
