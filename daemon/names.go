package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/auth/login"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// nameWait is how long a log is looked for under an IPNS name.
const nameWait = 30 * time.Second

// ErrNoNetwork: IPNS names need a node that is part of the network of IPFS nodes.
var ErrNoNetwork = errors.New("no IPFS node here joins the public network")

// openNames reaches the network of names: by the user's own node, or by the embedded one
// while it runs, if it joins. ErrNoNetwork.
func openNames(h Home, c Config) (*ipfs.Names, error) {
	if c.IPFS != "" {
		secret, err := c.ipfsAuthorization()
		if err != nil {
			return nil, err
		}
		return ipfs.OpenNames(c.IPFS, secret)
	}
	if !c.Network.Public {
		return nil, ErrNoNetwork
	}
	if _, err := os.Stat(h.IPFSSocket()); err != nil {
		return nil, fmt.Errorf("the embedded node does not run: %w: %w", fs.ErrUnavailable, err)
	}
	return ipfs.OpenNames(h.IPFSSocket(), "")
}

// nameSource is the log of a DID whose domain is an IPNS name, as the node finds it. The
// gateway that the domain names has no part in it.
type nameSource struct{ names *ipfs.Names }

var _ webvh.Source = nameSource{}

// Log implements webvh.Source.
func (s nameSource) Log(ctx context.Context, id webvh.ID) ([]byte, error) {
	return s.read(ctx, id, id.LogURL(), webvh.MaxLog)
}

// Witness implements webvh.Source.
func (s nameSource) Witness(ctx context.Context, id webvh.ID) ([]byte, error) {
	return s.read(ctx, id, id.WitnessURL(), webvh.MaxWitness)
}

func (s nameSource) read(ctx context.Context, id webvh.ID, place string, limit int64) ([]byte, error) {
	name, ok := auth.NameOf(id.String())
	if !ok {
		return nil, fmt.Errorf("%s has no IPNS name: %w", id, did.ErrNotFound)
	}
	u, err := url.Parse(place)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", place, did.ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	b, err := s.names.Read(ctx, name, u.Path, limit)
	if err != nil {
		return nil, fmt.Errorf("IPNS name of %s: %w: %w", id, did.ErrUnavailable, err)
	}
	return b, nil
}

// logSources are the places to ask for the log of a DID: IPNS as far as there is a node
// for it, and HTTPS as the specification has it. None is trusted. The caller calls close.
func logSources(h Home, c Config) (list []webvh.Source, closeAll func()) {
	closeAll = func() {}
	if names, err := openNames(h, c); err == nil {
		list, closeAll = append(list, nameSource{names}), names.Close
	}
	return append(list, webvh.NewHTTP(webvh.HTTPConfig{Transport: c.foreign()})), closeAll
}

// remembered keeps the logs of other people's DIDs, so that an older one is refused from
// then on; where there is no place for it, they are forgotten.
func remembered(h Home) webvh.Store {
	if h.State == "" {
		return webvh.NewMemory()
	}
	d, err := login.NewDir(h.stateFile("dids"))
	if err != nil {
		return webvh.NewMemory()
	}
	return d
}

// published tells whether a log is where all can see it: only then is it asked for there,
// for who asks tells who is interested.
func published(h Home, id string) bool {
	if _, ok := auth.NameOf(id); !ok {
		return true // at a domain of the owner's
	}
	p, err := ReadPublication(h)
	return err == nil && p != nil
}

// namedLogs are the IPNS names under which a search for an identity looks, besides that
// of the phrase.
func namedLogs(domains ...string) []string {
	var out []string
	for _, d := range domains {
		if name, ok := auth.NameOf("did:webvh:" + anySCID + ":" + d); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
