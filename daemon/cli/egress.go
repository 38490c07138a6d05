package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// egressCommand is about where copies are kept.
type egressCommand struct {
	what  string
	args  []string
	peers int
	json  bool
	ca    string
	auth  string
	place daemon.FleetPlace
	token string
	ready int

	unchecked bool
}

func (c *egressCommand) flags(f *flag.FlagSet) {
	f.IntVar(&c.peers, "peers", 0, "up, run: how many nodes there are to be (3 at first)")
	f.BoolVar(&c.json, "json", false, "status, peers: print JSON")
	f.StringVar(&c.ca, "ca", "", "use: `FILE` with the certificate that the URL shows, or that of its authority")
	f.StringVar(&c.auth, "auth-file", "", "use: `FILE` that holds basic:USER:PASSWORD or bearer:TOKEN")
	f.BoolVar(&c.unchecked, "unchecked", false, "use: take the URL without asking whether it answers, and lets this device in")
	f.StringVar(&c.place.Listen, "listen", "", "up, run, join: `ADDRESS` for the nodes' traffic among each other; loopback if none is given")
	f.StringVar(&c.place.Announce, "announce", "", "up, run, join: address or name at which other machines reach that")
	f.StringVar(&c.place.APIListen, "api-listen", "", "up, run, join: `ADDRESS` of the REST API")
	f.StringVar(&c.place.Name, "name", "", "join: `NAME` of the node, for people")
	f.Uint64Var(&c.place.Storage, "storage", 0, "up, run, join: `BYTES` that a node offers; most of what is free if none are given")
	f.StringVar(&c.token, "token-file", "-", "join: `FILE` with the token; - is standard input")
	f.IntVar(&c.ready, "ready-fd", -1, "internal: tell descriptor `N` when the nodes are ready")
}

func (c *egressCommand) parse(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: want up, run, down, status, peers, use, token, password, join or trust", errUsage)
	}
	c.what, c.args = args[0], args[1:]
	switch {
	case c.what == "use" && len(c.args) == 0:
		return fmt.Errorf("%w: want URLs of one cluster's REST API, local, or none", errUsage)
	case c.what == "trust" && len(c.args) == 0:
		return fmt.Errorf("%w: want ids of nodes", errUsage)
	case c.what != "use" && c.what != "trust" && len(c.args) > 0:
		return fmt.Errorf("%w: unexpected argument %q", errUsage, c.args[0])
	case c.peers < 0 || c.peers > 100:
		return fmt.Errorf("%w: --peers is 1 to 100", errUsage)
	}
	return nil
}

func (c *egressCommand) run(ctx context.Context, e *env) error {
	switch c.what {
	case "up":
		return c.up(ctx, e)
	case "run":
		return c.serve(ctx, e)
	case "down":
		return c.down(ctx, e)
	case "status":
		return c.status(ctx, e)
	case "peers":
		return c.listPeers(ctx, e)
	case "use":
		return c.use(ctx, e)
	case "token":
		t, err := daemon.FleetToken(e.home)
		if err != nil {
			return err
		}
		fmt.Fprintln(e.err, "Who has this can join, and see and change what is kept. Give it to nobody else.")
		fmt.Fprintln(e.out, t)
		return nil
	case "password":
		line, err := daemon.ChangeFleetPassword(e.home)
		if errors.Is(err, daemon.ErrFleetBusy) {
			err = fmt.Errorf("%w; stop the nodes first: `ipfscloud egress down`", err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(e.err, "The nodes of this machine ask for a new password from their next start on (`ipfscloud egress up`, or their systemd unit).\n"+
			"A drive on this machine that uses them knows it from its next mount on. Each other device that keeps its copies here needs a file that holds the line below, "+
			"for `ipfscloud egress use URL --auth-file FILE`.")
		fmt.Fprintln(e.out, line)
		return nil
	case "join":
		return c.join(ctx, e)
	case "trust":
		return daemon.TrustFleet(ctx, e.home, c.args)
	}
	return fmt.Errorf("%w: there is no `egress %s`", errUsage, c.what)
}

// fleetWait is for nodes that start at once on few cores.
const fleetWait = 5 * time.Minute

// up starts the nodes of this machine in the background.
func (c *egressCommand) up(ctx context.Context, e *env) error {
	if err := e.home.Make(); err != nil {
		return err
	}
	t := task{args: []string{"egress", "run", "--ready-fd", fmt.Sprint(readyFD), "--peers", fmt.Sprint(c.peers),
		"--listen", c.place.Listen, "--announce", c.place.Announce, "--api-listen", c.place.APIListen,
		"--storage", fmt.Sprint(c.place.Storage)}, log: e.home.LogFile(), wait: fleetWait}
	if _, err := background(ctx, t); err != nil {
		return err
	}
	if used, err := daemon.EgressUsed(e.home); err == nil && !used.Local && len(used.URLs) == 0 {
		if err := daemon.UseEgress(e.home, daemon.EgressUse{Local: true}); err != nil {
			return err
		}
		fmt.Fprintln(e.err, "The drive keeps its copies there from the next mount on.")
	}
	return c.status(ctx, e)
}

// serve runs the nodes of this machine until a signal, or `egress down`.
func (c *egressCommand) serve(ctx context.Context, e *env) error {
	if err := e.home.Make(); err != nil {
		return err
	}
	var pipe *os.File
	if c.ready >= 0 {
		pipe = inherited(c.ready)
		if abandoned(pipe) {
			return errAbandoned
		}
	}
	log, closeLog, err := openLog(e, pipe != nil)
	if err != nil {
		return err
	}
	defer closeLog()
	signals, _, stopSignals := stopSignals()
	defer stopSignals()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	peers := c.peers
	if peers == 0 {
		if _, err := daemon.ReadFleet(ctx, e.home); errors.Is(err, daemon.ErrNoFleet) {
			peers = 3
		}
	}
	told := false
	err = daemon.RunFleet(ctx, daemon.FleetParams{Home: e.home, Peers: peers, Place: c.place, Stop: signals, Log: log, Ready: func() {
		told = true
		if pipe != nil {
			if err := tell(pipe, answer{}); err != nil {
				cancel() // nobody waits for these nodes any more
			}
			return
		}
		if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
			log.Warn("telling systemd", "error", err)
		}
		fmt.Fprintln(e.err, "The nodes are up. Ctrl-C stops them.")
	}})
	if err != nil && pipe != nil && !told {
		_ = tell(pipe, failed(err))
	}
	return err
}

const joinTokenMax = 1 << 20 // bytes

func (c *egressCommand) readToken(e *env) ([]byte, error) {
	if c.token != "-" {
		b, err := safefile.ReadSecret(c.token, joinTokenMax)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		return b, nil
	}
	if e.terminal() {
		fmt.Fprintln(e.err, "Paste the token, then press Ctrl-D:")
	}
	return io.ReadAll(io.LimitReader(e.in, joinTokenMax))
}

// join makes a node that belongs to those of another machine.
func (c *egressCommand) join(ctx context.Context, e *env) error {
	b, err := c.readToken(e)
	if err != nil {
		return err
	}
	if err := e.home.Make(); err != nil {
		return err
	}
	id, err := daemon.JoinFleet(ctx, e.home, string(b), c.place)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "The node is made. Start it with `ipfscloud egress run` or its systemd unit.\n"+
		"On a machine of the fleet, `ipfscloud egress trust %s` lets drives use its API.\n", id)
	return nil
}

// down stops the nodes. What they keep stays on their disks.
func (c *egressCommand) down(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := daemon.StopFleet(ctx, e.home)
	if errors.Is(err, daemon.ErrFleetDown) {
		fmt.Fprintln(e.err, "The nodes are not running.")
		return nil
	}
	return err
}

func (c *egressCommand) status(ctx context.Context, e *env) error {
	s, err := daemon.ReadFleet(ctx, e.home)
	if err != nil && !errors.Is(err, daemon.ErrFleetDown) {
		return err
	}
	if c.json {
		return errors.Join(err, json.NewEncoder(e.out).Encode(s))
	}
	for _, n := range s.Nodes {
		line := fmt.Sprintf("%-8s %-8s %s", n.Name, n.State, n.API)
		if n.Kubo.Restarts+n.Service.Restarts > 0 {
			line += fmt.Sprintf("  restarts: %d", n.Kubo.Restarts+n.Service.Restarts)
		}
		if n.Problem != "" {
			line += "  " + n.Problem
		}
		e.out.Println(line)
	}
	return err
}

// use remembers where copies are kept, once that place has let us in: a URL with a typing
// mistake and a password that was changed would else be noticed when a copy is missed.
func (c *egressCommand) use(ctx context.Context, e *env) error {
	u := daemon.EgressUse{URLs: c.args, CAFile: c.ca, AuthFile: c.auth}
	if len(c.args) == 1 && (c.args[0] == "local" || c.args[0] == "none") {
		u.URLs, u.Local = nil, c.args[0] == "local"
	}
	u, err := daemon.CheckEgressUse(e.home, u)
	if err != nil {
		return err
	}
	answer := ""
	if len(u.URLs) > 0 && !c.unchecked {
		if answer, err = c.tryOut(ctx, e, u); err != nil {
			return fmt.Errorf("%w; nothing was changed (--unchecked takes it without asking)", err)
		}
	}
	if err := daemon.UseEgress(e.home, u); err != nil {
		return err
	}
	switch {
	case u.Local:
		fmt.Fprintln(e.err, "The drive keeps its copies on the nodes of this machine, from the next mount on.")
		if answer, err = c.tryOut(ctx, e, u); err != nil { // `egress up` starts them
			fmt.Fprintln(e.err, "They cannot be used now:", err)
		}
	case len(u.URLs) > 0:
		e.err.Println("The drive keeps its copies at", strings.Join(u.URLs, ", ")+", from the next mount on.")
	default:
		fmt.Fprintln(e.err, "The drive keeps no copies elsewhere, from the next mount on.")
		return nil
	}
	if cfg, err := e.home.LoadConfig(); err != nil {
		return err
	} else if len(cfg.Egress.URL) > 0 {
		fmt.Fprintln(e.err, "But the configuration says egress.url, which goes before this.")
		return nil
	}
	if answer != "" {
		fmt.Fprintln(e.err, answer)
	}
	return nil
}

// tryOut asks an Egress for its peers, and says in a sentence how many there are.
func (c *egressCommand) tryOut(ctx context.Context, e *env, u daemon.EgressUse) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	peers, err := daemon.CheckEgress(ctx, e.home, u)
	if err != nil {
		return "", err
	}
	up := 0
	for _, p := range peers {
		if p.Up {
			up++
		}
	}
	return fmt.Sprintf("It answers: %d of %d peers are up.", up, len(peers)), nil
}

// listPeers shows the members of the Egress that the drive uses.
func (c *egressCommand) listPeers(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg, err := e.home.LoadConfig()
	if err != nil {
		return err
	}
	peers, err := daemon.EgressPeers(ctx, e.home, cfg)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(peers)
	}
	for _, p := range peers {
		state := "up"
		if !p.Up {
			state = "down"
		}
		line := fmt.Sprintf("%-16s %-5s %s", p.Name, state, p.ID)
		if p.Free > 0 {
			line += "  free: " + size(p.Free)
		}
		if p.Error != "" {
			line += "  " + p.Error
		}
		e.out.Println(line)
	}
	return nil
}
