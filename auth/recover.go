package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// Recover takes an identity back with its phrase, after the loss of its devices: the
// recovery key signs a new version of the document that lists one device, a new one in
// cfg.Dir, and commits to that device's next key and to the recovery key of a new phrase.
// All other devices, and the old phrase, are of no use from then on. The new phrase is in
// the identity that is returned, and in the keystore until ConfirmPhrase.
//
// f is the newest there is of the identity; a keystore may wait for it in cfg.Dir. The
// document's services and other names stay. ErrPhrase: the log commits to the recovery key
// of another phrase. ErrDeactivated, ErrExist, did.ErrNotSupported: of a did:key.
func Recover(ctx context.Context, cfg InitConfig, f Found) (_ *Identity, err error) {
	if cfg.Phrase == nil {
		return nil, fmt.Errorf("no phrase to recover with: %w", ErrInvalid)
	}
	if f.Log == nil {
		return nil, did.Want(did.NewKey(), did.CanRecover)
	}
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
	old, err := cfg.Phrase.derive(labelRecover)
	if err != nil {
		return nil, err
	}
	defer old.wipe()
	if err := commitsTo(l, old); err != nil {
		return nil, err
	}
	release, err := replaceDir(ctx, cfg.Dir, cfg.Passphrase)
	if err != nil {
		return nil, err
	}
	defer release()

	phrase, err := NewPhrase()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			phrase.Wipe()
		}
	}()
	c, err := deriveContents(phrase)
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	updates, err := phrase.derive(labelUpdate)
	if err != nil {
		return nil, err
	}
	defer updates.wipe()
	c.extension = &extension{notes: f.Notes}
	if err := c.extension.findPublishing(cfg.Phrase, doc.ID); err != nil {
		return nil, err
	}
	next, err := changeOf(doc)
	if err != nil {
		return nil, err
	}
	next.Keys = []did.Key{deviceKey(signingPublic(c.signing))}
	if next.NextKeys, err = nextKeys(updates, 0); err != nil {
		return nil, err
	}
	if err := commitNext(&next, deviceID(signingPublic(c.signing)), next.NextKeys); err != nil {
		return nil, err
	}
	if next.Recovery, err = phrase.recoverPublic(); err != nil {
		return nil, err
	}
	if err := c.extension.moveTo(phrase, l, doc.ID, &next); err != nil {
		return nil, err
	}
	// In memory first: what was begun and not finished must not stand in the way.
	memory := webvh.NewMemory()
	if err := memory.Save(ctx, l.Last().ID, l.Bytes(), nil); err != nil {
		return nil, err
	}
	m := webvh.New(webvh.Config{Verifier: webvh.Rules(), Store: memory})
	if doc, err = m.Recover(ctx, doc.ID, next, seedSigner{old}); err != nil {
		return nil, fmt.Errorf("recovering %s: %w", f.DID, err)
	}
	log, err := memory.Log(ctx, l.Last().ID)
	if err != nil {
		return nil, err
	}
	id, err := enrolled(doc, cfg.DeviceName, c)
	if err != nil {
		return nil, err
	}
	if c.phrase, err = copySecret(phrase.entropy.bytes()); err != nil {
		return nil, err
	}
	if err := (logStore{cfg.Dir}).Save(ctx, webvh.ID{}, log, nil); err != nil {
		return nil, err
	}
	id.Phrase = phrase
	return id, store(cfg, formatLog, id, c, updates)
}

// commitsTo wants a log to commit to a recovery key. ErrPhrase.
func commitsTo(l *webvh.Log, recovery *secret) error {
	multi, err := did.Multikey(did.Ed25519, signingPublic(recovery))
	if err != nil {
		return err
	}
	if slices.Contains(webvh.RecoveryHashes(l.Params().NextKeyHashes), webvh.HashKey(multi)) {
		return nil
	}
	return fmt.Errorf("version %s of %s commits to the recovery key of another phrase: %w", l.Last().VersionID, l.Last().ID, ErrPhrase)
}

// changeOf is the change that changes nothing: what a document lists. Keys of other kinds
// than devices are left out.
func changeOf(doc *did.Document) (did.Change, error) {
	c := did.Change{Services: slices.Clone(doc.Services)}
	for _, k := range doc.KeysFor(did.Authentication) {
		public, err := k.Ed25519()
		if err != nil {
			return c, fmt.Errorf("key %s: %w", k.ID, err)
		}
		c.Keys = append(c.Keys, keysOf(public, grantOf(doc, public))...)
	}
	var top struct {
		AlsoKnownAs []string `json:"alsoKnownAs"`
	}
	if err := json.Unmarshal(doc.Raw(), &top); err != nil {
		return c, fmt.Errorf("document of %s: %v: %w", doc.ID, err, did.ErrInvalid)
	}
	c.AlsoKnownAs = top.AlsoKnownAs
	return c, nil
}
