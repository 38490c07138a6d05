package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// statusCommand shows where the drive stands.
type statusCommand struct{ json bool }

func (c *statusCommand) flags(f *flag.FlagSet)     { f.BoolVar(&c.json, "json", false, "print JSON") }
func (c *statusCommand) parse(args []string) error { return noArgs(args) }

func (c *statusCommand) run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := daemon.Connect(ctx, e.home)
	if errors.Is(err, daemon.ErrNotRunning) {
		return c.stopped(e, err)
	}
	if err != nil {
		return err
	}
	s, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(s)
	}
	printStatus(e, &s)
	return nil
}

// stopped tells what is known without a daemon; the exit code is still "not found".
func (c *statusCommand) stopped(e *env, notRunning error) error {
	id, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	if c.json {
		s := daemon.Status{DID: id.DID, State: "stopped", PhrasePending: id.PhrasePending, Alerts: []string{}}
		return errors.Join(notRunning, json.NewEncoder(e.out).Encode(s))
	}
	return notRunning
}

func printStatus(e *env, s *daemon.Status) {
	e.out.Printf("%-11s %s\n", "drive", s.Mountpoint+" ("+s.State+", pid "+fmt.Sprint(s.PID)+")")
	if s.Safe != nil {
		e.out.Printf("%-11s %s\n", "safe?", strings.TrimSpace(s.Safe.Sentence+" "+s.Safe.Detail))
	}
	if s.Because != "" {
		e.out.Printf("%-11s %s\n", "because", s.Because)
	}
	e.out.Printf("%-11s %s\n", "identity", s.DID)
	e.out.Printf("%-11s %s\n", "vault", s.Vault)
	e.out.Printf("%-11s number %d, %s, %s ago\n", "commit", s.Commit.Sequence, s.Commit.CID,
		time.Since(s.Commit.Time).Round(time.Second))
	e.out.Printf("%-11s %s\n", "waiting", pendingLine(s))
	e.out.Printf("%-11s fsync waits for: %s\n", "durability", s.Durability)
	e.out.Printf("%-11s %s %s\n", "store", s.Store.Kind, s.Store.Version)
	if s.Safe != nil {
		e.out.Printf("%-11s %s\n", "copies", copiesLine(s))
	}
	if s.PhrasePending {
		fmt.Fprintln(e.out, "not recoverable yet: write down the phrase of `ipfscloud id phrase`")
	}
	for _, a := range s.Alerts {
		e.out.Println("ALERT:", a)
	}
	if s.LastError != "" {
		e.out.Println("last commit failed:", s.LastError)
	}
}

// copiesLine tells where the newest commit lies.
func copiesLine(s *daemon.Status) string {
	x := s.Egress
	switch {
	case x == nil:
		return "one, on this machine; `ipfscloud egress use URL` changes that (`ipfscloud egress up` to try it out)"
	case x.Refused:
		return "Egress refuses the password or token of this device: " + x.Error
	case x.Error != "":
		return "Egress does not answer: " + x.Error
	}
	line := fmt.Sprintf("%d of %d by Egress at %s (%s), and this machine", x.Copies, x.Target, x.URL, x.State)
	if x.Here {
		line = fmt.Sprintf("%d of %d by Egress (%s), all on this machine, to try it out", x.Copies, x.Target, x.State)
	}
	if x.Reason != "" {
		line += ": " + x.Reason
	}
	return line
}

func pendingLine(s *daemon.Status) string {
	if s.Pending.Ops == 0 {
		return "nothing: all is committed"
	}
	return fmt.Sprintf("%d changes, %s, oldest %.0f s", s.Pending.Ops, size(s.Pending.Bytes), s.Pending.OldestS)
}

func size(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for f >= 1024 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[0]
}

// syncCommand waits for durability.
type syncCommand struct {
	path       string
	durability string
}

func (c *syncCommand) flags(f *flag.FlagSet) {
	f.StringVar(&c.durability, "durability", "ipfs", "`LEVEL` to wait for: local (a power cut), ipfs (committed in the node) or egress:N (on N other machines)")
}

func (c *syncCommand) parse(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: want one path at most", errUsage)
	}
	if len(args) == 1 {
		c.path = args[0]
	}
	if err := daemon.ParseDurability(c.durability); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

func (c *syncCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	if c.path != "" {
		s, err := d.Status(ctx)
		if err != nil {
			return err
		}
		if _, err := s.Within(c.path); err != nil {
			return err
		}
	}
	return d.Sync(ctx, c.durability)
}

// infoCommand shows what lies in IPFS for a path.
type infoCommand struct {
	json bool
	path string
}

func (c *infoCommand) flags(f *flag.FlagSet) { f.BoolVar(&c.json, "json", false, "print JSON") }

func (c *infoCommand) parse(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: want one path", errUsage)
	}
	c.path = args[0]
	return nil
}

func (c *infoCommand) run(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	s, err := d.Status(ctx)
	if err != nil {
		return err
	}
	rel, err := s.Within(c.path)
	if err != nil {
		return err
	}
	i, err := d.Info(ctx, rel)
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(i)
	}
	e.out.Printf("%-8s %s\n%-8s %d bytes, inode %d\n%-8s %s\n", "path", i.Path, "size", i.Size, i.Inode, "state", i.State)
	if i.Node != "" {
		e.out.Printf("%-8s %s\n", "node", i.Node)
	}
	for _, b := range i.Blocks {
		e.out.Printf("%-8s %s\n", "blob", b)
	}
	if len(i.Blocks) == 0 && i.Node == "" {
		e.out.Printf("%-8s in the page of its directory\n", "stored")
	}
	return nil
}
