package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// ErrNotRunning: no daemon answers for this home.
var ErrNotRunning = errors.New("the drive is not mounted")

// Client speaks to the running daemon of a home.
type Client struct{ http *http.Client }

// Connect finds the daemon of a home; ErrNotRunning if there is none.
func Connect(ctx context.Context, h Home) (*Client, error) {
	path := h.controlSocket()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	c, err := dial(ctx, "", "")
	if err != nil {
		return nil, ErrNotRunning
	}
	c.Close()
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

func (c *Client) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, nil)
	if err != nil {
		return err
	}
	return c.do(req, out)
}

func (c *Client) do(req *http.Request, out any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx := req.Context(); ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("asking the daemon: %w: %w", fs.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	return decode(resp, out)
}

// decode reads an answer of the control socket.
func decode(resp *http.Response, out any) error {
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var e wireError
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return fmt.Errorf("the daemon answers %s", resp.Status)
	}
	for _, k := range kinds {
		if k.name == e.Kind {
			return remoteError{e.Error, k.err}
		}
	}
	return remoteError{e.Error, nil}
}

// remoteError is an error of the daemon: its text, and its meaning here.
type remoteError struct {
	text    string
	meaning error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.meaning }

// Status asks where the drive stands.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.call(ctx, "GET", "/status", &s)
	return s, err
}

// Sync waits until all changes have a durability.
func (c *Client) Sync(ctx context.Context, durability string) error {
	return c.call(ctx, "POST", "/sync?durability="+url.QueryEscape(durability), &struct{}{})
}

// Rekey makes a commit whose keyring is for the devices that the DID document lists now;
// with a new epoch, under a new key.
func (c *Client) Rekey(ctx context.Context, newEpoch bool) (h fs.HeadInfo, err error) {
	path := "/rekey"
	if newEpoch {
		path += "?epoch=new"
	}
	err = c.call(ctx, "POST", path, &h)
	return h, err
}

// Publish publishes the identity's log under its IPNS name, and lets the daemon renew it.
func (c *Client) Publish(ctx context.Context) (p *Publication, err error) {
	err = c.call(ctx, "POST", "/publish", &p)
	return p, err
}

// Pins lists what Egress keeps of the drive, or is to keep.
func (c *Client) Pins(ctx context.Context) (p []Pin, err error) {
	err = c.call(ctx, "GET", "/pins", &p)
	return p, err
}

// MakeSnapshot retains the drive as it is now; an empty name is the time.
func (c *Client) MakeSnapshot(ctx context.Context, name string) (x Snapshot, err error) {
	err = c.call(ctx, "POST", "/snapshots?name="+url.QueryEscape(name), &x)
	return x, err
}

// Snapshots lists what is retained.
func (c *Client) Snapshots(ctx context.Context) (all []Snapshot, err error) {
	err = c.call(ctx, "GET", "/snapshots", &all)
	return all, err
}

// RemoveSnapshot retains a snapshot no longer.
func (c *Client) RemoveSnapshot(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", "/snapshots?name="+url.QueryEscape(name), &struct{}{})
}

// RetryPin tries at once what failed.
func (c *Client) RetryPin(ctx context.Context, cid string) error {
	return c.call(ctx, "POST", "/pins/retry?cid="+url.QueryEscape(cid), &struct{}{})
}

// Unpin gives up the copies of an older commit.
func (c *Client) Unpin(ctx context.Context, cid string) error {
	return c.call(ctx, "POST", "/pins/unpin?cid="+url.QueryEscape(cid), &struct{}{})
}

// Info describes a path of the drive, relative to its top.
func (c *Client) Info(ctx context.Context, path string) (i PathInfo, err error) {
	err = c.call(ctx, "GET", "/info?path="+url.QueryEscape(path), &i)
	return i, err
}

// Unmount ends the drive; with flush, after its commit.
func (c *Client) Unmount(ctx context.Context, flush bool) error {
	return c.call(ctx, "POST", fmt.Sprintf("/unmount?flush=%t", flush), &struct{}{})
}

// Within returns path relative to the mountpoint of the drive, or fs.ErrNotFound.
func (s Status) Within(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	rel, err := filepath.Rel(s.Mountpoint, abs)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%s is not on the drive at %s: %w", path, s.Mountpoint, fs.ErrNotFound)
	}
	return rel, nil
}

// AwaitEnd returns when no daemon has the drive of a home any more: a new one may start.
func AwaitEnd(ctx context.Context, h Home) error {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := takeLock(h.lockFile())
		if err == nil {
			return f.Close()
		}
		if !errors.Is(err, fs.ErrBusy) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not end: %w", ctx.Err())
		}
	}
}

// MakeMountpoint makes the directory of a mountpoint where it is missing, and leaves alone
// what is mounted there.
func MakeMountpoint(path string) error { return fuse.MakeMountpoint(path) }

// RemoveDead takes away the mount that a daemon left which died, and tells whether there
// was one.
func RemoveDead(mountpoint string) (bool, error) { return fuse.RemoveDead(mountpoint) }
