package fs

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// commitPart reads a part of a commit: the block that a link of its directory names.
func commitPart(ctx context.Context, store Store, commit CID, links []Link, name string) (CID, []byte, error) {
	for _, l := range links {
		if l.Name == name {
			b, err := store.Get(ctx, l.CID)
			if err != nil {
				err = fmt.Errorf("%s of commit %s, block %s: %w", name, commit, l.CID, err)
			}
			return l.CID, b, err
		}
	}
	return CID{}, nil, fmt.Errorf("commit %s has no %s: %w", commit, name, ErrIntegrity)
}

// commitLinks reads the directory of a commit.
func commitLinks(ctx context.Context, store Store, commit CID) ([]Link, error) {
	b, err := store.Get(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit, err)
	}
	links, err := decodeLinks(b)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w: %w", commit, ErrIntegrity, err)
	}
	return links, nil
}

// learnLog lets the identity see the log that stands beside a head. What it cannot use it
// leaves; whether the head is good its signature tells.
func learnLog(ctx context.Context, cfg *Config, log []byte) {
	if err := cfg.Identity.TakeLog(ctx, log); err != nil && cfg.Log != nil {
		cfg.Log.Warn("the DID's log of a commit is not used", "error", err)
	}
}

// learnNotes gives the identity what it keeps in a keyring.
func learnNotes(ctx context.Context, cfg *Config, keys *vaultKeys) {
	ring, err := crypt.DecodeKeyring(keys.keyring)
	if err != nil {
		return // it was decoded before
	}
	notes, err := ring.OpenNotes(keys.key)
	if err == nil && notes != nil {
		err = cfg.Identity.TakeNotes(ctx, notes)
	}
	if err != nil && cfg.Log != nil {
		cfg.Log.Warn("the notes of a keyring are not used", "error", err)
	}
}

// wrap makes the keyring of an epoch, with the notes of the identity.
func wrap(ctx context.Context, id Identity, vault crypt.VaultID, epoch uint64, key *crypt.VaultKey, recipients [][]byte) (*vaultKeys, error) {
	ring, err := crypt.WrapKey(vault, epoch, key, recipients)
	if err != nil {
		return nil, err
	}
	notes, err := id.Notes(ctx)
	if err != nil {
		return nil, fmt.Errorf("what the identity keeps in the keyring: %w", err)
	}
	if notes != nil {
		ring.SealNotes(key, notes)
	}
	b := ring.Encode()
	return &vaultKeys{id: vault, epoch: epoch, key: key, keyring: b, keyringCID: crypt.Sum(crypt.Raw, b)}, nil
}

// sameOwner tells whether two DIDs are of one subject: a did:webvh keeps its second part,
// which certifies itself, wherever it moves.
func sameOwner(a, b string) bool {
	const webvh = "did:webvh:"
	if !strings.HasPrefix(a, webvh) || !strings.HasPrefix(b, webvh) {
		return a == b
	}
	x, _, _ := strings.Cut(a[len(webvh):], ":")
	y, _, _ := strings.Cut(b[len(webvh):], ":")
	return x == y && x != ""
}

// Evidence is what a commit shows to somebody who can open its keyring and knows nothing
// else yet, not even whose vault it is. Nothing but the seal is verified: whoever knows
// the history of the DID has to judge Claim before anything is done with the commit.
type Evidence struct {
	Name       CommitName
	Head       HeadInfo
	Epoch      uint64
	DID        string
	Log        []byte // the DID document, or its log
	LogVersion string
	Notes      []byte
	Claim      CommitClaim

	head    *crypt.Head
	headCID CID
	key     *crypt.VaultKey
	keyring []byte
}

// Examine opens the head of a commit with keys that are not of a session, such as those of
// a recovery phrase. crypt.ErrNotRecipient.
func Examine(ctx context.Context, store Store, open crypt.Opener, name CommitName, commit CID) (*Evidence, error) {
	links, err := commitLinks(ctx, store, commit)
	if err != nil {
		return nil, err
	}
	ringCID, ring, err := commitPart(ctx, store, commit, links, "keyring")
	if err != nil {
		return nil, err
	}
	k, err := crypt.DecodeKeyring(ring)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	key, err := k.Unwrap(ctx, open)
	if err != nil {
		return nil, err
	}
	ev := &Evidence{Name: name, Epoch: k.Epoch, key: key, keyring: ring}
	headCID, h, msg, sig, err := openHead(ctx, store, commit, links, key)
	if err != nil {
		return nil, err
	}
	ev.headCID = headCID
	if h.Keyring != ringCID || h.Vault != k.Vault || h.Epoch != k.Epoch {
		return nil, fmt.Errorf("commit %s: another vault's keyring stands beside the head: %w", commit, ErrIntegrity)
	}
	log, b, err := commitPart(ctx, store, commit, links, "did")
	if err != nil {
		return nil, err
	}
	if log != h.Log {
		return nil, fmt.Errorf("commit %s: another DID document stands beside the head: %w", commit, ErrIntegrity)
	}
	if ev.Notes, err = k.OpenNotes(key); err != nil {
		return nil, fmt.Errorf("commit %s: %w: %w", commit, ErrIntegrity, err)
	}
	ev.head = h
	ev.Name = CommitName{Vault: h.Vault.String(), Device: h.Device, Sequence: h.Sequence}
	ev.Head = HeadInfo{Device: h.Device, Sequence: h.Sequence, Commit: commit, Time: time.Unix(0, h.Time)}
	ev.DID, ev.Log, ev.LogVersion = h.DID, b, h.LogVersion
	ev.Claim = CommitClaim{Device: h.Device, Version: h.LogVersion, At: ev.Head.Time, Message: msg, Signature: sig}
	return ev, nil
}

// Whole gets the blocks that Rewrap goes on from: a commit without them cannot be taken over,
// whatever its head says.
func (e *Evidence) Whole(ctx context.Context, store Store) error {
	for _, c := range []CID{e.head.Root.Node, e.head.Root.CID} {
		if _, err := store.Get(ctx, c); err != nil {
			return fmt.Errorf("commit %s: the vault's page: %w", e.Head.Commit, err)
		}
	}
	return nil
}

// openHead opens the sealed head of a commit and returns what its device has signed. The
// signature is not verified: that is part of judging the head.
func openHead(ctx context.Context, store Store, commit CID, links []Link, key *crypt.VaultKey) (cid CID, h *crypt.Head, msg, sig []byte, err error) {
	cid, sealed, err := commitPart(ctx, store, commit, links, "head")
	if err != nil {
		return cid, nil, nil, nil, err
	}
	h, err = crypt.OpenHead(ctx, sealed, key, func(_ context.Context, _ string, m, s []byte) error {
		msg, sig = bytes.Clone(m), bytes.Clone(s)
		return nil
	})
	if err == nil {
		err = plausible(h, time.Now())
	}
	if err != nil {
		return cid, nil, nil, nil, fmt.Errorf("head of commit %s: %w: %w", commit, ErrIntegrity, err)
	}
	return cid, h, msg, sig, nil
}
