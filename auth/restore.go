package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// A phrase alone does not tell its identity: a DID with a history is known from its log.
// Await keeps the phrase until the log is found; Restore makes the identity of both.

// OpenWrapped opens what was sealed to the recovery key of the phrase, or to the device
// that was made with it. ErrNotRecipient.
func (p *Phrase) OpenWrapped(_ context.Context, info, sealed []byte) (plain []byte, err error) {
	for _, label := range []string{labelRecovery, labelAgreement} {
		seed, err := p.derive(label)
		if err != nil {
			return nil, err
		}
		plain, err = openHPKE(seed, info, sealed)
		seed.wipe()
		if err == nil {
			return plain, nil
		}
		if !errors.Is(err, ErrNotRecipient) {
			return nil, err
		}
	}
	return nil, ErrNotRecipient
}

// Await makes a keystore that has the phrase of an identity that is not found yet. A login
// gives ErrAwaits until Restore.
func Await(ctx context.Context, cfg InitConfig) error {
	if cfg.Phrase == nil {
		return fmt.Errorf("no phrase to wait with: %w", ErrInvalid)
	}
	release, err := makeDir(ctx, cfg.Dir)
	if err != nil {
		return err
	}
	defer release()
	c, err := deriveContents(cfg.Phrase)
	if err != nil {
		return err
	}
	defer c.wipe()
	c.name, c.extension = cfg.DeviceName, &extension{}
	if c.phrase, err = copySecret(cfg.Phrase.entropy.bytes()); err != nil {
		return err
	}
	return store(cfg, formatLog, &Identity{Device: Device{ID: deviceID(signingPublic(c.signing))}}, c, nil)
}

// Awaited returns the phrase with which a keystore waits for its identity. ErrConfirmed
// when it does not wait. Wipe it after use.
func Awaited(ctx context.Context, dir string, passphrase []byte) (*Phrase, error) {
	sum, err := Inspect(dir)
	if err != nil {
		return nil, err
	}
	if sum.DID != "" {
		return nil, ErrConfirmed
	}
	p, err := RecoveryPhrase(ctx, dir, passphrase)
	return p, enrols(err)
}

// Found is an identity as a commit, or another place that has its log, shows it.
type Found struct {
	DID   string
	Log   []byte // of a did:webvh
	Notes []byte // of the keyring
}

// Restore makes this machine a device of the identity of a phrase whose DID was found: one
// of its own, so that the machine of which the phrase was, if it is in use still, is another
// one. cfg.Dir may hold a keystore that waits for it, of the same passphrase. before, if it
// is given, is called with the keystore of the new device before it is put into place; an
// error leaves cfg.Dir as it was.
//
// ErrDevice: the document does not list the phrase's first device, or commits to no key of
// it, and only Recover helps. ErrExist, ErrPhrase: the phrase is of another did:key.
func Restore(ctx context.Context, cfg InitConfig, f Found, before func(dir string) error) (_ *Identity, err error) {
	if cfg.Phrase == nil {
		return nil, fmt.Errorf("no phrase to restore with: %w", ErrInvalid)
	}
	release, err := replaceDir(ctx, cfg.Dir, cfg.Passphrase)
	if err != nil {
		return nil, err
	}
	defer release()
	if f.Log != nil {
		return restoreDevice(ctx, cfg, f, before)
	}
	c, err := deriveContents(cfg.Phrase)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	id, err := identify(ctx, did.NewKey(), cfg.DeviceName, c)
	if err == nil && id.DID != f.DID {
		err = fmt.Errorf("the phrase makes %s, found was %s: %w", id.DID, f.DID, ErrPhrase)
	}
	if err != nil {
		return nil, err
	}
	id.Device.ID = newInstance(id.Device.ID)
	return id, store(cfg, formatFixed, id, c, nil)
}

// phraseDevice makes the first device of a phrase once more, in a new directory.
func phraseDevice(ctx context.Context, cfg InitConfig, f Found) (*Identity, error) {
	if err := safefile.MakePrivate(cfg.Dir); err != nil {
		return nil, fmt.Errorf("restoring: %w", err)
	}
	c, err := deriveContents(cfg.Phrase)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	l, err := verifyLog(ctx, f)
	if err != nil {
		return nil, err
	}
	doc, err := l.Document()
	if err != nil {
		return nil, err
	}
	if doc.Deactivated {
		return nil, fmt.Errorf("%s: %w", doc.ID, ErrDeactivated)
	}
	updates, err := cfg.Phrase.derive(labelUpdate)
	if err != nil {
		return nil, err
	}
	defer updates.wipe()
	c.extension = &extension{notes: f.Notes}
	if err := c.extension.findPublishing(cfg.Phrase, doc.ID); err != nil {
		return nil, err
	}
	id, err := enrolled(doc, cfg.DeviceName, c)
	if err != nil {
		return nil, err
	}
	if err := (logStore{cfg.Dir}).Save(ctx, webvh.ID{}, l.Bytes(), nil); err != nil {
		return nil, err
	}
	return id, store(cfg, formatLog, id, c, updates)
}

// ReadLog verifies a log as those of our identities are: all of it holds, and nobody but
// the holder of the recovery key has dropped that key, or given the DID up.
func ReadLog(ctx context.Context, log []byte) (*webvh.Log, error) {
	l, err := webvh.Rules().Verify(ctx, log, nil)
	if err == nil {
		err = l.Failure()
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// clockDoubt is how far ahead of this machine's clock an entry may be dated until it is
// the clock that is doubted, and not the entry.
const clockDoubt = 24 * time.Hour

// ReadLogPart is ReadLog for a recovery: entries at the end that do not hold count as not
// written, so that nobody can spoil a log by adding to it. ErrClock when it may be this
// machine's clock that is wrong: going on from before the owner's own last entry would
// make a second history.
func ReadLogPart(ctx context.Context, log []byte) (*webvh.Log, error) {
	l, err := webvh.Rules().Verify(ctx, log, nil)
	if err != nil {
		return nil, err
	}
	if at := l.Cut(); l.Failure() != nil && at.After(time.Now()) && time.Until(at) < clockDoubt {
		// The clock is in doubt only if the entry holds by a later one. Else anyone who hands
		// out the log could stop a recovery with a line that nobody has signed.
		later := webvh.Rules()
		later.Now = func() time.Time { return time.Now().Add(clockDoubt) }
		if more, err := later.Verify(ctx, log, nil); err == nil && more.Len() > l.Len() {
			return nil, fmt.Errorf("%w: %w", ErrClock, l.Failure())
		}
	}
	return l, nil
}

// verifyLog wants the log to be that of the DID.
func verifyLog(ctx context.Context, f Found) (*webvh.Log, error) {
	l, err := ReadLog(ctx, f.Log)
	if err == nil {
		err = isLogOf(l, f.DID)
	}
	if err != nil {
		return nil, fmt.Errorf("the log of %s: %w", f.DID, err)
	}
	return l, nil
}

func isLogOf(l *webvh.Log, id string) error {
	if got := "did:webvh:" + l.SCID(); id != "" && got != SelfCertifying(id) {
		return fmt.Errorf("it is that of %s: %w", got, did.ErrInvalid)
	}
	return nil
}

// findPublishing takes the publishing key out of the notes, or derives it where it is that
// of the phrase, which the DID's place tells.
//
// Notes that cannot be read count as none: a device that was lost may have written them, and
// nothing that it writes may stand in the way of a recovery.
func (x *extension) findPublishing(p *Phrase, id string) error {
	n, err := parseNotes(x.notes)
	if err != nil {
		n, x.notes = &notes{}, nil
	}
	for _, label := range []string{labelRecovery, labelAgreement} {
		seed, err := p.derive(label)
		if err != nil {
			return err
		}
		x.publishing, err = n.openPublishing(seed)
		seed.wipe()
		if err != nil {
			return err
		}
		if x.publishing != nil {
			break
		}
	}
	if _, err := publicOf(x.publishing, id); err == nil {
		return nil // what a keyring says is to be believed if it makes the DID's own name
	}
	own, err := p.derive(labelPublishing)
	if err != nil {
		return err
	}
	if _, err := publicOf(own, id); err != nil {
		own.wipe()
		return nil
	}
	defer own.wipe()
	return x.addPublishing(own)
}

// replaceDir is makeDir, but a keystore that waits may be there, of this passphrase.
func replaceDir(ctx context.Context, dir string, passphrase []byte) (func(), error) {
	if sum, err := Inspect(dir); err != nil || sum.DID != "" {
		return makeDir(ctx, dir)
	}
	release, err := lockDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	k, err := readKeystore(dir) // it may have changed since
	if err == nil && k.did != "" {
		err = fmt.Errorf("%s: %w", dir, ErrExist)
	}
	if err == nil {
		var master *secret
		if master, _, err = k.unlock(ctx, passphrase); err == nil {
			master.wipe()
		}
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// CommitsTo tells whether a log commits to the recovery key of the phrase, or ends with the
// version by which that key has given the DID up.
func (p *Phrase) CommitsTo(l *webvh.Log) bool {
	s, err := p.derive(labelRecover)
	if err != nil {
		return false
	}
	defer s.wipe()
	if commitsTo(l, s) == nil {
		return true
	}
	multi, err := did.Multikey(did.Ed25519, signingPublic(s))
	return err == nil && l.Params().Deactivated && slices.Contains(l.Signers(l.Len()), multi)
}

// Vouches tells whether a key that only the phrase has, or had, signed for the DID of a log:
// an entry of it, or the head of a commit. The claims are of commits whose heads name that
// DID. That a log names the phrase's keys proves nothing: they are public.
func (p *Phrase) Vouches(l *webvh.Log, claims []CommitClaim) bool {
	updates, err := p.derive(labelUpdate)
	if err != nil {
		return false
	}
	defer updates.wipe()
	var keys []*secret
	defer func() { wipeAll(keys) }()
	recovery, err := p.derive(labelRecover)
	if err != nil {
		return false
	}
	keys = append(keys, recovery)
	// The first key signs the first entry, if the DID was made with the phrase.
	first, err := updateKey(updates, 0)
	if err != nil {
		return false
	}
	keys = append(keys, first)
	own := map[string]bool{}
	for _, k := range keys {
		if multi, err := did.Multikey(did.Ed25519, signingPublic(k)); err == nil {
			own[multi] = true
		}
	}
	for n := 1; n <= l.Len(); n++ {
		if slices.ContainsFunc(l.Signers(n), func(k string) bool { return own[k] }) {
			return true
		}
	}
	signing, err := p.derive(labelSigning)
	if err != nil {
		return false
	}
	defer signing.wipe()
	public := signingPublic(signing)
	return slices.ContainsFunc(claims, func(c CommitClaim) bool {
		return checkPurpose(c.Message) == nil && len(c.Signature) == ed25519.SignatureSize && ed25519.Verify(public, c.Message, c.Signature)
	})
}

// MadeKey tells whether a document of a did:key is that of the phrase's signing key.
func (p *Phrase) MadeKey(doc *did.Document) bool {
	signing, err := p.derive(labelSigning)
	if err != nil {
		return false
	}
	defer signing.wipe()
	public := signingPublic(signing)
	return public.Equal(signingKey(doc, deviceID(public)))
}
