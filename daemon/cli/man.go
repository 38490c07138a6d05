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
	pages := map[string][]byte{"ipfscloud.1": manMain()}
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

func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	return strings.ReplaceAll(s, "-", `\-`)
}

func manMain() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH IPFSCLOUD 1 \"\" \"ipfscloud %s\"\n.SH NAME\nipfscloud \\- your files as a drive, encrypted here, stored in IPFS\n.SH SYNOPSIS\n.B ipfscloud\n.I COMMAND\n[ARGUMENTS]\n.SH COMMANDS\n", Version)
	for _, e := range entries() {
		if !e.hidden {
			fmt.Fprintf(&b, ".TP\n.B %s %s\n%s\n", e.name, roff(e.args), roff(sentence(e.short)))
		}
	}
	fmt.Fprint(&b, ".SH EXIT STATUS\n")
	for _, l := range exitTexts {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", l.code, roff(l.text))
	}
	fmt.Fprintf(&b, ".SH ENVIRONMENT\n.TP\n.B IPFSCLOUD_HOME\nA directory that holds all state. Else the XDG base directories do.\n")
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
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n%s\n", roff(sentence(e.short)), roff(e.long))
	set := flag.NewFlagSet(e.name, flag.ContinueOnError)
	e.make().flags(set)
	first := true
	set.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Usage, "internal:") {
			return
		}
		if first {
			fmt.Fprint(&b, ".SH OPTIONS\n")
			first = false
		}
		name, usage := flag.UnquoteUsage(f)
		dash := "--"
		if len(f.Name) == 1 {
			dash = "-"
		}
		fmt.Fprintf(&b, ".TP\n.B %s%s \\fI%s\\fR\n%s\n", roff(dash), roff(f.Name), name, roff(usage))
	})
	fmt.Fprint(&b, ".SH SEE ALSO\n.BR ipfscloud (1)\n")
	return b.Bytes()
}
