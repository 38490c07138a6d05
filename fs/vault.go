package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// vaultKeys is what opens a vault: the key of its epoch and the keyring that holds it.
type vaultKeys struct {
	id         crypt.VaultID
	epoch      uint64
	key        *crypt.VaultKey
	keyring    []byte
	keyringCID CID
}

// commitInfo names a commit that is linked.
type commitInfo struct {
	sequence uint64
	device   string
	head     CID
	commit   CID
	time     time.Time
	pointer  crypt.PagePointer // of the vault page
}

func (c *commitInfo) info() HeadInfo {
	return HeadInfo{Device: c.device, Sequence: c.sequence, Commit: c.commit, Time: c.time}
}

// HeadInfo is what a verified head tells.
type HeadInfo struct {
	Device   string
	Sequence uint64
	Commit   CID
	Time     time.Time
	Bytes    int64 // of the changes that are new in it, about; 0 if unknown
}

// Found is a vault that the identity can open.
type Found struct {
	Vault string
	Head  HeadInfo
}

// unwrap opens a stored keyring.
func unwrap(ctx context.Context, id Identity, ring []byte) (*vaultKeys, error) {
	k, err := crypt.DecodeKeyring(ring)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	key, err := k.Unwrap(ctx, id.OpenWrapped)
	if err != nil {
		return nil, err
	}
	return &vaultKeys{id: k.Vault, epoch: k.Epoch, key: key, keyring: ring, keyringCID: crypt.Sum(crypt.Raw, ring)}, nil
}

// loadedHead is a head that verified, with where it was found.
type loadedHead struct {
	name   CommitName
	commit CID
	cid    CID
	head   *crypt.Head
	keys   *vaultKeys

	msg, sig []byte // what the device signed
}

// loadHead fetches and verifies the head of a commit, which claims to follow one of the
// time after.
func loadHead(ctx context.Context, cfg *Config, name CommitName, after time.Time) (*loadedHead, error) {
	commit, err := cfg.Store.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return loadCommit(ctx, cfg, name, commit, after, false)
}

// loadCommit is loadHead for a commit directory; a sequence of 0 in the name is any. past
// is for a commit that nobody takes for the newest state; see CommitClaim.
func loadCommit(ctx context.Context, cfg *Config, name CommitName, commit CID, after time.Time, past bool) (*loadedHead, error) {
	links, err := commitLinks(ctx, cfg.Store, commit)
	if err != nil {
		return nil, err
	}
	part := func(name string) (CID, []byte, error) { return commitPart(ctx, cfg.Store, commit, links, name) }
	logCID, log, err := part("did")
	if err != nil {
		return nil, err
	}
	learnLog(ctx, cfg, log) // also from a commit that is not for us any more
	ringCID, ring, err := part("keyring")
	if err != nil {
		return nil, err
	}
	opens := ring
	if cfg.At != nil && cfg.At.Commit == commit && cfg.At.Keyring != nil {
		opens = cfg.At.Keyring
	}
	keys, err := unwrap(ctx, cfg.Identity, opens)
	if err != nil {
		return nil, fmt.Errorf("keyring of commit %s: %w", commit, err)
	}
	learnNotes(ctx, cfg, keys)
	headCID, h, msg, sig, err := openHead(ctx, cfg.Store, commit, links, keys.key)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Keyring != ringCID || h.Vault != keys.id || h.Epoch != keys.epoch:
		err = errors.New("another vault's keyring stands beside the head")
	case h.Log != logCID:
		err = errors.New("another DID document stands beside the head")
	case !sameOwner(h.DID, cfg.Identity.DID()):
		err = fmt.Errorf("the head belongs to %s", h.DID)
	case h.Vault.String() != name.Vault || h.Device != name.Device || name.Sequence != 0 && h.Sequence != name.Sequence:
		err = fmt.Errorf("the head is %s's number %d", h.Device, h.Sequence)
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s at %s: %w: %w", commit, name.Path(), ErrIntegrity, err)
	}
	l := &loadedHead{name: name, commit: commit, cid: headCID, head: h, keys: keys, msg: msg, sig: sig}
	return l, l.judge(ctx, cfg, after, past)
}

// judge asks whether the device may have made the commit; see the function of that name.
func (l *loadedHead) judge(ctx context.Context, cfg *Config, after time.Time, past bool) error {
	if err := judge(ctx, cfg.Identity, l.head, l.msg, l.sig, after, past); err != nil {
		return fmt.Errorf("commit %s at %s: %w", l.commit, l.name.Path(), err)
	}
	return nil
}

func (l *loadedHead) info() HeadInfo {
	return HeadInfo{Device: l.head.Device, Sequence: l.head.Sequence, Commit: l.commit, Time: time.Unix(0, l.head.Time)}
}

// Inspect verifies the head of a commit that was found outside the store, like Adopt, and
// tells what it is without linking it. The sequence in the name does not count. after is the
// time of the newest commit with a lower sequence that has been found, or zero.
func Inspect(ctx context.Context, store Store, id Identity, name CommitName, commit CID, after time.Time) (HeadInfo, error) {
	name.Sequence = 0
	l, err := loadCommit(ctx, &Config{Store: store, Identity: id}, name, commit, after, false)
	if err != nil {
		return HeadInfo{}, err
	}
	return l.info(), nil
}

// Adopt verifies a commit that was found outside the store, for example in the list of
// pins of a cluster, and links it there. Its blocks are read through the store, which must
// be able to fetch them. crypt.ErrNotRecipient: it is another identity's. after is as for
// Inspect.
func Adopt(ctx context.Context, store Store, id Identity, name CommitName, commit CID, after time.Time) (Found, error) {
	l, err := loadCommit(ctx, &Config{Store: store, Identity: id}, name, commit, after, false)
	if err != nil {
		return Found{}, err
	}
	if _, err := store.Get(ctx, l.head.Root.CID); err != nil { // it must lie in the store to be linked
		return Found{}, fmt.Errorf("the vault's page: %w", err)
	}
	if err := store.Link(ctx, name, commit, []CID{commit, l.cid, l.head.Root.CID}); err != nil {
		return Found{}, fmt.Errorf("linking commit %d: %w", name.Sequence, err)
	}
	return Found{Vault: name.Vault, Head: l.info()}, nil
}

// Discover lists the vaults in a store that an identity can open: all that a restore from
// the recovery phrase has to go by.
func Discover(ctx context.Context, store Store, id Identity) ([]Found, error) {
	names, err := store.Commits(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing the store's vaults: %w", err)
	}
	cfg := &Config{Store: store, Identity: id}
	var out []Found
	done := map[string]bool{}
	var last error
	for _, n := range slices.Backward(names) {
		if done[n.Vault] {
			continue
		}
		l, err := loadHead(ctx, cfg, n, time.Time{})
		if err != nil {
			if !errors.Is(err, crypt.ErrNotRecipient) {
				last = err
			}
			continue
		}
		done[n.Vault] = true
		out = append(out, Found{Vault: n.Vault, Head: l.info()})
	}
	if len(out) == 0 && last != nil {
		return nil, last
	}
	return out, nil
}
