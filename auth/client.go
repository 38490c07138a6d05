package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Client asks an agent. It has the methods of fs.Identity. Each call dials anew and has
// the deadline of its ctx, or 30 seconds. ErrNoSession when no agent answers, or when
// the agent now serves another identity or device than at Dial.
type Client struct {
	path        string
	did, device string
}

// Dial finds the agent at path and asks it who is logged in. ErrNoSession.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return nil, err
	}
	c.did, c.device = who.DID, who.Device
	return c, nil
}

// connect dials and arranges that the connection obeys ctx until stop is called; stop
// tells whether ctx has left the connection alone.
func (c *Client) connect(ctx context.Context) (conn net.Conn, stop func() bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	conn, err = dialSocket(ctx, c.path)
	if err != nil {
		defer cancel()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, nil, fmt.Errorf("no agent at %s: %w", c.path, ErrNoSession)
		}
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("asking the agent: %w", ctx.Err())
		}
		return nil, nil, fmt.Errorf("asking the agent: %w", err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() bool { defer cancel(); return unhook() }, nil
}

// exchange sends a request and reads its response.
func (c *Client) exchange(ctx context.Context, conn net.Conn, req *request) (*response, error) {
	var resp response
	err := writeMessage(conn, req)
	if err == nil {
		err = readMessage(conn, &resp)
	}
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("asking the agent: %w", ctx.Err())
		case errors.Is(err, ErrInvalid):
			return nil, err
		case isTimeout(err):
			return nil, fmt.Errorf("the agent did not answer within %v: %w", requestDeadline, ErrUnavailable)
		}
		return nil, fmt.Errorf("the agent went away (%v): %w", err, ErrNoSession)
	}
	if err := resp.err(); err != nil {
		return nil, err
	}
	if w := resp.WhoAmI; w != nil && c.did != "" && (w.DID != c.did || w.Device != c.device) {
		return nil, fmt.Errorf("the agent now serves %s: %w", w.DID, ErrNoSession)
	}
	return &resp, nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func (c *Client) call(ctx context.Context, req *request) (*response, error) {
	conn, stop, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer stop()
	req.DID = c.did
	return c.exchange(ctx, conn, req)
}

// DID of the identity.
func (c *Client) DID() string { return c.did }

// Device is the short name of this device.
func (c *Client) Device() string { return c.device }

// Sign is Session.Sign.
func (c *Client) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opSign, Data: msg})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

// Verify is Session.Verify.
func (c *Client) Verify(ctx context.Context, device string, msg, sig []byte) error {
	_, err := c.call(ctx, &request{Op: opVerify, Device: device, Data: msg, Extra: sig})
	return err
}

// OpenWrapped is Session.OpenWrapped.
func (c *Client) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opOpen, Data: sealed, Extra: info})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

// Recipients is Session.Recipients.
func (c *Client) Recipients(ctx context.Context) ([][]byte, error) {
	resp, err := c.call(ctx, &request{Op: opRecipients})
	if err != nil {
		return nil, err
	}
	return resp.List, nil
}

// Log is Session.Log.
func (c *Client) Log(ctx context.Context) (log []byte, version string, err error) {
	resp, err := c.call(ctx, &request{Op: opLog})
	if err != nil {
		return nil, "", err
	}
	return resp.Data, resp.Version, nil
}

// TakeLog is Session.TakeLog.
func (c *Client) TakeLog(ctx context.Context, log []byte) error {
	_, err := c.call(ctx, &request{Op: opTakeLog, Data: log})
	return err
}

// Notes is Session.Notes.
func (c *Client) Notes(ctx context.Context) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opNotes})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

// TakeNotes is Session.TakeNotes.
func (c *Client) TakeNotes(ctx context.Context, notes []byte) error {
	_, err := c.call(ctx, &request{Op: opTakeNotes, Data: notes})
	return err
}

// WhoAmI describes the agent's session.
func (c *Client) WhoAmI(ctx context.Context) (WhoAmI, error) {
	resp, err := c.call(ctx, &request{Op: opWhoAmI})
	if err != nil {
		return WhoAmI{}, err
	}
	if resp.WhoAmI == nil {
		return WhoAmI{}, fmt.Errorf("the agent does not say who is logged in: %w", ErrInvalid)
	}
	return *resp.WhoAmI, nil
}

// Logout ends the session and its agent. ErrHeld while somebody holds it. After it the
// socket is gone and the keys are wiped.
func (c *Client) Logout(ctx context.Context) error {
	conn, stop, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer stop()
	if _, err := c.exchange(ctx, conn, &request{Op: opLogout, DID: c.did}); err != nil {
		return err
	}
	// The agent closes this connection last of all.
	if err := readMessage(conn, &response{}); isTimeout(err) {
		return fmt.Errorf("the agent did not end: %w", ErrUnavailable)
	}
	return nil
}

// Hold is a claim on a session: while it lasts nobody can log out.
type Hold struct {
	conn    net.Conn
	lost    chan struct{} // closed by watch
	release sync.Once
}

// Hold keeps the session from being logged out until Release, or until this process
// ends. who is shown to a person who tries, such as "mount /home/u/IpfsCloud".
func (c *Client) Hold(ctx context.Context, who string) (*Hold, error) {
	conn, stop, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = c.exchange(ctx, conn, &request{Op: opHold, DID: c.did, Who: who})
	if alone := stop(); err == nil && !alone {
		err = fmt.Errorf("asking the agent: %w", context.DeadlineExceeded)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	h := &Hold{conn: conn, lost: make(chan struct{})}
	go h.watch()
	return h, nil
}

// watch ends with the connection: by Release here, or by the end of the agent there.
func (h *Hold) watch() {
	defer close(h.lost)
	var b [1]byte
	_, _ = h.conn.Read(b[:]) // the agent never writes to a holder
}

// Lost is closed when the agent is gone or Release was called.
func (h *Hold) Lost() <-chan struct{} { return h.lost }

// Release gives the claim back. Releasing twice is fine.
func (h *Hold) Release() error {
	var err error
	h.release.Do(func() {
		err = h.conn.Close()
		<-h.lost
	})
	return err
}
