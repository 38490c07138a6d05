package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// ErrNoName: the identity has no key for publishing, or its DID is at another place.
var ErrNoName = fmt.Errorf("the identity has no IPNS name: %w", did.ErrNotSupported)

// ipnsPurpose begins what a record of IPNS signs (specification of IPNS records, version 2).
const ipnsPurpose = "ipns-signature:"

// NameOf is the IPNS name that a DID has for its domain, as `did:webvh:…:NAME.ipns.GATEWAY`;
// false where it has another one. It names the key that signs for the place, and so the
// gateway does not count.
func NameOf(id string) (string, bool) {
	if !hasHistory(id) {
		return "", false
	}
	parsed, err := webvh.ParseID(id)
	if err != nil {
		return "", false
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(parsed.BaseURL(), "https://"), "/")
	name, rest, ok := strings.Cut(host, ".")
	return name, ok && strings.HasPrefix(name, "k51") && strings.HasPrefix(rest, "ipns.")
}

// PublishedName is the IPNS name of a phrase's own publishing key: that of the first DID
// which was made with it, as long as the DID has not moved.
func (p *Phrase) PublishedName() (string, error) {
	seed, err := p.derive(labelPublishing)
	if err != nil {
		return "", err
	}
	defer seed.wipe()
	return ipnsName(signingPublic(seed))
}

// PublishingKey is the public key of the IPNS name that the identity's DID has for its
// domain. ErrNoName.
func (s *Session) PublishingKey(ctx context.Context) (public []byte, err error) {
	err = s.withKeys(ctx, func() error {
		if s.keys.publishing == nil {
			return fmt.Errorf("no key: %w", ErrNoName)
		}
		public = signingPublic(s.keys.publishing)
		own, err := ipnsName(public)
		if err != nil {
			return err
		}
		if name, ok := NameOf(s.did); !ok || name != own {
			return fmt.Errorf("%s is published at another place: %w", s.did, ErrNoName)
		}
		return nil
	})
	return public, err
}

// SignName signs the record of an IPNS name with the publishing key, and nothing else:
// ErrPurpose.
func (s *Session) SignName(ctx context.Context, msg []byte) (sig []byte, err error) {
	if !bytes.HasPrefix(msg, []byte(ipnsPurpose)) {
		return nil, fmt.Errorf("not the record of an IPNS name: %w", ErrPurpose)
	}
	err = s.withKeys(ctx, func() error {
		if s.keys.publishing == nil {
			return fmt.Errorf("no key: %w", ErrNoName)
		}
		sig = sign(s.keys.publishing, msg)
		return nil
	})
	return sig, err
}

// PublishingKey is Session.PublishingKey.
func (c *Client) PublishingKey(ctx context.Context) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opPublishing})
	if err != nil {
		return nil, err
	}
	if len(resp.Data) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a publishing key of %d bytes: %w", len(resp.Data), ErrInvalid)
	}
	return resp.Data, nil
}

// SignName is Session.SignName.
func (c *Client) SignName(ctx context.Context, msg []byte) ([]byte, error) {
	resp, err := c.call(ctx, &request{Op: opSignName, Data: msg})
	if err != nil {
		return nil, err
	}
	return resp.Data, nil
}

// PresentDID is a DID as the log that lies in dir has it now: it may have moved.
func PresentDID(ctx context.Context, dir, id string) string {
	if l, err := LogMethod(dir).Newest(ctx, id); err == nil {
		return l.Last().ID.String()
	}
	return id
}

// At tells whether a DID is at a domain, written as in a DID.
func At(id, domain string) bool { return strings.HasSuffix(id, ":"+domain) && hasHistory(id) }

// Move gives the DID another place, a domain as it stands in a DID ("example.com:ada"), and
// keeps the former one under alsoKnownAs. Nobody finds the new place before its log lies
// there.
func Move(ctx context.Context, dir string, passphrase []byte, domain string) (*did.Document, error) {
	return Update(ctx, dir, passphrase, func(_ *did.Document, next *did.Change) error {
		next.Location = domain
		return nil
	})
}
