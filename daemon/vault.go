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
	if vault != "" {
		// What cannot be reached now does not keep anybody from working.
		if _, err := s.news(vault).fetch(ctx); err != nil && ctx.Err() == nil {
			s.p.Log.Warn("asking Egress for commits of other devices", "error", err)
		}
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
	if s.snapshots, err = readSnapshots(h.snapshotsFile(), vault); err != nil {
		return nil, err
	}
	s.snapshots.kept = func() error { return keepState(h, filepath.Base(h.snapshotsFile()), true) }
	if err := s.snapshots.meet(vault, s.found[vault]); err != nil {
		return nil, err
	}
	cfg.Retained = s.snapshots.sequences
	if s.p.Snapshot != "" {
		if cfg.At, err = s.at(s.p.Snapshot); err != nil {
			return nil, err
		}
	}
	if s.egress, err = newEgress(ctx, h, c, s.store, vault, s.p.Identity.Device(), s.snapshots.list, s.p.Log); err != nil {
		return nil, err
	}
	if cfg.At != nil { // the node knows its peers now: there is nothing else to do
		s.egress.stop()
		s.egress = nil
	}
	if s.egress != nil {
		cfg.Replicas = s.egress
	}
	// Each vault has a journal of its own: another vault's key does not open it.
	cfg.JournalDir = filepath.Join(h.Journal, vault)
	t, err := fs.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := keepMounted(h, vault); err != nil {
		s.p.Log.Warn("if local state is lost, the next mount may not notice", "error", err)
	}
	return t, nil
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
