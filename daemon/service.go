package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fuse"
)

// Params is what one run of the daemon is given.
type Params struct {
	Home       Home
	Config     Config
	Identity   fs.Identity
	Mountpoint string
	Options    string // as mount(8) has them, after those of the configuration
	// PhrasePending: the recovery phrase was not confirmed; status says so.
	PhrasePending bool
	// Ready is called once the drive is mounted.
	Ready func(*Service)
	// Signals: the first asks to flush and unmount, a second to stop waiting.
	Signals <-chan os.Signal
	Log     *slog.Logger
}

// Service is a running drive.
type Service struct {
	p       Params
	options fuse.Options
	store   fs.Store
	tree    *fs.Tree
	server  *fuse.Server
	lock    *os.File
	stop    chan stopRequest
}

// stopRequest asks the service to end, and wants to know how that went.
type stopRequest struct {
	flush bool
	done  chan error
}

const (
	closeWait = 10 * time.Second // for the commit at an ordinary end; the journal keeps the rest
	flushWait = 10 * time.Minute // for the commit that somebody asked for
)

// Run opens the vault, mounts it, and serves until it is unmounted or told to stop.
func Run(ctx context.Context, p Params) (err error) {
	s, err := start(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	c, err := s.control()
	if err != nil {
		s.server.Abort()
		s.tree.Abort()
		return err
	}
	defer c.Close()
	if p.Ready != nil {
		p.Ready(s)
	}
	notify(p.Log, sd.SdNotifyReady)
	err = s.wait(ctx)
	notify(p.Log, sd.SdNotifyStopping)
	return err
}

func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("telling systemd", "error", err)
	}
}

// start opens everything in order; what was opened is closed again if a later part fails.
func start(ctx context.Context, p Params) (_ *Service, err error) {
	s := &Service{p: p, stop: make(chan stopRequest)}
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
	if s.store, err = openStore(ctx, p.Home, p.Config, p.Log); err != nil {
		return nil, err
	}
	if s.tree, err = s.openTree(ctx); err != nil {
		return nil, err
	}
	o := s.options
	o.Log, o.ReadOnly = p.Log, o.ReadOnly || s.tree.Status().ReadOnly
	o.Deadline = p.Config.Deadline.Duration + 10*time.Second
	if s.server, err = fuse.Mount(ctx, s.tree, p.Mountpoint, o); err != nil {
		s.tree.Abort()
		return nil, err
	}
	return s, nil
}

// release gives back what outlives the mount and the tree.
func (s *Service) release() error {
	var err error
	if s.store != nil {
		err = s.store.Close()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// takeLock makes sure that one daemon has the vault on this machine.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another daemon has this drive; see `ipfscloud status`: %w", fs.ErrBusy)
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// openTree opens the vault of this home; on a new home, the one that the store holds for
// this identity; and if there is none, a new one.
func (s *Service) openTree(ctx context.Context) (*fs.Tree, error) {
	h, c := s.p.Home, s.p.Config
	cfg := fs.Config{
		Store: s.store, Identity: s.p.Identity, ReadOnly: s.options.ReadOnly,
		StateDir: h.State, JournalDir: h.Journal, Durability: fs.Durability(c.Durability),
		Deadline: c.Deadline.Duration, MemoryLimit: c.MemoryMiB << 20, Log: s.p.Log,
	}
	vault, err := readVault(h.vaultFile())
	if err != nil {
		return nil, err
	}
	if err := heal(ctx, s.store, h.State, vault, s.p.Log); err != nil {
		return nil, err
	}
	if vault == "" {
		if vault, err = s.findVault(ctx, cfg); err != nil {
			return nil, err
		}
		if err := writeFile(h.vaultFile(), vault+"\n"); err != nil {
			return nil, fmt.Errorf("remembering the vault: %w", err)
		}
	}
	cfg.Vault = vault
	// Each vault has a journal of its own: another vault's key does not open it.
	cfg.JournalDir = filepath.Join(h.Journal, vault)
	return fs.Open(ctx, cfg)
}

func (s *Service) findVault(ctx context.Context, cfg fs.Config) (string, error) {
	found, err := fs.Discover(ctx, s.store, s.p.Identity)
	if err != nil {
		return "", err
	}
	switch len(found) {
	case 0:
		return fs.Create(ctx, cfg)
	case 1:
		s.p.Log.Info("found the vault in the store", "vault", found[0].Vault, "sequence", found[0].Head.Sequence)
		return found[0].Vault, nil
	}
	ids := make([]string, len(found))
	for i, f := range found {
		ids[i] = f.Vault
	}
	return "", fmt.Errorf("the store holds %d vaults of this identity (%s): write the one to use into %s: %w",
		len(found), strings.Join(ids, ", "), s.p.Home.vaultFile(), fs.ErrInvalid)
}

func readVault(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// writeFile writes a small file so that a power cut leaves it whole or absent.
func writeFile(path, text string) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// wait serves until the end, and ends the mount and the tree.
func (s *Service) wait(ctx context.Context) error {
	for {
		select {
		case <-s.server.Done(): // somebody called umount(8)
			return s.closeTree(closeWait, nil)
		case r := <-s.stop:
			err := s.unmount(ctx, r)
			if errors.Is(err, fs.ErrBusy) {
				r.done <- err
				continue // in use: the drive goes on
			}
			r.done <- err
			return err
		case sig := <-s.p.Signals:
			s.p.Log.Info("stopping", "signal", sig.String())
			return s.finish(s.p.Signals)
		case <-ctx.Done():
			return s.finish(s.p.Signals)
		}
	}
}

// unmount ends the drive for somebody who asked and can be told that it is in use.
func (s *Service) unmount(ctx context.Context, r stopRequest) error {
	if r.flush {
		ctx, cancel := context.WithTimeout(ctx, flushWait)
		defer cancel()
		if err := s.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
	}
	if err := s.server.Unmount(false); err != nil {
		return err
	}
	if r.flush {
		return s.closeTree(flushWait, nil)
	}
	return s.closeTree(closeWait, nil)
}

// finish ends the drive for a signal: what is written is flushed, the names are taken
// away, and users of open files are waited for a little. A second signal ends the waiting.
func (s *Service) finish(again <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushWait)
	defer cancel()
	hurry := make(chan struct{})
	end := make(chan struct{})
	defer close(end)
	go func() {
		select {
		case <-again:
			close(hurry)
			cancel()
		case <-end:
		}
	}()
	if err := s.tree.Sync(ctx, fs.DurabilityIPFS); err != nil {
		s.p.Log.Warn("flushing before the end; the journal keeps what is not committed", "error", err)
	}
	err := s.server.Unmount(false)
	if errors.Is(err, fs.ErrBusy) {
		s.p.Log.Warn("the drive is in use; detaching it")
		err = s.server.Unmount(true)
		select {
		case <-s.server.Done():
		case <-hurry:
		case <-time.After(closeWait):
		}
	}
	s.server.Abort()
	return errors.Join(err, s.closeTree(closeWait, hurry))
}

// closeTree commits what is left, within a time, and closes the tree. What could not be
// committed is in the journal: that is no failure of an ordinary end.
func (s *Service) closeTree(wait time.Duration, hurry <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if hurry != nil {
		go func() {
			select {
			case <-hurry:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	err := s.tree.Close(ctx)
	if err != nil && wait == closeWait {
		s.p.Log.Warn("closing the drive; the journal keeps what is not committed", "error", err)
		return nil
	}
	return err
}
