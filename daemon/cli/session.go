package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
)

// loginCommand opens a session that a background process keeps.
type loginCommand struct{ pass passSource }

func (c *loginCommand) flags(f *flag.FlagSet)     { c.pass.flags(f) }
func (c *loginCommand) parse(args []string) error { return noArgs(args) }

const loginWait = 2 * time.Minute

func (c *loginCommand) run(ctx context.Context, e *env) error {
	id, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	if a, err := auth.Dial(ctx, e.home.AgentSocket()); err == nil {
		if a.DID() != id.DID { // the keystore was exchanged under a session
			return fmt.Errorf("a session of %s is open; end it with `ipfscloud logout`: %w", a.DID(), auth.ErrBusy)
		}
		fmt.Fprintln(e.out, "already logged in as", a.DID())
		return nil
	} else if !errors.Is(err, auth.ErrNoSession) {
		return err
	}
	pass, err := c.pass.get(e, "Passphrase", false)
	if err != nil {
		return err
	}
	defer clear(pass)
	if err := e.found(ctx, pass); err != nil {
		return err
	}
	a, err := background(ctx, task{args: []string{"agent", "--passfd", "4"}, secret: pass, wait: loginWait})
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, "logged in as", a.DID)
	return nil
}

// agentCommand is the background process that holds a session.
type agentCommand struct{ pass passSource }

func (c *agentCommand) flags(f *flag.FlagSet)     { c.pass.flags(f) }
func (c *agentCommand) parse(args []string) error { return noArgs(args) }

func (c *agentCommand) run(ctx context.Context, e *env) error {
	ready := inherited(readyFD)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s, agent, err := c.open(ctx, e, func() bool { return abandoned(ready) })
	if err != nil {
		return errors.Join(err, tell(ready, failed(err)))
	}
	if err := tell(ready, answer{DID: s.DID()}); err != nil {
		stop() // so that Serve only takes away what Listen made
		return errors.Join(err, agent.Serve(ctx))
	}
	return agent.Serve(ctx)
}

func (c *agentCommand) open(ctx context.Context, e *env, abandoned func() bool) (*auth.Session, *auth.Agent, error) {
	pass, err := c.pass.get(e, "", false)
	if err != nil {
		return nil, nil, err
	}
	defer clear(pass)
	s, err := auth.Login(ctx, e.home.Keystore, pass)
	if err != nil {
		return nil, nil, err
	}
	if abandoned() {
		return nil, nil, errors.Join(errAbandoned, s.Close())
	}
	a, err := auth.Listen(e.home.AgentSocket(), s) // owns the session from here on
	return s, a, err
}

// session returns the open session. If there is none, it logs in with the passphrase that
// pass gets, and serves the session from this process: the other commands see it, and
// nobody can log out while this process holds it. end ends what was begun here.
func (e *env) session(ctx context.Context, pass func() ([]byte, error)) (c *auth.Client, end func(), err error) {
	c, err = auth.Dial(ctx, e.home.AgentSocket())
	if !errors.Is(err, auth.ErrNoSession) {
		return c, func() {}, err
	}
	p, err := pass()
	if err != nil {
		return nil, nil, err
	}
	defer clear(p)
	if err := e.found(ctx, p); err != nil {
		return nil, nil, err
	}
	s, err := auth.Login(ctx, e.home.Keystore, p)
	if err != nil {
		return nil, nil, err
	}
	agent, err := auth.Listen(e.home.AgentSocket(), s)
	if err != nil {
		return nil, nil, err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := agent.Serve(serving); err != nil {
			e.err.Println("the session ended:", err)
		}
	}()
	end = func() { cancel(); <-done }
	if c, err = auth.Dial(ctx, e.home.AgentSocket()); err != nil {
		end()
		return nil, nil, err
	}
	return c, end, nil
}

// logoutCommand ends the session.
type logoutCommand struct{}

func (c *logoutCommand) flags(*flag.FlagSet)       {}
func (c *logoutCommand) parse(args []string) error { return noArgs(args) }

func (c *logoutCommand) run(ctx context.Context, e *env) error {
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	if errors.Is(err, auth.ErrNoSession) {
		fmt.Fprintln(e.out, "nobody is logged in")
		return nil
	}
	if err != nil {
		return err
	}
	if err := a.Logout(ctx); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "logged out")
	return nil
}

// whoamiCommand tells who is logged in.
type whoamiCommand struct{ json bool }

func (c *whoamiCommand) flags(f *flag.FlagSet)     { f.BoolVar(&c.json, "json", false, "print JSON") }
func (c *whoamiCommand) parse(args []string) error { return noArgs(args) }

func (c *whoamiCommand) run(ctx context.Context, e *env) error {
	a, err := auth.Dial(ctx, e.home.AgentSocket())
	if err != nil {
		return err
	}
	w, err := a.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(w)
	}
	fmt.Fprintln(e.out, w.DID)
	return nil
}
