package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// horizonCommand opens the page of the mounted drive.
type horizonCommand struct {
	print bool
	json  bool
	user  string
}

func (c *horizonCommand) flags(f *flag.FlagSet) {
	f.BoolVar(&c.print, "print", false, "print the link; do not open a browser")
	f.BoolVar(&c.json, "json", false, "print the link, the code and the port as JSON")
	f.StringVar(&c.user, "for", "", "let the browser of another `USER` of this machine in, too")
}
func (c *horizonCommand) parse(args []string) error { return noArgs(args) }

func (c *horizonCommand) run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	uids, err := c.users()
	if err != nil {
		return err
	}
	l, err := d.Page(ctx, uids...)
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
	// Both addresses, or none: a browser may look at either, and at the other end of SSH
	// another user could take the one that is left.
	fmt.Fprintf(e.err, "The link works once, within two minutes, for %s. From another machine, forward the port first:\n"+
		"  ssh -o ExitOnForwardFailure=yes -L 127.0.0.1:%[2]d:127.0.0.1:%[2]d -L '[::1]:%[2]d:127.0.0.1:%[2]d' HOST\n", c.whom(uids), l.Port)
	return nil
}

// users are those whose browsers may use the link, besides the drive's owner: the one who
// was named, and for root who has become root, for their browser is not root's.
func (c *horizonCommand) users() (uids []int, err error) {
	if c.user != "" {
		u, err := user.Lookup(c.user)
		if _, number := strconv.Atoi(c.user); err != nil && number == nil {
			u, err = user.LookupId(c.user)
		}
		if err != nil {
			return nil, fmt.Errorf("--for %s: %w: %w", c.user, errUsage, err)
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, fmt.Errorf("--for %s: %w", c.user, err)
		}
		return []int{uid}, nil
	}
	if os.Geteuid() != 0 {
		return nil, nil
	}
	// The kernel keeps who logged in, through su and sudo, where it audits logins.
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if uid, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 32); err == nil && uid > 0 {
			return []int{int(uid)}, nil
		}
	}
	for _, name := range []string{"SUDO_UID", "PKEXEC_UID"} {
		if uid, err := strconv.ParseInt(os.Getenv(name), 10, 32); err == nil && uid > 0 {
			return []int{int(uid)}, nil
		}
	}
	return nil, nil
}

// whom says for whom the link works.
func (c *horizonCommand) whom(uids []int) string {
	text := "browsers of the drive's owner"
	for _, uid := range uids {
		name := fmt.Sprint("user ", uid)
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			name = u.Username
		}
		text += " and of " + name
	}
	return text
}
