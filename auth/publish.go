package auth

import (
	"context"
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
