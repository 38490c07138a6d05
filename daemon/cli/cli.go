package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// Version of this program.
const Version = "2.0.0-dev"

// env is what a command has to do with: tests give it other files.
type env struct {
	in   *os.File
	out  *output
	err  *output
	home daemon.Home
	ipfs string // node that a flag names, in place of the configuration's
}

// command is one command of the program. parse sees its flags set and the arguments that
// are left; run does the work.
type command interface {
	flags(*flag.FlagSet)
	parse(args []string) error
	run(context.Context, *env) error
}

// entry describes a command to people; the manual pages are made from it.
type entry struct {
	name, args, short string
	long              string // paragraphs by \n
	hidden            bool
	make              func() command
}

func entries() []entry {
	return []entry{
		{"up", "[MOUNTPOINT]", "first run and everything after: identity, login, mount; in the foreground",
			"Makes an identity and a vault if there are none, asks for the passphrase, mounts the drive at MOUNTPOINT (else where the configuration says, else ~/IpfsCloud) and shows a status line. Ctrl-C flushes and unmounts; a second Ctrl-C stops waiting.", false,
			func() command { return &upCommand{} }},
		{"demo", "", "show the whole job in a throw-away home",
			"Makes an identity, logs in, mounts, writes files with ordinary programs, shows what lies in IPFS, wipes the cache and the journal, mounts again and compares. Ends with 0 only if all of it held, and leaves nothing behind.", false,
			func() command { return &demoCommand{} }},
		{"init", "", "make an identity",
			"Makes a DID and its keystore and prints the DID. The recovery phrase of 24 words is shown once, on a terminal, and two words are asked back; without a terminal it is written to a new file with --phrase-out.", false,
			func() command { return &initCommand{} }},
		{"login", "", "open a session", "Asks for the passphrase, unlocks the keystore, answers a fresh challenge with this device's key, and keeps the session in a background process that `mount` asks for signatures.", false,
			func() command { return &loginCommand{} }},
		{"logout", "", "end the session", "Ends the session and wipes its keys. Refused (8) while a drive is mounted with it.", false,
			func() command { return &logoutCommand{} }},
		{"whoami", "", "tell who is logged in", "", false, func() command { return &whoamiCommand{} }},
		{"mount", "[MOUNTPOINT]", "mount the drive",
			"Mounts the drive of the logged-in identity at MOUNTPOINT, or where the configuration says. In the foreground until it is unmounted; with -d it returns when the drive is ready, with its true status.", false,
			func() command { return &mountCommand{} }},
		{"umount", "[MOUNTPOINT]", "unmount the drive", "Waits until the journal is synced; with --flush, until everything is committed in IPFS.", false,
			func() command { return &umountCommand{} }},
		{"status", "", "show where the drive stands", "", false, func() command { return &statusCommand{} }},
		{"sync", "[PATH]", "wait until all changes are committed", "Returns when everything written before is as durable as asked for. PATH names the drive if it is given; all of the drive is synced.", false,
			func() command { return &syncCommand{} }},
		{"info", "PATH", "show what lies in IPFS for a path", "", false, func() command { return &infoCommand{} }},
		{"id", idWords, "show and change the identity; resolve a DID", idHelp, false,
			func() command { return &idCommand{} }},
		{"keystore", "slot list | slot add | slot remove ID | passwd | check", "change what opens the keystore, or look for damage in it",
			"Each slot opens the same keys, by a passphrase of its own or by a key of 256 random bits; the last one stays.\n`keystore slot add --key-out -` prints such a key for a pipe, as into `systemd-creds encrypt --name=passphrase - passphrase.cred`: a key stands wherever a passphrase does.\n`keystore passwd` changes the passphrase.\nTo remove a slot does not help against somebody who has the passphrase or key and an old copy of the keystore; `ipfscloud recover` does.\n`keystore check` tells which part of the keystore is damaged (6).", false,
			func() command { return &keystoreCommand{} }},
		{"device", "add | approve FILE | list | revoke DEVICE | rekey | take-over", "let devices join the identity, and leave it",
			"`device add` on a new machine makes its keys and prints a request, a code and a QR code. `device approve` on a device of the identity reads the request, asks for the code, writes the new device into the DID document, wraps the vault's key for it, and prints an answer with a code of its own; `device add --answer` takes it. The answer is sealed to the new device; the request holds no secret.\n--read-only lets the device read: its answer holds the addresses of the Egress's nodes, and no password, so that it can fetch the drive and drop nothing; it learns of newer commits from a newer answer to the same request (`device approve` and `device add --answer` again), or, with --with-egress, by itself. --until lets it write until then, and change no devices; else it has all rights, as this one.\n`device revoke` takes a device out of the document and gives the vault a new key (`device rekey` does that alone): what it could read before, it may have kept; what it commits from then on, others refuse.\nOne device writes the drive at a time, the others mount it read-only: `device take-over` makes this device the one, and says what is known of the other one first. That one learns of it through Egress within half a minute or so, becomes read-only, and keeps what the drive does not have (`ipfscloud aside`).", false,
			func() command { return &deviceCommand{} }},
		{"recover", "", "take the identity and its drive back with the recovery phrase, on a machine that has neither",
			"Looks for the DID's log and the newest commit everywhere it can reach at the same time (the IPFS node of this home or --ipfs, Egress if `egress use` has named one, --log, --domain), believes what verifies, and says how new it is.\nThen the recovery key signs a new version of the DID document that lists this device alone, with a new recovery phrase, and the vault gets a new key. Lost devices can neither log in nor commit any more, once they or their peers see it; the old phrase is of no use. Whatever a lost device has written to the log does not stand in the way; if it has moved the DID to another domain, the DID moves back, unless --domain names that domain as yours. Of the services in the document, those of `id service add` stay. --min-sequence refuses a commit older than one that you know of (6).", false,
			func() command { return &recoverCommand{} }},
		{"destroy", "", "remove the identity, the keys and the embedded node from this machine",
			"What was stored in the embedded node is gone with it. What lies in other IPFS nodes stays there as ciphertext. Without the recovery phrase nobody can read it any more.", false,
			func() command { return &destroyCommand{} }},
		{"snapshot", "create [NAME] | list | remove NAME", "keep the drive as it is now, beside what it becomes",
			"`snapshot create` commits what was written and keeps that commit: its blocks stay in the node, its copies at Egress, until `snapshot remove`. Without NAME it is named by the time. `mount --snapshot NAME` mounts one, read-only, while the drive is not mounted; copy out of it what you want back. What a snapshot shares with the newest state takes no space twice. After a restore from Egress alone the snapshots are there too, named by their times: Egress is not told their names.", false,
			func() command { return &snapshotCommand{} }},
		{"aside", asideWords, "get back what this device wrote and another one's take-over left out", asideHelp, false,
			func() command { return &asideCommand{} }},
		{"pins", "", "show which copies there are, and what each peer reports", "", false,
			func() command { return &pinsCommand{} }},
		{"unpin", "CID", "give up the copies of an older commit", "", false,
			func() command { return &unpinCommand{} }},
		{"egress", "up | run | down | status | peers | use URL…|local|none | token | password | join | trust ID…", "keep copies on other nodes",
			"`egress up` starts nodes on this machine, each a Kubo and an IPFS Cluster peer, in the background; `egress run` does so in the foreground, for systemd; `egress down` stops them, and what they keep stays.\n`egress use` says where the drive keeps its copies from the next mount on: at the REST API of an IPFS Cluster (several URLs of one cluster are tried in turn), on the nodes of this machine (local), or nowhere (none). It asks first, and remembers nothing that does not answer or does not let this device in, unless you say --unchecked, as you would for one that is only away now.\n`egress password` gives the nodes of this machine a new password, after a device that knew the old one was lost: stop them first (8), start them again, and give the line that it prints to the other devices.\n`egress token` on one machine and `egress join` on another make one fleet of both; `egress trust` lets drives use the API of a node that joined.", false,
			func() command { return &egressCommand{} }},
		{"horizon", "", "open the page that shows whether your data is safe",
			"Opens the page of the mounted drive in a browser, with a code that works once; without a screen, prints the link.", false,
			func() command { return &horizonCommand{} }},
		{"config", "show | check [FILE]", "show the configuration in force, or check a file",
			"`config show` prints each key with its value and where that comes from: the environment goes before the file, the file before the default. Flags go before all of them.", false,
			func() command { return &configCommand{} }},
		{"debug", "cpu|heap|allocs|goroutine|mutex FILE", "write a profile of the daemon, for `go tool pprof`",
			"Tells what the program spends its time and memory on, and nothing of what it does it with.", false,
			func() command { return &debugCommand{} }},
		{"completion", "bash|zsh|fish", "print what makes a shell complete command lines",
			"Where packages put them, shells find them by themselves. Else: `source <(ipfscloud completion bash)` in ~/.bashrc, `ipfscloud completion zsh` into a file _ipfscloud in a directory of $fpath, `ipfscloud completion fish` into ~/.config/fish/completions/ipfscloud.fish.", false,
			func() command { return &completionCommand{} }},
		{"version", "", "print the version", "", false, func() command { return &versionCommand{} }},
		{"agent", "", "hold a session (started by login)", "", true, func() command { return &agentCommand{} }},
		{"man", "DIR", "write the manual pages", "", true, func() command { return &manCommand{} }},
	}
}

// Run runs the program and returns its exit code. args[0] is the program's name:
// "mount.ipfscloud" makes it a mount helper, as mount(8) calls it.
func Run(args []string) int {
	e := &env{in: os.Stdin, out: newOutput(os.Stdout), err: newOutput(os.Stderr)}
	// Libraries log too.
	log.SetOutput(e.err)
	daemon.LogLibraries(e.err)
	if err := auth.HardenProcess(); err != nil {
		fmt.Fprintln(e.err, "ipfscloud: secrets cannot be kept out of core dumps:", err)
		return ExitFailure
	}
	if filepath.Base(args[0]) == "mount.ipfscloud" {
		var h helper
		err := h.parse(args[1:])
		if err == nil {
			err = h.run(context.Background(), e)
		}
		return e.finish("mount.ipfscloud", err)
	}
	return e.main(args[1:])
}

func (e *env) main(args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		return e.help(args)
	}
	if name, rest, ok := driveFlag(args); ok {
		if err := os.Setenv(daemon.DriveEnv, name); err != nil || len(rest) == 0 {
			return e.finish("ipfscloud", fmt.Errorf("%w: --drive NAME COMMAND …", errUsage))
		}
		args = rest
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, c := range entries() {
		if c.name == args[0] {
			return e.finish("ipfscloud "+c.name, e.execute(&c, args[1:]))
		}
	}
	return e.finish("ipfscloud", fmt.Errorf("%w: there is no command %q; see `ipfscloud help`", errUsage, args[0]))
}

// driveFlag takes --drive NAME from before the command.
func driveFlag(args []string) (name string, rest []string, ok bool) {
	switch name, ok := strings.CutPrefix(args[0], "--drive="); {
	case ok:
		return name, args[1:], true
	case args[0] == "--drive" && len(args) > 1:
		return args[1], args[2:], true
	case args[0] == "--drive":
		return "", nil, true
	}
	return "", args, false
}

func (e *env) execute(c *entry, args []string) error {
	var err error
	if e.home, err = daemon.FindHome(); err != nil {
		return err
	}
	cmd := c.make()
	rest, err := parseCommand(cmd, c.name, args)
	if errors.Is(err, flag.ErrHelp) {
		c.usage(e.out)
		return nil
	}
	if err == nil {
		err = cmd.parse(rest)
	}
	if err != nil {
		if !errors.Is(err, errUsage) {
			err = fmt.Errorf("%w: %w", errUsage, err)
		}
		return fmt.Errorf("%w; see `ipfscloud %s --help`", err, c.name)
	}
	if !homeless(c.name) {
		if err := e.home.Check(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return cmd.run(ctx, e)
}

// homeless tells whether a command uses nothing of the home it is started with: then it does
// not matter whose that is.
func homeless(name string) bool {
	return slices.Contains([]string{"version", "demo", "completion", "man"}, name)
}

func parseCommand(cmd command, name string, args []string) (rest []string, err error) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	cmd.flags(set)
	return parseFlags(set, args)
}

// parseFlags lets flags stand behind arguments too: "mount DIR -d".
func parseFlags(set *flag.FlagSet, args []string) (rest []string, err error) {
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		left := set.Args()
		if len(left) == 0 {
			break
		}
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	return rest, nil
}

// finish prints one line about a failure and returns the exit code.
func (e *env) finish(who string, err error) int {
	code, _ := exitCode(err)
	if err != nil {
		e.err.Printf("%s: %s\n", who, explain(err))
	}
	return code
}

func (e *env) help(args []string) int {
	if len(args) > 1 {
		for _, c := range entries() {
			if c.name == args[1] {
				c.usage(e.out)
				return ExitOK
			}
		}
	}
	fmt.Fprintf(e.out, "ipfscloud %s: your files as a drive, encrypted on this machine, stored in IPFS\n\n", Version)
	for _, c := range entries() {
		if !c.hidden {
			fmt.Fprintf(e.out, "  %-8s %-28s %s\n", c.name, c.args, c.short)
		}
	}
	fmt.Fprintf(e.out, "\n`ipfscloud --drive NAME COMMAND` is about another drive than the first.\n`ipfscloud help COMMAND` tells more. Start with `ipfscloud up`.\n")
	if len(args) == 0 {
		return ExitUsage
	}
	return ExitOK
}

func (c *entry) usage(w io.Writer) {
	fmt.Fprintf(w, "usage: ipfscloud %s %s\n\n%s\n", c.name, c.args, sentence(c.short))
	if c.long != "" {
		for _, paragraph := range strings.Split(c.long, "\n") {
			if paragraph != "" {
				fmt.Fprintf(w, "\n%s\n", wrap(paragraph, 0))
			}
		}
	}
	options := c.options()
	if len(options) > 0 {
		fmt.Fprintln(w)
	}
	for _, o := range options {
		fmt.Fprintf(w, "  %-22s %s\n", o.name(), wrap(o.text, 25))
	}
}

const lineWidth = 90 // of help, in letters

// wrap breaks a text into lines, and indents all but the first.
func wrap(text string, indent int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > lineWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// option is a flag as people see it.
type option struct {
	dash  string // "--ipfs"
	value string // what stands for its value, "URL"; "" of one without
	text  string
}

func (o *option) name() string { return strings.TrimSpace(o.dash + " " + o.value) }

// options are the flags of a command, without those that it uses among its own processes.
func (c *entry) options() []option {
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.make().flags(set)
	var list []option
	set.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Usage, "internal:") {
			return
		}
		value, text := flag.UnquoteUsage(f)
		dash := "--"
		if len(f.Name) == 1 {
			dash = "-"
		}
		list = append(list, option{dash + f.Name, value, text})
	})
	return list
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

// stopSignals asks for the signals that end a drive. The first flushes and unmounts, a
// second one stops waiting. SIGHUP is one of them, the end of a terminal, unless systemd
// started this process: then it is no terminal's, and reload has it.
func stopSignals() (stop, reload <-chan os.Signal, end func()) {
	c, r := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	if os.Getenv("NOTIFY_SOCKET") != "" {
		signal.Notify(r, syscall.SIGHUP)
	} else {
		signal.Notify(c, syscall.SIGHUP)
	}
	return c, r, func() { signal.Stop(c); signal.Stop(r) }
}

// noArgs is the parse of a command without arguments.
func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, args[0])
	}
	return nil
}
