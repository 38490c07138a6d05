package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// manCommand writes the manual pages, from the same descriptions as the help.
type manCommand struct{ dir string }

func (c *manCommand) flags(*flag.FlagSet) {}
func (c *manCommand) parse(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: want a directory", errUsage)
	}
	c.dir = args[0]
	return nil
}

func (c *manCommand) run(context.Context, *env) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	pages := map[string][]byte{"ipfscloud.1": manMain(), "mount.ipfscloud.8": manHelper()}
	for _, e := range entries() {
		if !e.hidden {
			pages["ipfscloud-"+e.name+".1"] = manPage(&e)
		}
	}
	for name, b := range pages {
		if err := os.WriteFile(filepath.Join(c.dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// roff writes text so that roff takes none of it for a request or an escape.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`).Replace(s)
}

const mainText = "Mounts cloud storage as a drive: a tree in IPFS, encrypted on this machine before it gets there. " +
	"An identity (a DID) takes the place of an account; 24 words bring it and its drive back on any machine. " +
	"Copies on other machines are kept by an IPFS Cluster (Egress), and counted. Start with `ipfscloud up`."

const driveText = "The command is about the drive NAME, which has an identity, a vault, a session and a mount of its own. " +
	"Its state is in drives/NAME beside the keystore, its configuration in [drive.NAME] of the same file. Without it, the first drive is meant."

func manMain() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH IPFSCLOUD 1 \"\" \"ipfscloud %s\"\n.SH NAME\nipfscloud \\- your files as a drive, encrypted here, stored in IPFS\n.SH SYNOPSIS\n.B ipfscloud\n[\\-\\-drive NAME]\n.I COMMAND\n[ARGUMENTS]\n.SH DESCRIPTION\n%s\n.SH COMMANDS\n", Version, roff(mainText))
	for _, e := range entries() {
		if !e.hidden {
			fmt.Fprintf(&b, ".TP\n.B %s %s\n%s\n", e.name, roff(e.args), roff(sentence(e.short)))
		}
	}
	fmt.Fprint(&b, ".SH OPTIONS\n.TP\n.B \\-\\-drive NAME\n"+roff(driveText)+"\n.SH EXIT STATUS\n")
	for _, l := range exitTexts {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", l.code, roff(l.text))
	}
	fmt.Fprint(&b, ".SH ENVIRONMENT\n.TP\n.B IPFSCLOUD_HOME\nA directory that holds all state: config.toml, keystore, state, journal, staging, cache, ipfs, run. "+
		"Else the XDG base directories do, and for a service those that systemd gives it.\n.TP\n.B IPFSCLOUD_DRIVE\n"+roff("As --drive.")+"\n.TP\n.B CREDENTIALS_DIRECTORY\nThe passphrase is read from the credential \n.I passphrase\nif systemd has put one there.\n")
	fmt.Fprint(&b, ".SH FILES\n")
	for _, f := range manFiles {
		fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", roff(f.name), roff(f.text))
	}
	fmt.Fprint(&b, ".SH SEE ALSO\n.BR mount.ipfscloud (8)")
	for _, e := range entries() {
		if !e.hidden {
			fmt.Fprintf(&b, ",\n.BR %s (1)", roff("ipfscloud-"+e.name))
		}
	}
	fmt.Fprintln(&b)
	return b.Bytes()
}

var manFiles = []struct{ name, text string }{
	{"~/.config/ipfscloud/config.toml, /etc/ipfscloud/config.toml", "The configuration, of a user and of the machine's drive. /usr/share/doc/ipfscloud/config.toml has every key with its default and what it means."},
	{"~/.local/state/ipfscloud, /var/lib/ipfscloud", "Keystore, journal, the node's repo, and daemon.log. What is not committed and copied yet is nowhere else."},
	{"~/.cache/ipfscloud, /var/cache/ipfscloud", "Blocks of a node that is not the built-in one. May be removed while the drive is not mounted."},
}

func manHelper() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH MOUNT.IPFSCLOUD 8 \"\" \"ipfscloud %s\"\n.SH NAME\nmount.ipfscloud \\- mount a drive from fstab or with mount\n.SH SYNOPSIS\n%s\n", Version, roff(helperUsage))
	fmt.Fprint(&b, ".SH DESCRIPTION\n"+roff("What mount(8) runs for the type ipfscloud: as `ipfscloud mount -d`. SOURCE is the directory that holds all state, as IPFSCLOUD_HOME. "+
		"If it is no absolute path it is a mere name: then root mounts the drive of the machine (/etc/ipfscloud, /var/lib/ipfscloud, /var/cache/ipfscloud), and a user his own. "+
		"The session must be open (`ipfscloud login`), or passfile be given. It returns when the drive is mounted, or with the reason why not and an exit status of ipfscloud(1).")+"\n.SH OPTIONS\n")
	fmt.Fprint(&b, ".TP\n.B passfile=FILE\nRead the passphrase from the first line of FILE.\n.TP\n.B durability=LEVEL, ipfs=URL\n"+roff("As --durability and --ipfs of ipfscloud-mount(1).")+
		"\n.TP\n.B drive=NAME\n"+roff("As --drive of ipfscloud(1).")+"\n.TP\n.B config=FILE, cache_dir=DIR\n"+roff("As --config and --cache-dir of ipfscloud-mount(1).")+
		"\n.TP\n.B setuid=USER\n"+roff("Mount as USER, with no right of root's: for a drive whose home belongs to that user, which root refuses to run.")+
		"\n.TP\n.B _netdev, nofail, noauto, user, x\\-systemd.automount, \\[u2026]\n"+roff("What fstab says to mount(8) and systemd is ignored.")+
		"\n.PP\nAll others are those of\n.BR ipfscloud\\-mount (1).\n.SH SEE ALSO\n.BR ipfscloud (1),\n.BR mount (8)\n")
	return b.Bytes()
}

var exitTexts = []struct {
	code int
	text string
}{
	{ExitOK, "All is done."},
	{ExitFailure, "Something failed that has no code of its own."},
	{ExitUsage, "The command line or the configuration is wrong."},
	{ExitNotFound, "There is no such identity, drive, path or mountpoint."},
	{ExitRefused, "Nobody is logged in, or the login was refused."},
	{ExitUnavailable, "The storage backend did not answer; try again."},
	{ExitIntegrity, "Something stored does not verify."},
	{ExitMount, "The drive cannot be mounted there."},
	{ExitBusy, "Something is in use or locked by another process."},
}

func manPage(e *entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH IPFSCLOUD-%s 1 \"\" \"ipfscloud %s\"\n.SH NAME\nipfscloud\\-%s \\- %s\n.SH SYNOPSIS\n.B ipfscloud %s\n%s\n",
		strings.ToUpper(e.name), Version, e.name, roff(e.short), e.name, roff(e.args))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(sentence(e.short)))
	for _, paragraph := range strings.Split(e.long, "\n") {
		if paragraph != "" {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(paragraph))
		}
	}
	if options := e.options(); len(options) > 0 {
		fmt.Fprint(&b, ".SH OPTIONS\n")
		for _, o := range options {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(o.name()), roff(o.text))
		}
	}
	fmt.Fprint(&b, ".SH SEE ALSO\n.BR ipfscloud (1)\n")
	return b.Bytes()
}
