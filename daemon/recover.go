package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// ErrTooOld: the newest commit that was found is older than the owner knows there was.
var ErrTooOld = fmt.Errorf("nothing new enough was found: %w", fs.ErrRollback)

// Recovery takes an identity and its vault back on a machine that has neither.
type Recovery struct {
	Search     IdentitySearch
	Passphrase []byte // of the new keystore
	DeviceName string
	// MinSequence is the number of a commit that the owner knows of; an older one is refused.
	MinSequence uint64
	// Found is told what was found, before anything is changed. An error ends the recovery.
	Found func(*FoundIdentity) error
	// Phrase is given the new recovery phrase, before the vault is touched, and keeps it.
	// An error leaves it in the keystore, unconfirmed.
	Phrase func(*auth.Phrase) error
}

// Recovered is what a recovery came to.
type Recovered struct {
	DID     string
	Version string // of the DID document
	Device  string
	// Vault and Commit are the vault's, under its new key; empty if no commit was found.
	Vault  string
	Commit fs.HeadInfo
	// MovedFrom is the place, as a DID, where a device had moved the DID to; empty if it has
	// not moved back.
	MovedFrom string
	// Confirmed: the new phrase was taken by its owner.
	Confirmed bool
}

// Run searches, rotates, and wraps the vault's key anew. ErrIdentityNotFound, ErrTooOld,
// and what auth.Recover fails with.
func (r Recovery) Run(ctx context.Context) (*Recovered, error) {
	found, err := r.Search.Run(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.judge(found); err != nil {
		return nil, err
	}
	if r.Found != nil {
		if err := r.Found(found); err != nil {
			return nil, err
		}
	}
	h := r.Search.Home
	lock, err := takeLock(h.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	cfg := auth.InitConfig{Dir: h.Keystore, Passphrase: r.Passphrase, Phrase: r.Search.Phrase, DeviceName: r.DeviceName}
	for _, d := range r.Search.Domains { // the owner has named them
		if d != "" && auth.At(found.DID, d) {
			cfg.Domain = d
		}
	}
	id, err := auth.Recover(ctx, cfg, found.Found)
	if err != nil {
		return nil, err
	}
	defer id.Phrase.Wipe()
	out := &Recovered{DID: id.DID, Device: id.Device.ID}
	if found.DID != id.DID {
		out.MovedFrom = found.DID
	}
	if r.Phrase != nil && r.Phrase(id.Phrase) == nil {
		if err := auth.ConfirmPhrase(ctx, h.Keystore, r.Passphrase); err != nil {
			return nil, err
		}
		out.Confirmed = true
	}
	s, err := auth.Login(ctx, h.Keystore, r.Passphrase)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, out.Version, err = s.Log(ctx); err != nil {
		return nil, err
	}
	if found.Commit == nil {
		return out, nil
	}
	out.Vault = found.Name.Vault
	out.Commit, err = r.vault(ctx, found, s)
	return out, err
}

func (r Recovery) judge(f *FoundIdentity) error {
	if r.MinSequence == 0 {
		return nil
	}
	if f.Commit == nil {
		return fmt.Errorf("no commit at all, wanted was number %d: %w", r.MinSequence, ErrTooOld)
	}
	if f.Commit.Sequence < r.MinSequence {
		return fmt.Errorf("commit %d of %s, wanted was number %d: %w",
			f.Commit.Sequence, f.Commit.Time.Local().Format(time.DateTime), r.MinSequence, ErrTooOld)
	}
	return nil
}

// vault makes a commit under a new key, and opens it.
func (r Recovery) vault(ctx context.Context, f *FoundIdentity, id fs.Identity) (_ fs.HeadInfo, err error) {
	h, c := r.Search.Home, r.Search.Config
	store, err := r.Search.openStore(ctx)
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cfg := fs.Config{
		Store: store, Identity: id, Vault: f.Name.Vault, StateDir: h.State, JournalDir: filepath.Join(h.Journal, f.Name.Vault),
		Deadline: c.Deadline.Duration, MemoryLimit: c.MemoryMiB << 20, Log: r.Search.Log,
	}
	head, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: f.Name, Commit: f.Commit.Commit, Open: r.Search.Phrase.OpenWrapped, NewEpoch: true})
	if err != nil {
		return fs.HeadInfo{}, fmt.Errorf("giving the vault a new key: %w", err)
	}
	if err := writeFile(h.vaultFile(), f.Name.Vault+"\n"); err != nil {
		return head, fmt.Errorf("remembering the vault: %w", err)
	}
	cfg.ReadOnly = true
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		return head, fmt.Errorf("opening the vault: %w", err)
	}
	defer tree.Abort()
	if _, err := tree.GetAttr(ctx, fs.RootIno); err != nil {
		return head, fmt.Errorf("reading the vault: %w", err)
	}
	return head, nil
}

// openStore opens the store with the peers of Egress, if there is one.
func (s IdentitySearch) openStore(ctx context.Context) (fs.Store, error) {
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, s.Home, s.Config, network, s.Log)
	if err != nil || network == nil {
		return store, err
	}
	client, err := egressClient(s.Home, s.Config, s.Log)
	if err == nil && client != nil {
		err = meetPeers(ctx, store, client)
		client.Close()
	}
	if err != nil { // what the store has is enough, perhaps
		s.log().Warn("Egress does not say who its peers are", "error", err)
	}
	return store, nil
}

func (s IdentitySearch) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
