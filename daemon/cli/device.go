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
	"text/tabwriter"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// deviceCommand lets devices join the identity, and leave it.
type deviceCommand struct {
	pass       passSource
	what, arg  string
	name       string
	requestOut string
	answer     string
	answerOut  string
	code       string
	readOnly   bool
	until      string
	configFile string
	ipfs       string
	egress     bool
	withEgress bool
	wait       time.Duration
	all, json  bool

	end time.Time
}

func (c *deviceCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.StringVar(&c.name, "name", "", "add: a `NAME` for people, in place of the host's")
	f.StringVar(&c.requestOut, "request-out", "", "add: write the request to `FILE`, which must not exist, not to standard output")
	f.StringVar(&c.answer, "answer", "", "add: take the answer in `FILE` (- is standard input)")
	f.StringVar(&c.answerOut, "answer-out", "", "approve: write the answer to `FILE`, which must not exist, not to standard output")
	f.StringVar(&c.code, "code", "", "approve, add --answer: the `CODE` that the other device shows; asked for on a terminal")
	f.BoolVar(&c.egress, "egress", false, "add, approve: carry request and answer over by the Egress that both devices use")
	f.DurationVar(&c.wait, "wait", 10*time.Minute, "add --egress: wait so long for the answer")
	f.BoolVar(&c.readOnly, "read-only", false, "approve: the device may read, and not write")
	f.BoolVar(&c.withEgress, "with-egress", false, "approve --read-only: hand the Egress's password over too. The device then learns of new commits by itself; it could also drop every copy")
	f.StringVar(&c.until, "until", "", "approve: the device may write until `TIME` (2026-01-31, or as 2026-01-31T12:00:00Z) and changes no devices")
	f.StringVar(&c.configFile, "config", "", "read the configuration from `FILE`")
	f.StringVar(&c.ipfs, "ipfs", "", "use the IPFS node whose RPC is at `URL`")
	f.BoolVar(&c.all, "all", false, "list: revoked devices too")
	f.BoolVar(&c.json, "json", false, "print JSON")
}

func (c *deviceCommand) parse(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: want add, approve FILE, list, revoke DEVICE, rekey or take-over", errUsage)
	}
	c.what = args[0]
	switch {
	case len(args) == 1 && (c.what == "add" || c.what == "list" || c.what == "rekey" || c.what == "take-over" || c.what == "approve"):
		c.arg = "-"
	case len(args) == 2 && (c.what == "approve" || c.what == "revoke"):
		c.arg = args[1]
	default:
		return fmt.Errorf("%w: want add, approve FILE, list, revoke DEVICE, rekey or take-over", errUsage)
	}
	if c.egress && (c.answer != "" || c.answerOut != "" || c.requestOut != "" || c.arg != "-") {
		return fmt.Errorf("%w: with --egress there are no files", errUsage)
	}
	if c.withEgress && !c.readOnly {
		return fmt.Errorf("%w: --with-egress is for --read-only: other devices get the Egress's password anyway", errUsage)
	}
	if c.until == "" {
		return nil
	}
	if c.readOnly {
		return fmt.Errorf("%w: --read-only and --until exclude each other", errUsage)
	}
	var err error
	if c.end, err = time.Parse(time.RFC3339, c.until); err != nil {
		if c.end, err = time.ParseInLocation(time.DateOnly, c.until, time.Local); err != nil {
			return fmt.Errorf("%w: --until wants a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z", errUsage)
		}
		c.end = c.end.AddDate(0, 0, 1) // the day is over
	}
	if c.end = c.end.UTC().Truncate(time.Second); !c.end.After(time.Now()) {
		return fmt.Errorf("%w: --until %s is over", errUsage, c.until)
	}
	return nil
}

func (c *deviceCommand) run(ctx context.Context, e *env) error {
	drive := driveFlags{configFile: c.configFile, ipfs: c.ipfs}
	cfg, err := drive.config(e)
	if err != nil {
		return err
	}
	d := daemon.Devices{Home: e.home, Config: cfg, Log: e.quiet()}
	switch c.what {
	case "list":
		return c.list(ctx, e, d)
	case "add":
		return c.add(ctx, e, d)
	}
	if s, err := auth.Inspect(e.home.Keystore); err != nil {
		return err
	} else if s.DID == "" {
		return auth.ErrEnrols
	}
	if c.what == "take-over" && !c.pass.given() { // the session has all that it takes
		if _, err := auth.Dial(ctx, e.home.AgentSocket()); err == nil {
			return c.takeOver(ctx, e, d)
		}
	}
	var request *auth.Request
	if c.what == "approve" { // before anybody is asked for anything
		if request, err = c.request(ctx, e, d); err != nil {
			return err
		}
	}
	if d.Passphrase, err = c.pass.get(e, "Passphrase", false); err != nil {
		return err
	}
	defer clear(d.Passphrase)
	switch c.what {
	case "approve":
		return c.approve(ctx, e, d, request)
	case "revoke":
		return c.revoke(ctx, e, d)
	case "rekey":
		head, err := d.Rekey(ctx)
		if err == nil {
			err = c.print(e, map[string]any{"sequence": head.Sequence}, fmt.Sprintf("The vault has a new key from commit %d on.", head.Sequence))
		}
		return err
	}
	return c.takeOver(ctx, e, d)
}

// print prints JSON, or a sentence.
func (c *deviceCommand) print(e *env, v any, text string) error {
	if c.json {
		return json.NewEncoder(e.out).Encode(v)
	}
	_, err := fmt.Fprintln(e.out, text)
	return err
}

// readMessage reads a message of a device: a file, or what is pasted up to its last line.
func (e *env) readMessage(from string) ([]byte, error) {
	if from != "-" {
		b, err := os.ReadFile(from)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		return b, nil
	}
	var b []byte
	for buf := make([]byte, 1); ; { // byte by byte: what follows is for the next question
		n, err := e.in.Read(buf)
		b = append(b, buf[:n]...)
		line := b[strings.LastIndexByte(strings.TrimRight(string(b), "\n"), '\n')+1:]
		switch {
		case errors.Is(err, io.EOF) && len(strings.TrimSpace(string(b))) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case err != nil, n > 0 && buf[0] == '\n' && strings.HasPrefix(string(line), "-----END "):
			return b, nil
		case len(b) > maxDIDFile:
			return nil, fmt.Errorf("%w: that is no message of a device", errUsage)
		}
	}
}

// askCode is the code of the other device, which is given or asked for.
func (c *deviceCommand) askCode(e *env, prompt string) (string, error) {
	if c.code != "" {
		return c.code, nil
	}
	if !e.terminal() {
		return "", fmt.Errorf("%w: --code is needed: what the other device shows", errUsage)
	}
	return e.ask(prompt)
}

func (c *deviceCommand) request(ctx context.Context, e *env, d daemon.Devices) (*auth.Request, error) {
	if c.egress {
		code, err := c.askCode(e, "Code that the new device shows: ")
		if err != nil {
			return nil, err
		}
		r, err := d.FindRequest(ctx, code)
		if err == nil && e.terminal() {
			e.err.Printf("Device %s (it calls itself %q) asks to join, %s.\n", r.Device(), r.Name, c.scope())
		}
		return r, err
	}
	if c.arg == "-" && e.terminal() {
		fmt.Fprintln(e.err, "Paste the request of the new device:")
	}
	b, err := e.readMessage(c.arg)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: no request was given", errUsage)
	}
	if err != nil {
		return nil, err
	}
	r, err := auth.ParseRequest(b)
	if err != nil {
		return nil, err
	}
	if e.terminal() {
		e.err.Printf("Device %s (it calls itself %q) asks to join, %s.\n", r.Device(), r.Name, c.scope())
	}
	code, err := c.askCode(e, "Code that it shows (or what its QR code says): ")
	if err != nil {
		return nil, err
	}
	return r, r.CheckCode(code)
}

func (c *deviceCommand) grant() auth.Grant {
	switch {
	case c.readOnly:
		return auth.Grant{Scope: auth.ScopeRead}
	case !c.end.IsZero():
		return auth.Grant{Scope: auth.ScopeWrite, Until: c.end}
	}
	return auth.Grant{Scope: auth.ScopeFull}
}

func (c *deviceCommand) scope() string {
	switch g := c.grant(); g.Scope {
	case auth.ScopeRead:
		return "to read"
	case auth.ScopeWrite:
		return "to write until " + g.Until.Local().Format(time.DateTime)
	}
	return "with all rights: it can change the identity and its devices"
}

func (c *deviceCommand) approve(ctx context.Context, e *env, d daemon.Devices, r *auth.Request) error {
	out, err := newOutFile("--answer-out", c.answerOut)
	if err != nil {
		return err
	}
	defer out.discard()
	a, err := d.Approve(ctx, r, c.grant(), c.egress, c.withEgress)
	if err != nil {
		return err
	}
	if c.egress {
		if err := d.PostAnswer(ctx, r, a.Answer); err != nil {
			return err
		}
	}
	if err := out.write(a.Answer); err != nil {
		return fmt.Errorf("--answer-out: %w", err)
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(map[string]any{"device": r.Device(), "version": a.Version, "sequence": a.Commit.Sequence,
			"answer": string(a.Answer), "code": a.Code})
	}
	if c.answerOut == "" && !c.egress {
		fmt.Fprintf(e.out, "%s", a.Answer)
	}
	fmt.Fprintf(e.err, "Approved with version %s and commit %d.\nCode of the answer: %s\n", a.Version, a.Commit.Sequence, a.Code)
	switch {
	case c.readOnly && !c.withEgress && !c.egress:
		fmt.Fprintln(e.err, "The answer holds no password of your Egress. The new device reads the drive as it is now; to show it a newer state, approve the same request again. With --with-egress it follows by itself, and could drop every copy.")
	case !c.end.IsZero():
		fmt.Fprintln(e.err, "A device that writes needs your Egress's password, and keeps it when its time is over: change the password then.")
	}
	if c.egress {
		fmt.Fprintln(e.err, "The new device takes the answer from Egress, and asks for this code.")
		return nil
	}
	fmt.Fprintln(e.err, "The new device takes the answer with `ipfscloud device add --answer FILE`, and asks for this code.")
	return nil
}

func (c *deviceCommand) revoke(ctx context.Context, e *env, d daemon.Devices) error {
	version, head, err := d.Revoke(ctx, c.arg)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("Revoked with version %s.", version)
	if head.Sequence > 0 {
		text += fmt.Sprintf(" From commit %d on the vault has a key that the device does not have.", head.Sequence)
	}
	if err := c.print(e, map[string]any{"device": c.arg, "version": version, "sequence": head.Sequence}, text); err != nil {
		return err
	}
	return e.tellRemains(ctx, d.Config, "The device")
}

// tellRemains says what a lost device still has, and how to take the rest away from it.
func (e *env) tellRemains(ctx context.Context, cfg daemon.Config, who string) error {
	r, err := daemon.RemainsOf(ctx, e.home, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.err, "%s still has what it read before, and the key of what was committed until now. If it is mounted, it learns of this through Egress within half a minute or so, and writes no more.\n", who)
	if len(r.Egress) == 0 {
		return nil
	}
	fmt.Fprintf(e.err, "It may also know the password of Egress (%s): with that it cannot read your files, but it can see what is pinned, and unpin it. Change the password now:\n", strings.Join(r.Egress, ", "))
	if r.Fleet {
		fmt.Fprintln(e.err, "    ipfscloud egress down && ipfscloud egress password && ipfscloud egress up")
		fmt.Fprintln(e.err, "and give the new one to your other devices.")
		return nil
	}
	fmt.Fprintln(e.err, "on each machine of that Egress, `ipfscloud egress down`, `ipfscloud egress password`, `ipfscloud egress up`, if IpfsCloud runs it; else with what runs it "+
		"(IPFS Cluster: basic_auth_credentials in service.json, then a restart). Then on each of your devices `ipfscloud egress use URL --auth-file FILE`.")
	return nil
}

func (c *deviceCommand) takeOver(ctx context.Context, e *env, d daemon.Devices) error {
	got, err := d.TakeOver(ctx, func(x *daemon.Displaced) error { tellDisplaced(e, x); return nil })
	if err != nil {
		return err
	}
	return c.print(e, map[string]any{"device": got.Commit.Device, "sequence": got.Commit.Sequence, "displaced": got.Displaced},
		fmt.Sprintf("This device writes the drive from commit %d on. Others mount it read-only.", got.Commit.Sequence))
}

// tellDisplaced says what is known of the device that is displaced, and what cannot be known.
func tellDisplaced(e *env, x *daemon.Displaced) {
	fmt.Fprintf(e.err, "Device %s wrote the drive until now. The drive goes on from its commit %d of %s", x.Device, x.Sequence, x.Time.Local().Format(time.DateTime))
	if x.Asked {
		fmt.Fprintf(e.err, ", which %d machines of Egress hold", x.Copies)
	}
	fmt.Fprintln(e.err, ".")
	if x.Newer > 0 {
		fmt.Fprintf(e.err, "Egress lists a later one of it, commit %d, which %d machines hold and which cannot be had now: what is new in it is left out.\n", x.Newer, x.NewerCopies)
	}
	fmt.Fprintln(e.err, "What it has written since and not handed over yet cannot be known from here. If it is running, it learns of this within half a minute or so and becomes read-only; "+
		"it throws nothing away: `ipfscloud aside list` there shows what the drive does not have.")
}

func (c *deviceCommand) list(ctx context.Context, e *env, d daemon.Devices) error {
	list, err := d.List(ctx, c.all)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(list)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tNAME\tSCOPE\tSINCE\tADDED BY\t")
	for _, l := range list {
		scope := string(l.Scope)
		if l.Until != nil {
			scope += " until " + l.Until.Local().Format(time.DateTime)
		}
		var notes []string
		if l.This {
			notes = append(notes, "this device")
		}
		if l.Writes {
			notes = append(notes, "writes the drive")
		}
		if l.RevokedAt != nil {
			notes = append(notes, "revoked "+l.RevokedAt.Local().Format(time.DateTime))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Device, printable.Line(l.Name), scope, l.AddedAt.Local().Format(time.DateTime), l.By, strings.Join(notes, ", "))
	}
	return w.Flush()
}
