package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// idClaim are the words of `id` about claims, and about the domains linked with the DID.
type idClaim struct {
	noun, verb string
	subject    string // of issue
	arg        string // a file, a handle, or an origin
	claims     map[string]any
	types      string
	days       uint
	file, did  string
}

func (c *idClaim) flags(f *flag.FlagSet) {
	f.StringVar(&c.types, "claim-type", "", "claim self, issue: `TYPE` of the credential, such as MembershipCredential")
	f.UintVar(&c.days, "days", 365, "claim self, issue; domain link: valid for `N` days")
	f.StringVar(&c.file, "file", "", "domain verify: the did-configuration.json in `FILE`, without asking the domain")
	f.StringVar(&c.did, "did", "", "domain verify: the `DID` that must be linked; else those that are, are told")
}

func (c *idClaim) takes(word string) bool { return word == "claim" || word == "domain" }

func (c *idClaim) parse(args []string) error {
	wrong := fmt.Errorf("%w: want claim self NAME=VALUE…, claim issue DID NAME=VALUE…, claim add|verify FILE, claim list, claim remove HANDLE, domain link ORIGIN or domain verify ORIGIN", errUsage)
	if len(args) < 2 {
		return wrong
	}
	c.noun, c.verb = args[0], args[1]
	rest := args[2:]
	switch c.noun + " " + c.verb {
	case "claim list":
		return noArgs(rest)
	case "claim add", "claim verify", "claim remove", "domain link", "domain verify":
		if len(rest) != 1 {
			return wrong
		}
		c.arg = rest[0]
		return nil
	case "claim issue":
		if len(rest) < 2 {
			return wrong
		}
		c.subject, rest = rest[0], rest[1:]
	case "claim self":
		if len(rest) < 1 {
			return wrong
		}
	default:
		return wrong
	}
	c.claims = map[string]any{}
	for _, a := range rest {
		name, value, ok := strings.Cut(a, "=")
		if _, twice := c.claims[name]; !ok || name == "" || name == "id" || twice {
			return fmt.Errorf("%w: %q is no NAME=VALUE of its own (id is the subject)", errUsage, a)
		}
		c.claims[name] = value
	}
	if c.days == 0 || c.days > 36500 {
		return fmt.Errorf("%w: --days is 1 to 36500", errUsage)
	}
	return nil
}

func (c *idClaim) run(ctx context.Context, e *env, logFile string, asJSON bool) error {
	all := &daemon.Claims{Home: e.home}
	if logFile != "" {
		b, err := readInput(e, logFile, maxDIDFile)
		if err != nil {
			return err
		}
		all.Log = b
	}
	what := c.noun + " " + c.verb
	if what != "claim verify" && what != "domain verify" {
		a, err := auth.Dial(ctx, e.home.AgentSocket())
		if err != nil {
			return err
		}
		all.Agent = a
	}
	switch what {
	case "claim self", "claim issue":
		return c.issue(ctx, e, all, asJSON)
	case "claim add", "claim verify":
		return c.check(ctx, e, all, asJSON)
	case "claim list":
		return c.list(ctx, e, all, asJSON)
	case "claim remove":
		return all.Remove(ctx, c.arg)
	case "domain link":
		b, err := all.Link(ctx, c.arg, time.Now().AddDate(0, 0, int(c.days)))
		if err != nil {
			return err
		}
		fmt.Fprintf(e.err, "Serve this as %s of that origin; everybody who looks sees that it is yours.\n", daemon.WhereLinked)
		_, err = e.out.Write(b)
		return err
	}
	return c.linked(ctx, e, all, asJSON)
}

// issue signs a claim, and keeps it if it is about the identity itself.
func (c *idClaim) issue(ctx context.Context, e *env, all *daemon.Claims, asJSON bool) error {
	s := daemon.ClaimSpec{Subject: c.subject, Claims: c.claims, Issued: time.Now(), Expires: time.Now().AddDate(0, 0, int(c.days))}
	if c.types != "" {
		s.Types = []string{c.types}
	}
	jwt, err := all.Issue(ctx, s)
	if err != nil {
		return err
	}
	if c.subject != "" { // for somebody else, who keeps it
		fmt.Fprintln(e.out, jwt)
		return nil
	}
	kept, err := all.Add(ctx, jwt)
	if err != nil {
		return err
	}
	return showClaim(e, kept, asJSON)
}

// check verifies a credential in a file, and keeps it if it is to be added.
func (c *idClaim) check(ctx context.Context, e *env, all *daemon.Claims, asJSON bool) error {
	b, err := readInput(e, c.arg, 1<<20)
	if err != nil {
		return err
	}
	if c.verb == "add" {
		kept, err := all.Add(ctx, string(b))
		if err != nil {
			return err
		}
		return showClaim(e, kept, asJSON)
	}
	got, err := all.Verify(ctx, string(b))
	if err != nil {
		return err
	}
	return showClaim(e, daemon.KeptClaim{Claim: got}, asJSON)
}

func (c *idClaim) list(ctx context.Context, e *env, all *daemon.Claims, asJSON bool) error {
	list, err := all.List(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		out := []map[string]any{}
		for _, k := range list {
			out = append(out, claimJSON(k))
		}
		return json.NewEncoder(e.out).Encode(out)
	}
	for _, k := range list {
		if err := showClaim(e, k, false); err != nil {
			return err
		}
	}
	return nil
}

func claimJSON(k daemon.KeptClaim) map[string]any {
	m := map[string]any{"holds": k.Err == nil, "claim": k.Claim}
	if k.Handle != "" {
		m["handle"], m["jwt"] = k.Handle, k.JWT
	}
	if k.Err != nil {
		m["reason"] = k.Err.Error()
	}
	return m
}

// showClaim prints a claim; what others wrote is quoted where it could play with a terminal.
func showClaim(e *env, k daemon.KeptClaim, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(e.out).Encode(claimJSON(k))
	}
	if k.Handle != "" {
		e.out.Printf("%s  ", k.Handle)
	}
	if k.Err != nil {
		e.out.Printf("does not hold: %v\n", k.Err)
		return nil
	}
	said := "by " + plain(k.Claim.Issuer)
	if k.Claim.SelfSigned() {
		said = "self-signed"
	}
	until := "without end"
	if k.Claim.Expires != nil {
		until = "until " + k.Claim.Expires.Local().Format("2006-01-02 15:04")
	}
	e.out.Printf("%s, %s\n", said, until)
	e.out.Printf("  about: %s\n", plain(k.Claim.Subject))
	if len(k.Claim.Types) > 0 {
		e.out.Printf("  type: %s\n", plain(strings.Join(k.Claim.Types, ", ")))
	}
	for _, name := range slices.Sorted(maps.Keys(k.Claim.Claims)) {
		e.out.Printf("  %s: %s\n", plain(name), plain(fmt.Sprint(k.Claim.Claims[name])))
	}
	if len(k.Claim.Unchecked) > 0 {
		e.out.Printf("  not checked: %s; its issuer may have withdrawn it\n", strings.Join(k.Claim.Unchecked, ", "))
	}
	return nil
}

// plain makes text of others fit for a line of a terminal.
func plain(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` {
		return q
	}
	return s
}

func (c *idClaim) linked(ctx context.Context, e *env, all *daemon.Claims, asJSON bool) error {
	var file []byte
	if c.file != "" {
		var err error
		if file, err = readInput(e, c.file, 4<<20); err != nil {
			return err
		}
	}
	links, err := all.Linked(ctx, c.arg, c.did, file)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(links)
	}
	for _, l := range links {
		e.out.Println(plain(l.Issuer))
	}
	return nil
}

// readInput reads a file of bounded size; - is standard input.
func readInput(e *env, path string, limit int64) ([]byte, error) {
	var r io.Reader = e.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", errUsage, path, limit)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}
