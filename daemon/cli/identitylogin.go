package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// idLogin answers the requests of sites and programs to log in.
type idLogin struct {
	request string // empty: those that wait at the control socket
	yesTo   string
	tell    bool
}

func (c *idLogin) flags(f *flag.FlagSet) {
	f.StringVar(&c.yesTo, "yes-to", "", "login: do not ask; say yes if it is `AUDIENCE` that asks, as https://example.com, and no to others")
	f.BoolVar(&c.tell, "tell", false, "login: with --yes-to, tell also the claims that are asked for")
}

func (c *idLogin) parse(args []string) error {
	if len(args) > 2 {
		return fmt.Errorf("%w: want login, or login REQUEST (in quotes: it has an & in it)", errUsage)
	}
	if len(args) == 2 {
		c.request = args[1]
	}
	if c.tell && c.yesTo == "" {
		return fmt.Errorf("%w: --tell is for --yes-to; else you are asked", errUsage)
	}
	return nil
}

func (c *idLogin) run(ctx context.Context, e *env, asJSON bool) error {
	if c.yesTo == "" && !e.terminal() {
		return fmt.Errorf("%w: there is no terminal to ask whether you want this: say --yes-to AUDIENCE", errUsage)
	}
	if c.request == "" {
		return c.waiting(ctx, e)
	}
	r, err := daemon.ParseLoginRequest(c.request)
	if err != nil {
		return err
	}
	l, err := logins(ctx, e)
	if err != nil {
		return err
	}
	text, err := c.answer(ctx, e, l, r)
	if err != nil {
		return err
	}
	if r.ResponseURI == "" { // whoever gave us the request takes the answer
		fmt.Fprintln(e.out, text)
		return nil
	}
	link, err := l.Send(ctx, r, text)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(map[string]string{"audience": r.Audience, "did": l.Agent.DID(), "link": link})
	}
	if link == "" {
		fmt.Fprintln(e.err, "You are logged in.")
		return nil
	}
	fmt.Fprintln(e.err, "Open this in the browser in which you began. It works once, within two minutes:")
	e.out.Println(link)
	return nil
}

func logins(ctx context.Context, e *env) (*daemon.Logins, error) {
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	if err != nil {
		return nil, err
	}
	return &daemon.Logins{Home: e.home, Agent: a}, nil
}

// answer asks the owner, and returns the answer.
func (c *idLogin) answer(ctx context.Context, e *env, l *daemon.Logins, r daemon.LoginRequest) (string, error) {
	claims, err := l.Asked(ctx, r)
	if err != nil {
		return "", err
	}
	if c.yesTo != "" {
		if c.yesTo != r.Audience {
			return "", fmt.Errorf("%s asks, and not %s: %w", r.Audience, plain(c.yesTo), daemon.ErrSaidNo)
		}
		if !c.tell {
			claims = nil
		}
		return l.Answer(ctx, r, claims)
	}
	who := r.Audience
	if strings.HasPrefix(who, "urn:") {
		who = "A program on this machine that calls itself " + who
	}
	e.err.Printf("%s asks who you are.\n", who)
	e.err.Printf("It will learn your DID, %s,\nand the DID's history, with the public keys of your devices.\n", l.Agent.DID())
	if len(r.Claims) > 0 {
		e.err.Printf("It would like to know: %s.\n", strings.Join(r.Claims, ", "))
	}
	if r.ResponseURI != "" {
		fmt.Fprintln(e.err, "If your browser's address bar shows another site, say no.")
	}
	if err := c.confirm(e, "Log in there?"); err != nil {
		return "", err
	}
	var tell []daemon.KeptClaim
	for _, k := range claims {
		e.err.Printf("You have a claim by %s, which says:\n", plain(k.Claim.Issuer))
		for _, name := range slices.Sorted(maps.Keys(k.Claim.Claims)) {
			e.err.Printf("  %s: %s\n", plain(name), plain(fmt.Sprint(k.Claim.Claims[name])))
		}
		if err := c.confirm(e, "Tell all of it?"); err == nil {
			tell = append(tell, k)
		} else if !errors.Is(err, daemon.ErrSaidNo) {
			return "", err
		}
	}
	return l.Answer(ctx, r, tell)
}

// confirm takes nothing but a yes for one.
func (c *idLogin) confirm(e *env, question string) error {
	said, err := e.ask(question + " [y/N] ")
	if err != nil {
		return err
	}
	if said = strings.ToLower(said); said != "y" && said != "yes" {
		return daemon.ErrSaidNo
	}
	return nil
}

// waiting answers what programs have asked over the control socket.
func (c *idLogin) waiting(ctx context.Context, e *env) error {
	d, err := daemon.Connect(ctx, e.home)
	if err != nil {
		return err
	}
	list, err := d.AskedLogins(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(e.err, "Nobody asks.")
		return nil
	}
	l, err := logins(ctx, e)
	if err != nil {
		return err
	}
	for _, a := range list {
		r, err := daemon.ParseLoginRequest(a.Request)
		if err != nil {
			return err
		}
		text, err := c.answer(ctx, e, l, r)
		if err != nil && !errors.Is(err, daemon.ErrSaidNo) {
			return err
		}
		if err := d.DecideLogin(ctx, a.ID, text); err != nil {
			return err
		}
		said := "yes"
		if text == "" {
			said = "no"
		}
		e.out.Printf("%s: %s\n", r.Audience, said)
	}
	return nil
}
