package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// takeLock makes sure that one daemon has the vault on this machine.
func takeLock(path string) (*os.File, error) {
	f, err := safefile.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
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

// openTree opens the vault of this home; on a new home, the one that the store or Egress
// holds for this identity; and if there is none, a new one.
func (s *Service) openTree(ctx context.Context) (*fs.Tree, error) {
	h, c := s.p.Home, s.p.Config
	cfg := fs.Config{
		Store: s.store, Identity: s.p.Identity, ReadOnly: s.options.ReadOnly,
		StateDir: h.State, JournalDir: h.Journal, Durability: fs.Durability(c.Durability),
		Deadline: c.Deadline.Duration, MemoryLimit: c.MemoryMiB << 20, Log: s.p.Log,
		Committed: s.committed, AcceptMissing: s.options.AcceptMissing,
	}
	k, err := readKept(h)
	if err != nil {
		return nil, err
	}
	cfg.Known = slices.Contains(k.Files, headsName)
	if s.missing != nil {
		cfg.Notices = append(cfg.Notices, fmt.Errorf("mounted without it, as you have said: %w", s.missing))
	}
	vault, err := readVault(h.vaultFile())
	if err != nil {
		return nil, err
	}
	if err := heal(ctx, s.store, h.State, vault, s.p.Log); err != nil {
		return nil, err
	}
	used, err := c.egressInUse(h)
	if err == nil && used.none() {
		err = used.meetReadable(s.store)
	}
	if err != nil {
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
	if s.pinWatch, err = newPinWatch(h, c, s.store, vault, s.p.Log); err != nil {
		return nil, err
	}
	var looked error // what the look for commits in Egress failed with
	if s.pinWatch != nil {
		// What cannot be reached now does not keep anybody from working.
		s.own = &ownPins{home: h, device: s.p.Identity.Device(), vault: vault, store: s.store, id: s.p.Identity, log: s.p.Log}
		s.displaced = &displacement{home: h, vault: vault, store: s.store, id: s.p.Identity, log: s.p.Log}
		looked = s.pinWatch.look(ctx, firstWait, s.learnFirst, s.news(vault).judge, s.own.adopt)
		if looked != nil && ctx.Err() == nil {
			s.p.Log.Warn("looking for commits of other machines in Egress", "error", looked)
		}
	}
	if s.snapshots, err = readSnapshots(h.snapshotsFile(), vault); err != nil {
		return nil, err
	}
	s.snapshots.kept = func() error { return keepState(h, filepath.Base(h.snapshotsFile()), true) }
	if err := s.snapshots.meet(vault, s.found[vault]); err != nil {
		return nil, err
	}
	cfg.Retained = func() []uint64 { return slices.Concat(s.snapshots.sequences(), s.displaced.retained()) }
	if s.p.Snapshot != "" {
		if cfg.At, err = s.at(s.p.Snapshot); err != nil {
			return nil, err
		}
	}
	if s.egress, err = newEgress(ctx, h, c, s.store, vault, s.p.Identity.Device(), s.snapshots.list, s.pinWatch, s.p.Log); err != nil {
		return nil, err
	}
	if cfg.At != nil { // the node knows its peers now: there is nothing else to do
		s.egress.stop()
		s.egress = nil
	}
	if s.egress != nil {
		cfg.Replicas = s.egress
		s.own.supersede = s.egress.keeper.Supersede
		// A machine that was restored, or copied, hears of its other self there only.
		cfg.Leap, cfg.Before = true, s.own.opened
	}
	// Each vault has a journal of its own: another vault's key does not open it.
	cfg.JournalDir = filepath.Join(h.Journal, vault)
	t, err := fs.Open(ctx, cfg)
	if errors.Is(err, fs.ErrNoCommits) {
		return nil, s.noSource(err, looked)
	}
	if err != nil && s.displaced != nil {
		err = s.displaced.refused(ctx, cfg, err)
	}
	if err != nil {
		return nil, err
	}
	if s.displaced != nil {
		s.displaced.opened(ctx, t)
	}
	if err := keepMounted(h, vault); err != nil {
		s.p.Log.Warn("if local state is lost, the next mount may not notice", "error", err)
	}
	return t, nil
}

// noSource says why a device that was approved finds nothing of the drive: it was told of no
// place where the data is, or that place does not answer, or has nothing either.
func (s *Service) noSource(err, looked error) error {
	switch {
	case looked != nil:
		return fmt.Errorf("%w, and Egress cannot be asked: %w", err, looked)
	case s.pinWatch != nil:
		return fmt.Errorf("%w: %w, and Egress at %s has none that this device can use; is it the one that the other device uses?", ErrNoSource, err, s.pinWatch.client.Endpoint())
	}
	return fmt.Errorf("%w: %w", ErrNoSource, err)
}

// pinJudges are those that see each look while the drive is mounted.
func (s *Service) pinJudges(vault string) []pinJudge {
	judges := []pinJudge{s.news(vault).watcher()}
	if s.displaced != nil {
		judges = append(judges, s.displaced.judge)
	}
	// What a device has written on its own after another one took over is not a twin's.
	if !s.options.ReadOnly && s.own != nil && s.tree.Status().Commit.Device == s.p.Identity.Device() {
		judges = append(judges, func(ctx context.Context, l *pinLook) error { return s.own.compare(ctx, s.tree, l) })
	}
	return judges
}

// learnFirst reads the DID documents before the drive is opened: a device that was locked out
// must not commit first and learn of it then.
func (s *Service) learnFirst(ctx context.Context, l *pinLook) error {
	ctx, cancel := context.WithTimeout(ctx, readHead) // a mount does not wait for many that nobody has
	defer cancel()
	if err := s.displaced.learn(ctx, l); err != nil {
		s.p.Log.Info("a commit of another device cannot be read now", "error", err)
	}
	return nil
}

func (s *Service) news(vault string) news {
	return news{home: s.p.Home, config: s.p.Config, id: s.p.Identity, store: s.store, vault: vault, log: s.p.Log}
}

func (s *Service) findVault(ctx context.Context, cfg fs.Config) (string, error) {
	found, err := fs.Discover(ctx, s.store, s.p.Identity)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		if found, err = s.findInEgress(ctx); err != nil {
			return "", err
		}
	}
	switch len(found) {
	case 0:
		return fs.Create(ctx, cfg)
	case 1:
		s.p.Log.Info("found the vault in the store", "vault", found[0].Vault, "sequence", found[0].Head.Sequence)
		return found[0].Vault, s.succeed(ctx, cfg, found[0])
	}
	ids := make([]string, len(found))
	for i, f := range found {
		ids[i] = f.Vault
	}
	return "", fmt.Errorf("the store holds %d vaults of this identity (%s): write the one to use into %s: %w",
		len(found), strings.Join(ids, ", "), s.p.Home.vaultFile(), fs.ErrInvalid)
}

// succeed takes over a vault that this machine sees for the first time from another machine
// of the same did:key. To restore a phrase is to say that the drive is to be used here; the
// other machine, should it be in use still, learns of it and keeps what it has.
func (s *Service) succeed(ctx context.Context, cfg fs.Config, f fs.Found) error {
	device := s.p.Identity.Device()
	if f.Head.Device == device || !auth.SameKey(f.Head.Device, device) || s.options.ReadOnly {
		return nil
	}
	cfg.JournalDir = filepath.Join(s.p.Home.Journal, f.Vault)
	cfg.Committed = nil
	name := fs.CommitName{Vault: f.Vault, Device: f.Head.Device, Sequence: f.Head.Sequence}
	h, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: name, Commit: f.Head.Commit, Open: s.p.Identity.OpenWrapped})
	if err != nil {
		return fmt.Errorf("taking over from %s: %w", f.Head.Device, err)
	}
	s.p.Log.Warn("this machine writes the drive from now on", "device", device, "before", f.Head.Device, "sequence", h.Sequence)
	return nil
}

func readVault(path string) (string, error) {
	b, err := safefile.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// writeFile writes a small file so that a power cut leaves it whole or absent.
func writeFile(path, text string) error {
	return safefile.Replace(path, []byte(text))
}
