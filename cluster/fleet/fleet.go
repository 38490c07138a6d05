package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	localStartTime  = 2 * time.Minute
	realStartTime   = 10 * time.Minute // with terabytes to open, perhaps to migrate
	stopTime        = 2 * stopGrace
	startTries      = 3
	crashesToGiveUp = 3
)

// Fleet is a running fleet; the one who called Up is its supervisor.
type Fleet struct {
	dir         string
	log         *slog.Logger
	binaries    Binaries
	lock        *os.File
	sockets     string // a directory for sockets, if paths in dir are too long
	credentials *credentials
	caFile      string

	mu    sync.Mutex // guards state, once the fleet runs
	state *state

	// What follows is set up by launch and taken down by land, or by Stop.
	nodes   []*Node
	spawner *spawner
	hurry   chan struct{}
	cancel  context.CancelFunc
	control *control

	asked    chan struct{} // closed when someone asks over the socket that the fleet stops
	askOnce  sync.Once
	stopOnce sync.Once
	stopErr  error
	stopped  chan struct{}
}

// Up makes what is missing of a fleet, starts all of it, and returns when each node sees
// all others and its API answers. From then on children that end are started again.
// The caller must call Stop, or Run, which does.
func Up(ctx context.Context, c Config) (*Fleet, error) {
	f, err := open(ctx, &c, nil)
	if err != nil {
		return nil, err
	}
	if c.StartTimeout == 0 && f.state.Place.loopback() {
		c.StartTimeout = localStartTime
	} else if c.StartTimeout == 0 {
		c.StartTimeout = realStartTime
	}
	ctx, cancel := context.WithTimeout(ctx, c.StartTimeout)
	defer cancel()
	for try := 1; ; try++ {
		err := f.launch(ctx)
		if err == nil {
			return f, nil
		}
		err = errors.Join(err, f.land(context.WithoutCancel(ctx)))
		if !errors.Is(err, errPortsTaken) || try == startTries || ctx.Err() != nil {
			return nil, errors.Join(err, f.close())
		}
		f.log.Warn("start again with other ports", "err", err)
	}
}

// treeDepth is how deep the directory is looked into for links and for what belongs to others:
// the nodes, their repos, and the directories in those.
const treeDepth = 3

// open takes the directory and makes what is missing in it. With a token it makes a
// fleet that belongs to another one.
func open(ctx context.Context, c *Config, t *Token) (*Fleet, error) {
	if err := c.Binaries.check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	// One that was there may have been made for all to read.
	if err := safefile.MakePrivate(dir); err != nil {
		return nil, err
	}
	// The programs of the nodes open what lies below by names.
	if err := safefile.CheckTree(dir, treeDepth); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		dir: dir, log: c.Log, binaries: c.Binaries, lock: lock,
		asked: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := f.make(ctx, c, t); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// make makes what is missing in the directory.
func (f *Fleet) make(ctx context.Context, c *Config, t *Token) (err error) {
	if err := f.loadOrMake(c, t); err != nil {
		return err
	}
	if err := f.state.sweep(); err != nil {
		return err
	}
	if err := f.state.apply(c); err != nil {
		return err
	}
	if err := f.state.grow(ctx, f.dir, c); err != nil {
		return err
	}
	if f.state.TLS {
		f.caFile = filepath.Join(f.dir, tlsDir, "cert.pem")
	}
	if len(filepath.Join(f.dir, f.longestName(), socketName)) > maxSocketPath {
		if f.sockets, err = os.MkdirTemp("", socketsPrefix); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(f.dir, stateFile), f.state)
}

func (f *Fleet) loadOrMake(c *Config, t *Token) (err error) {
	f.state, f.credentials, err = readState(f.dir)
	switch {
	case err == nil && t != nil:
		return fmt.Errorf("%w: %s holds a fleet already", ErrConfig, f.dir)
	case !errors.Is(err, ErrNone) || c.Peers == 0:
		return err
	}
	secret := ""
	f.state = newState(defaultCluster)
	if t != nil {
		f.state, secret = t.join(), t.Secret
	}
	// Credentials without a fleet are those of one that was not made to its end.
	f.credentials, err = readOrMakeCredentials(f.dir, secret)
	return err
}

func (f *Fleet) longestName() string {
	longest := ""
	for _, n := range f.state.Nodes {
		if len(n.Name) > len(longest) {
			longest = n.Name
		}
	}
	return longest
}

const (
	socketName    = "rpc.sock"
	socketsPrefix = "ipfscloud-egress-"
)

// sweep removes the directory of sockets that a supervisor left when it was killed.
func (s *state) sweep() error {
	if s.Running == nil {
		return nil
	}
	dir := filepath.Dir(s.Running.Socket)
	if filepath.Dir(dir) != filepath.Clean(os.TempDir()) || !strings.HasPrefix(filepath.Base(dir), socketsPrefix) {
		return nil
	}
	return os.RemoveAll(dir)
}

// socketOf is where the RPC of a node's Kubo listens.
func (f *Fleet) socketOf(node string) string {
	if f.sockets != "" {
		return filepath.Join(f.sockets, node+".sock")
	}
	return filepath.Join(f.dir, node, socketName)
}

// launch starts all nodes and waits until they see each other.
func (f *Fleet) launch(ctx context.Context) error {
	fixed := !f.state.Place.loopback()
	var held holder
	for i := range f.state.Nodes {
		if err := held.settle(&f.state.Nodes[i].Ports, &f.state.Place, fixed); err != nil {
			return errors.Join(err, held.release())
		}
	}
	if err := f.settle(); err != nil {
		return errors.Join(err, held.release())
	}
	f.spawner, f.hurry = newSpawner(), make(chan struct{})
	loops, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, n := range f.state.Nodes {
		node, err := newNode(f, n)
		if err != nil {
			return errors.Join(err, held.release())
		}
		f.nodes = append(f.nodes, node)
		go node.kubo.loop(loops)
		go node.service.loop(loops)
	}
	control, err := serve(f)
	if err != nil {
		return errors.Join(err, held.release())
	}
	f.control = control
	f.state.Running = &runningState{PID: os.Getpid(), Since: time.Now().UTC(), Socket: control.path}
	if err := writeJSON(filepath.Join(f.dir, stateFile), f.state); err != nil {
		return errors.Join(err, held.release())
	}
	if err := held.release(); err != nil {
		return err
	}
	begun := time.Now()
	err = f.startAll(ctx)
	f.log.Debug("start", "nodes", len(f.nodes), "took", time.Since(begun), "err", err)
	return err
}

func (f *Fleet) startAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() { f.giveUp(ctx, cancel) })
	ids := make([]string, 0, len(f.nodes))
	for _, n := range f.nodes {
		ids = append(ids, n.Peer())
	}
	err := f.each(func(n *Node) error {
		if err := n.Start(ctx); err != nil {
			return err
		}
		return poll(ctx, func(ctx context.Context) error { return n.sees(ctx, ids) })
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	cancel(nil)
	watch.Wait()
	return err
}

// giveUp ends a start in which a child ends again and again.
func (f *Fleet) giveUp(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		for _, n := range f.nodes {
			if n.crashes() >= crashesToGiveUp {
				cancel(fmt.Errorf("%w: %s ends again and again", ErrStart, n.Name()))
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// each calls fn for all nodes at once.
func (f *Fleet) each(fn func(*Node) error) error {
	errs := make([]error, len(f.nodes))
	var all sync.WaitGroup
	for i, n := range f.nodes {
		all.Go(func() { errs[i] = fn(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// land ends what launch has started: with grace while ctx lasts, then at once.
func (f *Fleet) land(ctx context.Context) error {
	var err error
	if f.control != nil {
		err = f.control.close()
		f.control = nil
	}
	if f.cancel != nil {
		done := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-ctx.Done():
				close(f.hurry)
			case <-done:
			}
		})
		err = errors.Join(err, f.each(func(n *Node) error { return n.Stop(context.WithoutCancel(ctx)) }))
		close(done)
		watch.Wait()
		f.cancel()
		for _, n := range f.nodes {
			<-n.kubo.ended
			<-n.service.ended
		}
		f.cancel = nil
	}
	if f.spawner != nil {
		f.spawner.close()
		f.spawner = nil
	}
	taken := false
	for _, n := range f.nodes {
		n.remote.http.CloseIdleConnections()
		taken = taken || n.crashes() > 0 && !n.state.Ports.free(&f.state.Place)
		err = errors.Join(err, n.closeLogs())
	}
	f.nodes = nil
	if taken {
		err = errors.Join(err, errPortsTaken)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Running = nil
	return errors.Join(err, writeJSON(filepath.Join(f.dir, stateFile), f.state))
}

// close lets go of the directory.
func (f *Fleet) close() error {
	var err error
	if f.sockets != "" {
		err = os.RemoveAll(f.sockets)
	}
	return errors.Join(err, f.lock.Close())
}

// Run watches over the fleet until ctx ends or Shutdown is called for its directory, and
// stops it then.
func (f *Fleet) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-f.asked:
	case <-f.stopped:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return f.Stop(ctx)
}

// Stop ends all nodes and lets go of the directory. When ctx ends, what still runs is
// killed. It may be called more than once.
func (f *Fleet) Stop(ctx context.Context) error {
	f.stopOnce.Do(func() {
		err := f.land(ctx)
		if errors.Is(err, errPortsTaken) { // a node was down for that; it is no matter any more
			f.log.Warn("while the fleet ran", "err", err)
		} else {
			f.stopErr = err
		}
		f.stopErr = errors.Join(f.stopErr, f.close())
		close(f.stopped)
	})
	<-f.stopped
	return f.stopErr
}

// Asked is closed when someone has asked, with Shutdown, that the fleet stops.
func (f *Fleet) Asked() <-chan struct{} { return f.asked }

func (f *Fleet) ask() { f.askOnce.Do(func() { close(f.asked) }) }

// Nodes are the nodes in this directory, in the order they were made.
func (f *Fleet) Nodes() []*Node { return f.nodes }

// Dir is the fleet's directory.
func (f *Fleet) Dir() string { return f.dir }

// client calls the REST API of a node.
func (f *Fleet) client(n nodeState) client {
	t := newTransport()
	c := client{base: f.state.apiURL(n), user: f.credentials.Username, pass: f.credentials.Password}
	if f.caFile != "" {
		if err := trust(t, f.caFile); err != nil {
			f.log.Error("certificate of the API", "err", err) // calls fail, and say so
		}
	}
	c.http = &http.Client{Transport: t}
	return c
}
