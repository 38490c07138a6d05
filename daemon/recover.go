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
	// From one IPNS name to another it is recover itself that moves it.
	if _, named := auth.NameOf(found.DID); !named && found.DID != id.DID {
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
	out.Commit, err = r.Search.wrapVault(ctx, found, s, true)
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

// Restore makes this machine a device of the identity that was found, which writes the drive
// from then on. What auth.Restore fails with; ErrIdentityNotFound: the drive was not found,
// and the new device could not open it later.
func (s IdentitySearch) Restore(ctx context.Context, cfg auth.InitConfig, found *FoundIdentity) (*auth.Identity, error) {
	if found.Log == nil {
		return auth.Restore(ctx, cfg, found.Found, nil) // it takes over when it is mounted
	}
	if found.Commit == nil {
		return nil, fmt.Errorf("%s was found, and no commit of its drive; name the Egress that keeps it (`ipfscloud egress use URL`) and log in again, or `ipfscloud recover` the identity without it: %w",
			found.DID, ErrIdentityNotFound)
	}
	lock, err := takeLock(s.Home.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return auth.Restore(ctx, cfg, found.Found, func(dir string) error {
		session, err := auth.Login(ctx, dir, cfg.Passphrase)
		if err != nil {
			return err
		}
		_, err = s.wrapVault(ctx, found, session, false)
		return errors.Join(err, session.Close())
	})
}

// wrapVault makes a commit of the vault that was found for the recipients that the identity
// has now, with a new key if that is wanted, and opens it.
func (s IdentitySearch) wrapVault(ctx context.Context, f *FoundIdentity, id fs.Identity, newEpoch bool) (_ fs.HeadInfo, err error) {
	h, c := s.Home, s.Config
	store, err := s.openStore(ctx)
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cfg := fs.Config{
		Store: store, Identity: id, Vault: f.Name.Vault, StateDir: h.State, JournalDir: filepath.Join(h.Journal, f.Name.Vault),
		Deadline: c.Deadline.Duration, MemoryLimit: c.MemoryMiB << 20, Log: s.log(),
	}
	head, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: f.Name, Commit: f.Commit.Commit, Open: s.Phrase.OpenWrapped, NewEpoch: newEpoch})
	if err != nil {
		return fs.HeadInfo{}, fmt.Errorf("wrapping the vault's key for this device: %w", err)
	}
	if err := s.snapshots(ctx, store, id, f.Name.Vault); err != nil {
		s.log().Warn("looking for snapshots", "error", err) // the drive is more than they are
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
	if err := announce(ctx, h, c, store, f.Name.Vault, head, s.log()); err != nil {
		s.log().Warn("other devices do not know of this yet; mount the drive, so that Egress keeps it and they learn of it", "error", err)
	}
	return head, nil
}

// snapshots finds those that lost devices have made, among the pins of Egress. Their keyrings
// are wrapped for these devices and for the recovery phrase: the new device gets keyrings of its
// own, or nobody could open them once the phrase is not known any more.
func (s IdentitySearch) snapshots(ctx context.Context, store fs.Store, id fs.Identity, vault string) error {
	client, err := egressClient(s.Home, s.Config, s.log())
	if client == nil || err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, searchEgress)
	defer cancel()
	pins, err := client.Find(ctx, vaultKey, vault)
	if err != nil {
		return egressError(err)
	}
	found := snapshotsAmong(ctx, newSlots(), vaultsOf(pins)[vault], s.log(), func(ctx context.Context, c pinned) (openedSnapshot, error) {
		h, ring, err := fs.KeyringFor(ctx, store, s.Phrase.OpenWrapped, id, c.name, c.cid)
		return openedSnapshot{h, ring}, err
	})
	known, err := readSnapshots(s.Home.snapshotsFile(), vault)
	if err != nil {
		return err
	}
	return known.meet(vault, found)
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
	} else if err == nil {
		var used EgressUse
		if used, err = s.Config.egressInUse(s.Home); err == nil {
			err = used.meetReadable(store)
		}
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
