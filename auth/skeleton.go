package auth

import (
	"context"
	"errors"
)

var errUnfinished = errors.New("not finished yet")

// Agent serves a session to processes of the same user on a unix socket.
type Agent struct{}

// Listen takes the socket at path (0600, in a directory of mode 0700 that is made where
// missing). A socket that a killed agent left is replaced; a living agent gives ErrBusy.
// The agent owns the session from then on.
func Listen(path string, s *Session) (*Agent, error) { return nil, errUnfinished }

// Serve answers until ctx ends or somebody logs out, then closes the session and removes
// the socket. It returns nil after a logout and after the end of ctx.
func (a *Agent) Serve(ctx context.Context) error { return errUnfinished }

// ServeAgent is Listen and Serve.
func ServeAgent(ctx context.Context, path string, s *Session) error { return errUnfinished }

// Client asks an agent. It has the methods of fs.Identity. Each call dials anew and has
// the deadline of its ctx, or 30 seconds. ErrNoSession when no agent answers.
type Client struct{}

// Dial finds the agent at path and asks it who is logged in.
func Dial(ctx context.Context, path string) (*Client, error) { return nil, errUnfinished }

// DID, Device, Sign, Verify, OpenWrapped, Recipients and Log are fs.Identity.
func (c *Client) DID() string    { return "" }
func (c *Client) Device() string { return "" }
func (c *Client) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (c *Client) Verify(ctx context.Context, device string, msg, sig []byte) error {
	return errUnfinished
}
func (c *Client) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (c *Client) Recipients(ctx context.Context) ([][]byte, error) { return nil, errUnfinished }
func (c *Client) Log(ctx context.Context) (log []byte, version string, err error) {
	return nil, "", errUnfinished
}

// WhoAmI describes the agent's session.
func (c *Client) WhoAmI(ctx context.Context) (WhoAmI, error) { return WhoAmI{}, errUnfinished }

// Hold keeps the session from being logged out until Release, or until this process
// ends. who is shown to a person who tries, such as "mount /home/u/IpfsCloud".
func (c *Client) Hold(ctx context.Context, who string) (*Hold, error) { return nil, errUnfinished }

// Logout ends the session and its agent. ErrHeld while somebody holds it.
func (c *Client) Logout(ctx context.Context) error { return errUnfinished }

// Hold is a claim on a session.
type Hold struct{}

// Release gives the claim back.
func (h *Hold) Release() error { return errUnfinished }

// Lost is closed when the agent is gone or Release was called.
func (h *Hold) Lost() <-chan struct{} { return nil }
