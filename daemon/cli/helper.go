package cli

import (
	"context"
	"errors"
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
// all state, as IPFSCLOUD_HOME does; if it is no absolute path, it is a mere name, and
// root's drive is that of the machine, whatever home directory root has: the same line of
// fstab means the same at boot and by hand. With setuid=USER all is that user's, and done
// with that user's rights.
type helper struct {
	mount  mountCommand
	source string
	drive  string
	user   string // who the drive belongs to: the helper becomes that user
	fake   bool
}

func (h *helper) parse(args []string) error {
	h.mount = mountCommand{detach: true, helper: true, ready: -1, pass: passSource{fd: -1}}
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
		case "setuid": // as in mount.fuse3(8)
			h.user = value
			if value == "" {
				return fmt.Errorf("%w: setuid=USER", errUsage)
			}
		case "drive":
			h.drive = value
		case "durability":
			h.mount.drive.durability = value
		case "ipfs":
			h.mount.drive.ipfs = value
		case "passfile":
			h.mount.pass.file = value
		case "config":
			h.mount.drive.configFile = value
		case "cache_dir":
			h.mount.drive.cacheDir = value
		case "user", "comment", "group", "nogroup", "owner", "noowner": // for mount(8), with a value or without
		default:
			if !strings.HasPrefix(name, "x-") && !strings.HasPrefix(name, "X-") {
				keep = append(keep, o)
			}
		}
	}
	if *readOnly {
		keep = append(keep, "ro")
	}
	// By its first column mount(8) knows that a line of fstab is mounted.
	if !strings.ContainsAny(h.source, ",\\") {
		keep = append([]string{"fsname=" + h.source}, keep...)
	}
	h.mount.drive.options = strings.Join(keep, ",")
	return h.mount.parse(rest[1:])
}

func (h *helper) run(ctx context.Context, e *env) (err error) {
	if err := h.environment(); err != nil {
		return err
	}
	if e.home, err = daemon.FindHome(); err != nil || h.fake {
		return err
	}
	if err := e.home.Check(); err != nil {
		return err
	}
	return h.mount.run(ctx, e)
}

// environment makes one that this process and the one in the background find the same
// things with. mount(8) may have none at all.
func (h *helper) environment() error {
	var err error
	if h.user != "" {
		if err := becomeUser(h.user); err != nil {
			return err
		}
	}
	if filepath.IsAbs(h.source) {
		err = os.Setenv(daemon.HomeEnv, h.source)
	} else if os.Geteuid() == 0 { // never after setuid
		err = os.Unsetenv("HOME")
	}
	err = errors.Join(err, os.Setenv(daemon.DriveEnv, h.drive))
	if os.Getenv("PATH") == "" { // fusermount3 is looked for
		err = errors.Join(err, os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
	}
	return err
}
