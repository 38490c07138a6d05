package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// Params is what one run of the daemon is given.
type Params struct {
	Home     Home
	Config   Config
	Identity fs.Identity
	// Mountpoint is an absolute path.
	Mountpoint string
	Version    string // of this program
	Options    string // as mount(8) has them, after those of the configuration
	Snapshot   string // to mount, read-only; empty is the newest state
	// Ready is called once the drive is mounted. The Service answers until Run returns
	// and, with what it knew last, after.
	Ready func(*Service)
	// Signals: the first asks to flush and unmount, a second to stop waiting.
	Signals <-chan os.Signal
	// Reload asks to read the configuration again, with LoadConfig; nil for never.
	Reload     <-chan os.Signal
	LoadConfig func() (Config, error)
	Log        *slog.Logger
}

// Service is a running drive.
//
// Run's goroutine owns it: it alone begins and ends the parts. The control socket's
// goroutines read it, and ask through stop.
type Service struct {
	p       Params
	options fuse.Options
	session *claim
	lock    *os.File
	store   fs.Store
	tree    *fs.Tree
	server  *fuse.Server

	since     time.Time
	meter     *meter
	failures  *failureList
	page      *page
	snapshots *snapshots
	logins    *logins
	egress    *egress               // nil: nothing keeps copies elsewhere
	own       *ownPins              // what it says of commits with this device's name; nil without Egress
	displaced *displacement         // nil without Egress
	pinWatch  *pinWatch             // of commits that other machines make; nil without Egress
	restored  *fs.Found             // what was found in Egress, on a machine that had nothing
	missing   error                 // of the local state, and accepted
	found     map[string][]Snapshot // in Egress, by vault, on such a machine
	horizon   *horizonServer        // nil: there is no page
	noPage    error                 // why
	names     *publisher            // nil: the identity has none

	stop  chan stopRequest
	ended chan struct{} // closed when everything is given back
}

// Run opens the vault, mounts it, and serves until it is unmounted or told to stop. When
// it returns, the lock is free and the next daemon can start.
//
// Errors are those of this package's table, and context.Canceled when a signal came
// before the drive was ready.
func Run(ctx context.Context, p Params) error {
	e := watchSignals(ctx, p.Signals)
	defer e.close()
	s, err := start(e.asked, p)
	if errors.Is(err, context.Canceled) && e.asked.Err() != nil {
		return fmt.Errorf("stopped before the drive was ready: %w", err)
	}
	if err != nil {
		return err
	}
	s.names = s.startPublisher()
	s.horizon, s.noPage = s.startHorizon() // before those come who ask for it
	c, err := s.control()
	if err != nil {
		s.horizon.stop()
		s.names.stop()
		s.server.Abort()
		s.tree.Abort()
		return errors.Join(err, s.release())
	}
	if p.Ready != nil {
		p.Ready(s)
	}
	s.notify(sd.SdNotifyReady, s.statusText())
	endSystemd, endRestrain := s.tellSystemd(), s.restrain()
	asker, err := s.wait(e)
	s.horizon.stop()
	s.names.stop()
	endRestrain()
	endSystemd()
	// The socket goes while the lock is ours, the answer when everything is given back:
	// who has it can mount again.
	c.unlink()
	err = errors.Join(err, s.release())
	close(s.ended)
	if asker != nil {
		asker <- err
	}
	return errors.Join(err, c.close())
}

// start opens everything in order; what was opened is closed again if a later part fails.
func start(ctx context.Context, p Params) (_ *Service, err error) {
	limitMemory(p.Config)
	addProcessor()
	f := newFailures(p.Log.Handler())
	p.Log = slog.New(f)
	s := &Service{p: p, stop: make(chan stopRequest), ended: make(chan struct{}), since: time.Now(), failures: f.kept}
	s.page, s.logins = &page{s: s}, newLogins(p.Home, s.ended)
	for _, list := range []string{p.Config.MountOptions, p.Options} {
		if err := fuse.ParseOptions(list, &s.options); err != nil {
			return nil, err
		}
	}
	if err := p.Home.Make(); err != nil {
		return nil, err
	}
	if err := fuse.Check(p.Mountpoint, s.options); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = takeLock(p.Home.lockFile()); err != nil {
		return nil, err
	}
	if s.missing, err = checkState(p.Home, s.options.AcceptMissing); err != nil {
		return nil, err
	}
	if s.session, err = claimSession(ctx, p.Identity, "mount "+p.Mountpoint, p.Log); err != nil {
		return nil, err
	}
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	// A drive that was mounted here before can be, as far as it is known here, also while
	// the node is away.
	vault, err := readVault(p.Home.vaultFile())
	if err != nil {
		return nil, err
	}
	if s.store, err = openStoreAway(ctx, p.Home, p.Config, network, vault != "", p.Log); err != nil {
		return nil, err
	}
	if s.tree, err = s.openTree(ctx); err != nil {
		return nil, err
	}
	o := s.options
	o.Log, o.ReadOnly = p.Log, o.ReadOnly || s.tree.Status().ReadOnly
	// The store gives up first, and says why.
	o.Deadline = p.Config.Deadline.Duration + 10*time.Second
	if s.egress != nil {
		first := s.tree.Status()
		if first.Commit.Device != p.Identity.Device() {
			first.Commit = fs.HeadInfo{} // its copies are the other device's
		}
		s.pinWatch.judges = s.pinJudges(first.Vault)
		s.egress.start(first.Commit)
	}
	s.meter = newMeter(s.tree)
	if s.server, err = fuse.Mount(ctx, s.meter, p.Mountpoint, o); err != nil {
		s.tree.Abort()
		return nil, err
	}
	return s, nil
}

// release gives back what outlives the mount and the tree, the lock last.
func (s *Service) release() error {
	var err error
	s.egress.stop()
	s.pinWatch.close()
	if s.store != nil {
		err = s.store.Close()
	}
	s.session.release()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// PendingChanges is how many changes are not committed, also after Run has returned.
func (s *Service) PendingChanges() int { return s.tree.Status().PendingOps }
