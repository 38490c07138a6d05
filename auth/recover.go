package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// keptServices is how many bytes of services a recovery keeps.
const keptServices = 16 << 10

// Recover takes an identity back with its phrase, after the loss of its devices: the
// recovery key signs a new version of the document that lists one device, a new one in
// cfg.Dir, and commits to that device's next key and to the recovery key of a new phrase.
// All other devices, and the old phrase, are of no use from then on. The new phrase is in
// the identity that is returned, and in the keystore until ConfirmPhrase.
//
// f is the newest there is of the identity; a keystore may wait for it in cfg.Dir. Whatever
// was written before, by whoever held an update key, does not stand in the way: an entry
// that does not hold counts as not written, and the new document is made from nothing. Of
// the newest document it keeps the services that AddService could have written; of the last
// one that nobody but the owner can have written, the place of the DID and its other names.
// It stays where a device has moved it if that is cfg.Domain: the owner vouches for it.
//
// ErrPhrase: the log commits to the recovery key of another phrase. ErrClock,
// ErrDeactivated, ErrExist, did.ErrNotSupported: of a did:key.
func Recover(ctx context.Context, cfg InitConfig, f Found) (_ *Identity, err error) {
	if cfg.Phrase == nil {
		return nil, fmt.Errorf("no phrase to recover with: %w", ErrInvalid)
	}
	if f.Log == nil {
		return nil, did.Want(did.NewKey(), did.CanRecover)
	}
	l, err := ReadLogPart(ctx, f.Log)
	if err == nil {
		err = isLogOf(l, f.DID)
	}
	if err != nil {
		return nil, fmt.Errorf("the log of %s: %w", f.DID, err)
	}
	if l.Params().Deactivated {
		return nil, fmt.Errorf("%s: %w", l.Last().ID, ErrDeactivated)
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
	if err := c.extension.findPublishing(cfg.Phrase, l.VouchedID().String()); err != nil {
		return nil, err
	}
	next := cleanChange(l)
	next.Keys = []did.Key{deviceKey(signingPublic(c.signing))}
	if cfg.Domain != "" && At(l.Last().ID.String(), cfg.Domain) {
		next.Location = cfg.Domain
	}
	if next.NextKeys, err = nextKeys(updates, 0); err != nil {
		return nil, err
	}
	if err := commitNext(&next, deviceID(signingPublic(c.signing)), next.NextKeys); err != nil {
		return nil, err
	}
	if next.Recovery, err = phrase.recoverPublic(); err != nil {
		return nil, err
	}
	if err := c.extension.moveTo(phrase, l, l.VouchedID().String(), &next); err != nil {
		return nil, err
	}
	// In memory first: what was begun and not finished must not stand in the way.
	memory := webvh.NewMemory()
	if err := memory.Save(ctx, l.Last().ID, l.Bytes(), nil); err != nil {
		return nil, err
	}
	m := webvh.New(webvh.Config{Verifier: webvh.Rules(), Store: memory})
	doc, err := m.Recover(ctx, l.Last().ID.String(), next, seedSigner{old})
	if err != nil {
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

// cleanChange is what a recovery keeps of a log whose newest entries may be a thief's.
//
// Other names say that another DID is the same person, so only the owner's own entries are
// believed. Services come from the newest document, because devices add them, but only in
// the form of AddService: with any other one, such as "#files", a thief would go on to
// decide where others look for the owner's files.
func cleanChange(l *webvh.Log) did.Change {
	var c did.Change
	if doc, err := l.DocumentAt(l.Vouched()); err == nil {
		c.AlsoKnownAs = otherNames(doc)
	}
	doc, err := l.Document()
	if err != nil {
		return c
	}
	// A recovery must not take much of the room that the next one needs.
	room := min(keptServices, l.Room()/64)
	for _, s := range doc.Services {
		var endpoint string
		if json.Unmarshal(s.Endpoint, &endpoint) != nil || checkEndpoint(endpoint) != nil ||
			s.ID != doc.ID+serviceFragment(endpoint) || len(s.Type) > serviceTypeMax {
			continue
		}
		size := len(s.Endpoint) + len(s.Type) + len(s.ID)
		if room -= size; room < 0 || len(c.Services) == servicesMax {
			break
		}
		c.Services = append(c.Services, did.Service{ID: serviceFragment(endpoint), Type: s.Type, Endpoint: s.Endpoint})
	}
	return c
}

// otherNames are the other names of a document, without those that the DID has had at other
// places: those the log knows, and who writes an entry adds them.
func otherNames(doc *did.Document) []string {
	return slices.DeleteFunc(slices.Clone(doc.AlsoKnownAs), func(n string) bool {
		return hasHistory(n) && SelfCertifying(n) == SelfCertifying(doc.ID)
	})
}

// changeOf is the change that changes nothing: what a document lists, as this program
// writes it. What has no place in that form is left out, and never an error: a document
// that holds can be changed, whoever wrote it.
func changeOf(doc *did.Document) did.Change {
	c := did.Change{AlsoKnownAs: otherNames(doc)}
	seen := map[string]bool{} // two keys could be made to have the same short name
	for _, k := range doc.KeysFor(did.Authentication) {
		public, err := k.Ed25519()
		if err != nil || seen[deviceID(public)] {
			continue
		}
		seen[deviceID(public)] = true
		c.Keys = append(c.Keys, keysOf(public, grantOf(doc, public))...)
	}
	for _, s := range doc.Services {
		if len(s.Endpoint) > 0 {
			c.Services = append(c.Services, s)
		}
	}
	return c
}
