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

// ErrOtherWriter: another device writes the drive.
var ErrOtherWriter = fs.ErrOtherWriter

// ErrNoVault: there is no vault yet, so a new device would make one of its own.
var ErrNoVault = errors.New("there is no vault yet; mount the drive once")

// vaultChange is a commit that changes who can open a vault, or who writes it.
type vaultChange struct {
	home       Home
	config     Config
	passphrase []byte
	notes      []byte // of the identity, for a session that is open; nil for none
	newEpoch   bool
	takeOver   bool // also if another device writes the drive
	log        *slog.Logger
	// displaces is told which commit of another device the change goes on from, before it is
	// made; nil if nobody wants to know.
	displaces func(ctx context.Context, vault string, newest fs.HeadInfo) error
}

// run makes the commit: through the daemon that has the drive, or in its place.
func (v vaultChange) run(ctx context.Context) (fs.HeadInfo, error) {
	id, end, err := v.identity(ctx)
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer end()
	c, err := Connect(ctx, v.home)
	if err == nil {
		if v.takeOver && !v.newEpoch {
			return fs.HeadInfo{}, fmt.Errorf("the drive is mounted here; unmount it first: %w", fs.ErrBusy)
		}
		return c.Rekey(ctx, v.newEpoch)
	}
	if !errors.Is(err, ErrNotRunning) {
		return fs.HeadInfo{}, err
	}
	return v.unmounted(ctx, id)
}

// identity is the session that is open, or else one of our own.
func (v vaultChange) identity(ctx context.Context) (fs.Identity, func(), error) {
	c, err := auth.Dial(ctx, v.home.AgentSocket())
	if err == nil {
		if v.notes != nil {
			err = c.TakeNotes(ctx, v.notes)
		}
		return c, func() {}, err
	}
	if !errors.Is(err, auth.ErrNoSession) || v.passphrase == nil {
		return nil, nil, err
	}
	s, err := auth.Login(ctx, v.home.Keystore, v.passphrase)
	if err != nil {
		return nil, nil, err
	}
	return s, func() { _ = s.Close() }, nil
}

// unmounted makes the commit on top of the newest one that verifies.
func (v vaultChange) unmounted(ctx context.Context, id fs.Identity) (_ fs.HeadInfo, err error) {
	if err := id.MayCommit(ctx, time.Now()); err != nil { // before anything is opened
		return fs.HeadInfo{}, err
	}
	if err := v.home.Make(); err != nil {
		return fs.HeadInfo{}, err
	}
	lock, err := takeLock(v.home.lockFile())
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer lock.Close()
	vault, err := readVault(v.home.vaultFile())
	if err != nil {
		return fs.HeadInfo{}, err
	}
	if vault == "" {
		return fs.HeadInfo{}, ErrNoVault
	}
	store, err := IdentitySearch{Home: v.home, Config: v.config, Log: v.log}.openStore(ctx)
	if err != nil {
		return fs.HeadInfo{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := heal(ctx, store, v.home.State, vault, v.log); err != nil {
		return fs.HeadInfo{}, err
	}
	n := news{home: v.home, config: v.config, id: id, store: store, vault: vault, log: v.log}
	if _, err := n.fetch(ctx); err != nil {
		if v.takeOver { // or it would begin beside what is there
			return fs.HeadInfo{}, fmt.Errorf("asking Egress for commits of other devices: %w", err)
		}
		v.log.Warn("asking Egress for commits of other devices", "error", err)
	}
	var aside []pinned
	if v.takeOver {
		if aside, err = v.twins(ctx, store, id, vault); err != nil {
			return fs.HeadInfo{}, fmt.Errorf("asking Egress for another machine's commits: %w", err)
		}
	}
	cfg := fs.Config{
		Store: store, Identity: id, Vault: vault, StateDir: v.home.State, JournalDir: filepath.Join(v.home.Journal, vault),
		Deadline: v.config.Deadline.Duration, MemoryLimit: v.config.MemoryMiB << 20, ReadOnly: true, Log: v.log,
	}
	newest, err := fs.Newest(ctx, cfg)
	other := errors.Is(err, fs.ErrFork) && newest.Sequence > 0 && v.takeOver
	if other {
		v.log.Warn("going on from the other device's line; what this one has committed since is left out", "from", newest.Sequence)
		err = nil
	}
	if err != nil && v.newEpoch && ctx.Err() == nil {
		newest, err = v.accepted(vault, err)
	}
	if err != nil {
		return fs.HeadInfo{}, err
	}
	if newest.Device != id.Device() && !v.takeOver {
		return fs.HeadInfo{}, fmt.Errorf("%w: %s made commit %d", ErrOtherWriter, newest.Device, newest.Sequence)
	}
	if newest.Device == id.Device() && v.takeOver && !v.newEpoch && !other && len(aside) == 0 {
		return newest, nil // it writes already
	}
	if other && newest.Device == id.Device() {
		if err := keepLine(v.home, vault); err != nil {
			return fs.HeadInfo{}, err
		}
	}
	if newest.Device != id.Device() && v.displaces != nil {
		if err := v.displaces(ctx, vault, newest); err != nil {
			return fs.HeadInfo{}, err
		}
	}
	if err := keepOthers(v.home, vault, aside); err != nil {
		return fs.HeadInfo{}, err
	}
	cfg.ReadOnly = false
	name := fs.CommitName{Vault: vault, Device: newest.Device, Sequence: newest.Sequence}
	head, err := fs.Rewrap(ctx, cfg, fs.Rewrapped{Name: name, Commit: newest.Commit, Open: id.OpenWrapped, NewEpoch: v.newEpoch, OtherLine: other,
		Aside: commitsOf(aside)})
	if err != nil {
		return head, fmt.Errorf("a new commit of the vault: %w", err)
	}
	if err := announce(ctx, v.home, v.config, store, vault, head, v.log); err != nil {
		v.log.Warn("other devices do not know of this yet; mount the drive, so that Egress keeps it and they learn of it", "error", err)
	}
	return head, nil
}

// twins looks for another machine with the keys of this one; see ownPins.meetTwin.
func (v vaultChange) twins(ctx context.Context, store fs.Store, id fs.Identity, vault string) ([]pinned, error) {
	w, err := newPinWatch(v.home, v.config, store, vault, v.log)
	if w == nil || err != nil {
		return nil, err
	}
	defer w.close()
	o := &ownPins{home: v.home, device: id.Device(), vault: vault, store: store, id: id, log: v.log}
	return o.meetTwin(ctx, w)
}

func commitsOf(all []pinned) (out []fs.NamedCommit) {
	for _, p := range all {
		out = append(out, fs.NamedCommit{Name: p.name, Commit: p.cid})
	}
	return out
}

// accepted is the commit that this device has accepted last: it was judged then, by the
// document of that time, and counts when those who have signed the newest ones are revoked.
func (v vaultChange) accepted(vault string, because error) (fs.HeadInfo, error) {
	name, cid, err := fs.LastAccepted(v.home.State, vault)
	if err != nil || name.Sequence == 0 {
		return fs.HeadInfo{}, errors.Join(because, err)
	}
	v.log.Warn("going on from the last commit that this device has accepted", "sequence", name.Sequence, "because", because)
	return fs.HeadInfo{Device: name.Device, Sequence: name.Sequence, Commit: cid}, nil
}
