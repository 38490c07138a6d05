package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// VaultOptions say whose vault gets a new keyring.
type VaultOptions struct {
	Home     Home
	Config   Config
	Identity fs.Identity // as it is now
	// NewEpoch draws a new vault key: who was a recipient and is none now cannot read what
	// comes after.
	NewEpoch bool
	Log      *slog.Logger
}

// RewrapVault makes a commit of this home's vault with a keyring for the recipients that
// the identity has now. The drive must not be mounted. The zero HeadInfo: there is no vault
// yet, or nothing is to be done.
func RewrapVault(ctx context.Context, o VaultOptions, needed func(*fs.Evidence) bool) (_ fs.HeadInfo, err error) {
	if err := o.Home.Make(); err != nil {
		return fs.HeadInfo{}, err
	}
	lock, err := takeLock(o.Home.lockFile())
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer lock.Close()
	vault, err := readVault(o.Home.vaultFile())
	if err != nil || vault == "" {
		return fs.HeadInfo{}, err
	}
	store, err := IdentitySearch{Home: o.Home, Config: o.Config, Log: o.Log}.openStore(ctx)
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := heal(ctx, store, o.Home.State, vault, o.Log); err != nil {
		return fs.HeadInfo{}, err
	}
	ev, err := o.newest(ctx, store, vault)
	if err != nil || !needed(ev) {
		return fs.HeadInfo{}, err
	}
	cfg := fs.Config{
		Store: store, Identity: o.Identity, StateDir: o.Home.State, JournalDir: filepath.Join(o.Home.Journal, vault),
		Deadline: o.Config.Deadline.Duration, MemoryLimit: o.Config.MemoryMiB << 20, Log: o.Log,
	}
	head, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: ev.Name, Commit: ev.Head.Commit, Open: o.Identity.OpenWrapped, NewEpoch: o.NewEpoch})
	if err != nil {
		return head, fmt.Errorf("wrapping the vault's key anew: %w", err)
	}
	return head, nil
}

// newest is the commit that this device has accepted last: nothing else is built upon.
func (o *VaultOptions) newest(ctx context.Context, store fs.Store, vault string) (*fs.Evidence, error) {
	name, cid, err := fs.LastAccepted(o.Home.State, vault)
	if err != nil {
		return nil, err
	}
	if name.Sequence == 0 {
		return nil, fmt.Errorf("this device knows no commit of vault %s; mount it first: %w", vault, fs.ErrNotFound)
	}
	return fs.Examine(ctx, store, o.Identity.OpenWrapped, name, cid)
}

// Migration makes a did:webvh of a did:key, and of its vault one of that DID.
type Migration struct {
	Home       Home
	Config     Config
	Passphrase []byte
	Phrase     *auth.Phrase // nil while it is not confirmed
	Domain     string
	Log        *slog.Logger
}

// Migrated is what a migration came to.
type Migrated struct {
	DID, From string
	Statement string // of the did:key, signed: it is known as the other one from now on
	Commit    fs.HeadInfo
}

// Run migrates; one that was interrupted is finished. fs.ErrBusy when the drive is mounted.
func (m Migration) Run(ctx context.Context) (*Migrated, error) {
	// Before anything is changed: the drive must not be in use.
	if err := m.Home.Make(); err != nil {
		return nil, err
	}
	lock, err := takeLock(m.Home.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	_, err = auth.Migrate(ctx, auth.InitConfig{Dir: m.Home.Keystore, Passphrase: m.Passphrase, Phrase: m.Phrase, Domain: m.Domain})
	done := errors.Is(err, auth.ErrExist) // it was begun before
	if err != nil && !done {
		return nil, err
	}
	statement := auth.MovedStatement(m.Home.Keystore)
	if done && statement == "" {
		return nil, err
	}
	from, _, err := auth.MovedTo(ctx, statement)
	if err != nil {
		return nil, err
	}
	s, err := auth.Login(ctx, m.Home.Keystore, m.Passphrase)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	lock.Close()
	out := &Migrated{DID: s.DID(), From: from, Statement: statement}
	old, err := did.NewKey().Resolve(ctx, from)
	if err != nil {
		return nil, err
	}
	var bad error
	out.Commit, err = RewrapVault(ctx, VaultOptions{Home: m.Home, Config: m.Config, Identity: s, Log: m.Log}, func(e *fs.Evidence) bool {
		if e.DID != from {
			return false // it is that of the new DID already
		}
		v, err := auth.NewHistory(old, nil).Judge(e.Claim)
		if bad = err; bad == nil && v.Standing != auth.StandingWriter {
			bad = fmt.Errorf("%s: %w", v.Because, auth.ErrSignature)
		}
		return bad == nil
	})
	if bad != nil {
		return nil, fmt.Errorf("the newest commit: %w: %w", bad, crypt.ErrIntegrity)
	}
	return out, err
}
