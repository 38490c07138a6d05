package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/auth/peercred"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	agentConns   = 128 // at once
	holderName   = 256 // bytes
	lockMode     = 0o600
	idleDeadline = requestDeadline
)

// Agent serves a session to processes of the same user on a unix socket. It does
// operations for them; the keys do not leave it.
//
// Serve's goroutine owns the listener; each connection has a goroutine of its own, and
// Serve returns after the last of them.
type Agent struct {
	path     string
	session  *Session
	lock     *os.File // flock: one agent a socket
	listener *peercred.Listener

	conns sync.WaitGroup

	mu      sync.Mutex // guards the rest
	open    map[net.Conn]struct{}
	holders map[net.Conn]string
	ended   bool     // nobody may hold any more
	last    net.Conn // who logged out, and waits for the end
	quit    chan struct{}
}

// Listen takes the socket at path (0600; its directory is made with mode 0700 where
// missing, and must be this user's alone). A socket that a killed agent left is replaced;
// a living agent gives ErrBusy. The agent owns the session from then on, also when Listen
// fails. Call Serve next.
func Listen(path string, s *Session) (_ *Agent, err error) {
	a := &Agent{
		path: path, session: s,
		open: make(map[net.Conn]struct{}), holders: make(map[net.Conn]string), quit: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if a.lock, err = safefile.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, lockMode); err != nil {
		return nil, fmt.Errorf("locking the agent's socket: %w", err)
	}
	if err := unix.Flock(int(a.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another agent serves %s: %w", path, ErrBusy)
	} else if err != nil {
		return nil, fmt.Errorf("locking the agent's socket: %w", err)
	}
	// Whoever holds the lock is alone: a socket that is still there has no agent.
	if a.listener, err = peercred.Listen(path); err != nil {
		return nil, err
	}
	return a, nil
}

// ServeAgent is Listen and Serve.
func ServeAgent(ctx context.Context, path string, s *Session) error {
	a, err := Listen(path, s)
	if err != nil {
		return err
	}
	return a.Serve(ctx)
}

// privateDir makes a directory, or checks that it is this user's and nobody else's.
func privateDir(dir string) error {
	if err := safefile.MakeDir(dir); err != nil {
		return fmt.Errorf("making the directory of the agent's socket: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("directory of the agent's socket: %w", err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("directory %s must be its user's alone, mode 0700: %w", dir, ErrInvalid)
	}
	return nil
}

// Serve answers until ctx ends or somebody logs out, then closes the session and removes
// the socket; either way it returns nil. It may be called once.
func (a *Agent) Serve(ctx context.Context) error {
	// The lock goes last, and the connection of who logged out after it.
	defer func() {
		a.mu.Lock()
		last := a.last
		a.mu.Unlock()
		if last != nil {
			last.Close()
		}
	}()
	defer a.release()
	ctx, cancel := context.WithCancel(ctx)
	defer a.conns.Wait()
	defer cancel()
	stopped := context.AfterFunc(ctx, a.shut)
	defer stopped()
	slots := make(chan struct{}, agentConns)
	for {
		conn, err := a.listener.AcceptUnix()
		if err != nil {
			a.mu.Lock()
			ended := a.ended
			a.mu.Unlock()
			if ended {
				return nil
			}
			if isTemporary(err) { // out of descriptors: wait for some to be closed
				select {
				case <-time.After(lockPoll):
					continue
				case <-a.quit:
					return nil
				}
			}
			a.shut()
			return fmt.Errorf("agent at %s: %w", a.path, err)
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close() // the client sees the agent go away
			continue
		}
		if !a.add(conn) {
			conn.Close()
			<-slots
			continue
		}
		a.conns.Go(func() {
			defer func() { <-slots }()
			a.serve(ctx, conn)
		})
	}
}

func isTemporary(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ECONNABORTED)
}

func (a *Agent) add(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	a.open[conn] = struct{}{}
	return true
}

// remove ends a connection and whatever it held.
func (a *Agent) remove(conn net.Conn) {
	a.mu.Lock()
	delete(a.open, conn)
	delete(a.holders, conn)
	last := a.last == conn
	a.mu.Unlock()
	if !last {
		conn.Close()
	}
}

// shut ends every connection but that of who logged out, and makes Serve return.
func (a *Agent) shut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.end()
}

// end wants mu held.
func (a *Agent) end() {
	a.ended = true
	close(a.quit)
	a.listener.Close()
	for c := range a.open {
		if c != a.last {
			c.Close()
		}
	}
}

// release gives everything back; also what Listen has made so far.
func (a *Agent) release() {
	if a.listener != nil {
		a.listener.Close() // removes the socket, which is ours while we have the lock
	}
	_ = a.session.Close() // never fails
	if a.lock != nil {
		a.lock.Close()
	}
}

// serve answers one connection until it ends.
func (a *Agent) serve(ctx context.Context, conn *net.UnixConn) {
	defer a.remove(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(idleDeadline)); err != nil {
			return
		}
		var req request
		if err := readMessage(conn, &req); err != nil {
			if errors.Is(err, ErrInvalid) {
				_ = writeMessage(conn, failure(err)) // a courtesy; the connection ends anyway
			}
			return
		}
		opCtx, cancel := context.WithTimeout(ctx, requestDeadline)
		resp := a.do(opCtx, conn, &req)
		cancel()
		err := writeMessage(conn, &resp)
		clear(resp.Data)
		if req.Op == opLogout && resp.Error == "" {
			a.shut() // whether or not anybody still listens
			return
		}
		if err != nil {
			return
		}
		if req.Op == opHold && resp.Error == "" {
			// The holder says nothing more; its end ends the hold.
			if err := conn.SetDeadline(time.Time{}); err != nil {
				return
			}
			var b [1]byte
			_, _ = conn.Read(b[:])
			return
		}
	}
}

// do is one operation.
func (a *Agent) do(ctx context.Context, conn net.Conn, req *request) (resp response) {
	s := a.session
	if req.DID != "" && req.DID != s.DID() {
		return failure(fmt.Errorf("the agent serves another identity: %w", ErrNoSession))
	}
	var err error
	switch req.Op {
	case opWhoAmI:
		var who WhoAmI
		who, err = s.WhoAmI(ctx)
		who.Holders = a.holderNames()
		resp.WhoAmI = &who
	case opSign:
		resp.Data, err = s.Sign(ctx, req.Data)
	case opVerify:
		err = s.Verify(ctx, req.Device, req.Data, req.Extra)
	case opOpen:
		resp.Data, err = s.OpenWrapped(ctx, req.Extra, req.Data)
	case opRecipients:
		resp.List, err = s.Recipients(ctx)
	case opLog:
		resp.Data, resp.Version, err = s.Log(ctx)
	case opTakeLog:
		err = s.TakeLog(ctx, req.Data)
	case opDevices:
		resp.Data, err = s.encodeDevices(ctx)
	case opJudge:
		resp.Data, err = s.judge(ctx, req.Data)
	case opMayCommit:
		err = s.mayCommit(ctx, req.Data)
	case opNotes:
		resp.Data, err = s.Notes(ctx)
	case opTakeNotes:
		err = s.TakeNotes(ctx, req.Data)
	case opSignClaim, opClaims, opKeepClaim, opDropClaim:
		resp, err = s.claims(ctx, req)
	case opAuthenticate:
		resp.Data, err = s.authenticate(ctx, req)
	case opPublishing:
		resp.Version, resp.List, err = s.PublishingKeys(ctx)
	case opSignName:
		resp.Data, err = s.SignName(ctx, req.Extra, req.Data)
	case opHold:
		err = a.hold(conn, req.Who)
	case opLogout:
		err = a.logout(conn)
	default:
		err = fmt.Errorf("operation %.40q: %w", req.Op, ErrInvalid)
	}
	if err != nil {
		return failure(err)
	}
	return resp
}

func (a *Agent) hold(conn net.Conn, who string) error {
	if who == "" || len(who) > holderName {
		return fmt.Errorf("a holder's name has 1 to %d bytes: %w", holderName, ErrInvalid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || a.last != nil {
		return ErrClosed
	}
	a.holders[conn] = who
	return nil
}

// logout decides in one step that nobody holds the session and that nobody will.
func (a *Agent) logout(conn net.Conn) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || a.last != nil {
		return ErrClosed
	}
	if len(a.holders) > 0 {
		for _, who := range a.holders {
			return fmt.Errorf("%q holds it: %w", who, ErrHeld)
		}
	}
	a.last = conn
	return nil
}

func (a *Agent) holderNames() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := make([]string, 0, len(a.holders))
	for _, who := range a.holders {
		names = append(names, who)
	}
	slices.Sort(names)
	return names
}
