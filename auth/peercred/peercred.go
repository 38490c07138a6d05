// Package peercred tells which user of this machine is at the other end of a connection,
// by a unix socket or over loopback, and opens unix sockets that answer their owner alone.
//
// It is the only place of this module that listens on a unix socket or reads a peer's
// credentials: the agent, the control socket, the node's RPC and the fleet's supervisor
// had a check each, or none. Every layer may use it.
package peercred

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// SocketMode is the mode of the sockets that Listen makes.
const SocketMode = 0o600

// Trusted tells whether a user may give orders to this process: its own user and root.
func Trusted(uid uint32) bool { return uid == 0 || uint64(uid) == uint64(os.Geteuid()) }

// UID is the user who opened a connection to a unix socket, as the kernel recorded it at
// that moment.
func UID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer of a socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer of a socket: %w", err)
	}
	return cred.Uid, nil
}

// Listener is a unix socket of mode 0600. Accept returns connections of trusted users and
// closes all others unread: the mode alone does not protect a socket whose mode somebody
// changed, or that was handed on through a mount or a descriptor.
type Listener struct {
	*net.UnixListener
	path string
	once sync.Once
}

var _ net.Listener = (*Listener)(nil)

// Listen makes the socket, in place of one that is there: the caller holds a lock, so that
// one was left by a process that was killed. Nothing but a socket of this user's is replaced.
func Listen(path string) (*Listener, error) {
	l, err := safefile.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	return &Listener{UnixListener: l, path: path}, nil
}

// Addr is the path at which the socket is now.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Accept returns the next connection of a user who is let in.
func (l *Listener) Accept() (net.Conn, error) { return l.AcceptUnix() }

// AcceptUnix is Accept.
func (l *Listener) AcceptUnix() (*net.UnixConn, error) {
	for {
		c, err := l.UnixListener.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := UID(c); err == nil && Trusted(uid) {
			return c, nil
		}
		c.Close()
	}
}

// Close stops listening and removes the socket.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	l.once.Do(func() {
		if rerr := os.Remove(l.path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	})
	return err
}
