package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
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
	if _, err := auth.Inspect(e.home.Keystore); err != nil {
		return err
	}
	if a, err := auth.Dial(ctx, e.home.AgentSocket()); err == nil {
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
	did, err := startAgent(ctx, pass)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, "logged in as", did)
	return nil
}

// answer is what a background process tells the one that started it.
type answer struct {
	DID   string `json:"did,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"`
}

// startAgent runs the agent as a process of its own, gives it the passphrase through a
// pipe, and waits until it says that the session is open.
func startAgent(ctx context.Context, pass []byte) (string, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	a, err := background(ctx, []string{"agent", "--passfd", "4"}, loginWait, in, func() error {
		_, err := out.Write(append(bytes.Clone(pass), '\n'))
		return errors.Join(err, out.Close())
	})
	return a.DID, err
}

// background starts this program again, detached, and waits for its answer on
// descriptor 3. extra becomes its descriptor 4.
func background(ctx context.Context, args []string, wait time.Duration, extra *os.File, started func() error) (answer, error) {
	var a answer
	self, err := os.Executable()
	if err != nil {
		return a, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return a, err
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	if extra != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, extra)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if extra != nil {
		extra.Close()
	}
	if err != nil {
		return a, fmt.Errorf("starting the background process: %w", err)
	}
	if started != nil {
		if err := started(); err != nil {
			return a, fmt.Errorf("speaking to the background process: %w", err)
		}
	}
	// It lives on as a process of its own; but if it ends before its answer, it is reaped.
	go func() { _ = cmd.Wait() }()
	if err := r.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return a, err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	b, err := io.ReadAll(r)
	if err != nil {
		return a, fmt.Errorf("waiting for the background process: %w", err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, errors.New("the background process ended without an answer")
	}
	if a.Code != ExitOK {
		return a, childError{a.Error, a.Code}
	}
	return a, nil
}

// childError is a failure of a background process, which chose its exit code and words.
type childError struct {
	text string
	code int
}

func (e childError) Error() string { return e.text }

// tell sends the answer on descriptor 3 and closes it.
func tell(f *os.File, a answer) error {
	return errors.Join(json.NewEncoder(f).Encode(a), f.Close())
}

func failed(err error) answer {
	code, advice := exitCode(err)
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if advice != "" {
		text += " (" + advice + ")"
	}
	return answer{Error: text, Code: code}
}

// agentCommand is the background process that holds a session.
type agentCommand struct{ pass passSource }

func (c *agentCommand) flags(f *flag.FlagSet)     { c.pass.flags(f) }
func (c *agentCommand) parse(args []string) error { return noArgs(args) }

func (c *agentCommand) run(ctx context.Context, e *env) error {
	ready := os.NewFile(3, "ready")
	s, agent, err := c.open(ctx, e)
	if err != nil {
		return errors.Join(err, tell(ready, failed(err)))
	}
	if err := tell(ready, answer{DID: s.DID()}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return agent.Serve(ctx)
}

func (c *agentCommand) open(ctx context.Context, e *env) (*auth.Session, *auth.Agent, error) {
	pass, err := c.pass.get(e, "", false)
	if err != nil {
		return nil, nil, err
	}
	defer clear(pass)
	s, err := auth.Login(ctx, e.home.Keystore, pass)
	if err != nil {
		return nil, nil, err
	}
	a, err := auth.Listen(e.home.AgentSocket(), s)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, a, nil
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
