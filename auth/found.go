package auth

import (
	"context"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// An identity of did:webvh has devices, each with a signing key in the document, a key of
// agreement that it vouches for itself, and update keys of its own. Every version of the
// document commits to the next update key of each device, and to the recovery key, which
// the phrase alone has.

// deviceKey is how a document lists a device.
func deviceKey(public []byte) did.Key {
	return did.Key{
		Fragment: deviceID(public), Type: did.Ed25519, Public: public,
		Relationships: []did.Relationship{did.Authentication, did.AssertionMethod},
	}
}

// found makes a did:webvh with one device, whose keys the contents hold.
func found(ctx context.Context, method did.Method, cfg InitConfig, p *Phrase, c *contents, updates *secret) (*Identity, error) {
	return foundAs(ctx, method, cfg, p, c, updates)
}

// foundAs is found with other names of the identity.
func foundAs(ctx context.Context, method did.Method, cfg InitConfig, p *Phrase, c *contents, updates *secret, names ...string) (*Identity, error) {
	var err error
	c.extension = &extension{}
	if c.extension.publishing, err = p.derive(labelPublishing); err != nil {
		return nil, err
	}
	genesis := did.Change{Keys: []did.Key{deviceKey(signingPublic(c.signing))}, Location: cfg.Domain, AlsoKnownAs: names}
	if genesis.Location == "" {
		if genesis.Location, err = location(c.extension.publishing); err != nil {
			return nil, err
		}
	}
	if genesis.Recovery, err = p.recoverPublic(); err != nil {
		return nil, err
	}
	first, err := updateKey(updates, 0)
	if err != nil {
		return nil, err
	}
	defer first.wipe()
	next, err := nextKeys(updates, 1)
	if err != nil {
		return nil, err
	}
	if err := commitNext(&genesis, deviceID(signingPublic(c.signing)), next); err != nil {
		return nil, err
	}
	doc, err := method.Create(ctx, genesis, seedSigner{first})
	if err != nil {
		return nil, fmt.Errorf("making a did:%s: %w", method.Name(), err)
	}
	return enrolled(doc, cfg.DeviceName, c)
}

// enrolled completes the contents of a device that a document lists, and lets the device
// speak of itself.
func enrolled(doc *did.Document, name string, c *contents) (*Identity, error) {
	id, err := listed(doc, name, c)
	if err != nil {
		return nil, err
	}
	n, err := parseNotes(c.extension.notes)
	if err != nil {
		return nil, err
	}
	s, err := newStatement(doc.ID, name, c.signing, c.agreement)
	if err != nil {
		return nil, err
	}
	n.add(*s)
	n.recovery = c.recovery
	if err := n.seal(doc, c.extension.publishing); err != nil {
		return nil, err
	}
	c.extension.notes = n.encode()
	return id, nil
}

// nextKeys is the public update key with a number, as a change wants it.
func nextKeys(updates *secret, number uint64) ([][]byte, error) {
	next, err := updateKey(updates, number)
	if err != nil {
		return nil, err
	}
	defer next.wipe()
	return [][]byte{signingPublic(next)}, nil
}

// committed finds the number of the update key that a log has committed to: the next one
// to be used. ErrDevice when it commits to none of this seed's.
func committed(l *webvh.Log, updates *secret) (uint64, error) {
	want := make(map[string]bool)
	for _, h := range l.Params().NextKeyHashes {
		want[h] = true
	}
	// Each key signs an entry, so there are no more of them than entries.
	for n := uint64(0); n <= uint64(l.Len()); n++ {
		keys, err := nextKeys(updates, n)
		if err != nil {
			return 0, err
		}
		multi, err := did.Multikey(did.Ed25519, keys[0])
		if err != nil {
			return 0, err
		}
		if want[webvh.HashKey(multi)] {
			return n, nil
		}
	}
	return 0, fmt.Errorf("version %s commits to no update key of this device: %w", l.Last().VersionID, ErrDevice)
}

// recoverPublic is the key that signs a recovery.
func (p *Phrase) recoverPublic() ([]byte, error) {
	s, err := p.derive(labelRecover)
	if err != nil {
		return nil, err
	}
	defer s.wipe()
	return signingPublic(s), nil
}
