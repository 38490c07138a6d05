package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// The publishing keys of an identity. A record of an IPNS name can be outbid for ever by
// anybody who has its key: of two records the one with the higher number counts, and numbers
// end. So a device that is revoked must not have the key of the name that counts from then
// on: `device revoke` and `recover` move the DID to the name of a fresh key. The keys of
// former names are kept, so that whoever knows an old name finds the newest log there too, as
// long as nobody outbids it.
//
// The seeds stand one behind the other in one secret. Which of them is the present one the
// DID's place tells, so that a keystore that was written before its new version of the
// document holds the right keys, whatever came of that version.

// namesMax is how many seeds are kept: the newest, and the first, which the phrase derives.
const namesMax = 7

// eachSeed calls use with every seed of a secret of several, until it says true.
func eachSeed(seeds *secret, use func(*secret) (bool, error)) error {
	for i := 0; seeds != nil && i+seedSize <= len(seeds.bytes()); i += seedSize {
		s, err := copySecret(seeds.bytes()[i : i+seedSize])
		if err != nil {
			return err
		}
		done, err := use(s)
		s.wipe()
		if done || err != nil {
			return err
		}
	}
	return nil
}

// withSeed puts a seed in front of the others. What is there already is not there twice, and
// of too many the first and the newest stay.
func withSeed(first, others *secret) (*secret, error) {
	list := [][]byte{first.bytes()}
	_ = eachSeed(others, func(s *secret) (bool, error) {
		if !slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, s.bytes()) }) {
			list = append(list, bytes.Clone(s.bytes()))
		}
		return false, nil
	})
	defer func() {
		for _, b := range list[1:] {
			clear(b)
		}
	}()
	for len(list) > namesMax {
		clear(list[namesMax-1])
		list = slices.Delete(list, namesMax-1, namesMax) // the last one is the phrase's
	}
	all, err := newSecret(len(list) * seedSize)
	if err != nil {
		return nil, err
	}
	for i, b := range list {
		copy(all.bytes()[i*seedSize:], b)
	}
	return all, nil
}

// publicOf are the public keys of seeds: that of the name which a DID has for its domain
// first. ErrNoName when none of them is.
func publicOf(seeds *secret, id string) ([][]byte, error) {
	want, ok := NameOf(id)
	var now, former [][]byte
	err := eachSeed(seeds, func(s *secret) (bool, error) {
		public := signingPublic(s)
		name, err := ipnsName(public)
		if ok && name == want {
			now = append(now, public)
		} else {
			former = append(former, public)
		}
		return false, err
	})
	if err != nil {
		return nil, err
	}
	if len(now) == 0 {
		return nil, fmt.Errorf("%s is published at another place: %w", id, ErrNoName)
	}
	return append(now, former...), nil
}

// newPlace is the location of a DID when it moves to the name of another key, at the same
// gateway; false where the DID is at a domain of its owner's.
func newPlace(id string, seed *secret) (string, bool) {
	old, ok := NameOf(id)
	if !ok {
		return "", false
	}
	name, err := ipnsName(signingPublic(seed))
	if err != nil {
		return "", false
	}
	_, place, ok := strings.Cut(strings.TrimPrefix(id, "did:webvh:"), ":")
	return strings.Replace(place, old, name, 1), ok
}

// rename moves the DID to the name of a fresh key, if it has a name of a key here and may
// move. It tells whether it does; the keys are in the contents then, and must be in the
// keystore before the document is written.
func rename(l *webvh.Log, doc *did.Document, next *did.Change, c *contents) (bool, error) {
	if c.extension == nil || !l.Params().Portable || next.Location != "" {
		return false, nil
	}
	if _, err := publicOf(c.extension.publishing, doc.ID); err != nil {
		return false, nil // at a domain of the owner's, or not ours to publish
	}
	fresh, err := newSecret(seedSize)
	if err != nil {
		return false, err
	}
	defer fresh.wipe()
	rand.Read(fresh.bytes())
	place, ok := newPlace(doc.ID, fresh)
	if !ok {
		return false, nil
	}
	next.Location = place
	return true, c.extension.addPublishing(fresh)
}

// addPublishing puts a seed in front of those that the identity has.
func (x *extension) addPublishing(seed *secret) error {
	all, err := withSeed(seed, x.publishing)
	if err != nil {
		return err
	}
	x.publishing.wipe()
	x.publishing = all
	return nil
}

// learnPublishing takes over seeds that another device has drawn: those whose names the log
// has had. What a keyring says is not to be trusted, but a key that makes the DID's own name
// can only be that name's.
func (s *Session) learnPublishing(n *notes) error {
	seeds, err := func() (*secret, error) {
		s.keys.RLock()
		defer s.keys.RUnlock()
		if s.keys.agreement == nil {
			return nil, ErrClosed
		}
		return n.openPublishing(s.keys.agreement)
	}()
	if err != nil || seeds == nil {
		return err
	}
	defer seeds.wipe()
	s.document.Lock()
	var names []string
	if s.document.past != nil {
		for _, id := range s.document.past.IDs() {
			if name, ok := NameOf(id); ok {
				names = append(names, name)
			}
		}
	}
	s.document.Unlock()
	s.keys.Lock()
	defer s.keys.Unlock()
	if s.keys.signing == nil {
		return ErrClosed
	}
	return eachSeed(seeds, func(seed *secret) (bool, error) {
		name, err := ipnsName(signingPublic(seed))
		if err != nil || !slices.Contains(names, name) || hasSeed(s.keys.publishing, seed) {
			return false, err
		}
		all, err := withSeed(seed, s.keys.publishing)
		if err != nil {
			return false, err
		}
		s.keys.publishing.wipe()
		s.keys.publishing = all
		return false, nil
	})
}

func hasSeed(seeds, seed *secret) (has bool) {
	_ = eachSeed(seeds, func(s *secret) (bool, error) {
		has = has || bytes.Equal(s.bytes(), seed.bytes())
		return false, nil
	})
	return has
}

// PublishingKeys are the DID as it is now and the public keys under whose IPNS names its log
// is to be found: first that of the name which the DID has for its domain, then those of
// former names. ErrNoName.
func (s *Session) PublishingKeys(ctx context.Context) (id string, keys [][]byte, err error) {
	doc, err := s.newest(ctx)
	if err != nil {
		return "", nil, err
	}
	err = s.withKeys(ctx, func() error {
		keys, err = publicOf(s.keys.publishing, doc.ID)
		return err
	})
	return doc.ID, keys, err
}

// SignName signs the record of an IPNS name with one of the publishing keys, and nothing
// else: ErrPurpose. ErrNoName: it is no key of the identity's.
func (s *Session) SignName(ctx context.Context, public, msg []byte) (sig []byte, err error) {
	if !bytes.HasPrefix(msg, []byte(ipnsPurpose)) {
		return nil, fmt.Errorf("not the record of an IPNS name: %w", ErrPurpose)
	}
	err = s.withKeys(ctx, func() error {
		return eachSeed(s.keys.publishing, func(seed *secret) (bool, error) {
			if !signingPublic(seed).Equal(ed25519.PublicKey(public)) {
				return false, nil
			}
			sig = sign(seed, msg)
			return true, nil
		})
	})
	if err == nil && sig == nil {
		err = fmt.Errorf("no such key: %w", ErrNoName)
	}
	return sig, err
}

// PublishingKeys is Session.PublishingKeys.
func (c *Client) PublishingKeys(ctx context.Context) (id string, keys [][]byte, err error) {
	resp, err := c.call(ctx, &request{Op: opPublishing})
	if err != nil {
		return "", nil, err
	}
	for _, k := range resp.List {
		if len(k) != ed25519.PublicKeySize {
			return "", nil, fmt.Errorf("a publishing key of %d bytes: %w", len(k), ErrInvalid)
		}
	}
	if len(resp.List) == 0 {
		return "", nil, fmt.Errorf("the agent has no publishing key: %w", ErrNoName)
	}
	return resp.Version, resp.List, nil
}

// SignName is Session.SignName.
func (c *Client) SignName(ctx context.Context, public, msg []byte) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opSignName, Data: msg, Extra: public})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

// moveTo moves a DID that has an IPNS name for its domain, and may move, to the name that a
// phrase derives: the phrase alone finds it there, and nobody who had the former key can
// outbid it.
func (x *extension) moveTo(p *Phrase, l *webvh.Log, id string, next *did.Change) error {
	if next.Location != "" {
		return nil // at a domain that the owner names
	}
	seed, err := p.derive(labelPublishing)
	if err != nil {
		return err
	}
	defer seed.wipe()
	place, ok := newPlace(id, seed)
	if !ok || !l.Params().Portable {
		return nil
	}
	next.Location = place
	return x.addPublishing(seed)
}
