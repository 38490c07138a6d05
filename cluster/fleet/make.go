package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	defaultCluster = "ipfscloud-egress"
	defaultGroup   = "default"
	maxPeers       = 64
	maxSocketPath  = 100 // the kernel's limit is 107 bytes
)

// newState is the state of a fleet that does not exist yet.
func newState(cluster string) *state {
	return &state{Format: stateFormat, Cluster: cluster, Created: time.Now().UTC(), Group: defaultGroup}
}

// apply brings what a caller wants into the state.
func (s *state) apply(c *Config) error {
	if c.Listen != "" {
		s.Place.Listen, s.Place.Announce = c.Listen, ""
	}
	if c.Announce != "" {
		s.Place.Announce = c.Announce
	}
	if c.APIListen != "" {
		s.Place.APIListen = c.APIListen
	}
	if err := s.Place.settle(); err != nil {
		return err
	}
	s.TLS = s.TLS || c.TLS || !loopback(s.Place.APIListen)
	s.TrustAll = s.TrustAll || c.TrustAll
	if c.Group != "" {
		s.Group = c.Group
	}
	switch {
	case c.Timing != nil:
		s.Timing = *c.Timing
	case s.Timing == (Timing{}) && s.Place.loopback():
		s.Timing = Local()
	case s.Timing == (Timing{}):
		s.Timing = Wide()
	}
	if c.Peers < 0 || c.Peers > maxPeers {
		return fmt.Errorf("%w: %d peers; at most %d on one machine", ErrConfig, c.Peers, maxPeers)
	}
	if c.Peers != 0 && c.Peers < len(s.Nodes) {
		return fmt.Errorf("%w: %d peers wanted, and there are %d: a node with its copies is not dropped like this",
			ErrConfig, c.Peers, len(s.Nodes))
	}
	return errors.Join(checkName(s.Group), checkName(c.nodeName(1)), s.Timing.check())
}

// nodeName is the name of the n-th node.
func (c *Config) nodeName(n int) string {
	switch {
	case c.Name == "":
		return fmt.Sprintf("node%d", n)
	case c.Peers == 1:
		return c.Name
	}
	return fmt.Sprintf("%s%d", c.Name, n)
}

// grow makes the nodes that are missing.
func (s *state) grow(ctx context.Context, dir string, c *Config) error {
	storage := c.Storage
	if storage == 0 {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			return os.NewSyscallError("statfs", err)
		}
		free := fs.Bavail * uint64(fs.Bsize) //nolint:gosec // a block size is positive
		storage = free / 10 * 8 / uint64(max(1, c.Peers-len(s.Nodes)))
	}
	first := len(s.Nodes)
	made := make([]nodeState, max(0, c.Peers-first))
	errs := make([]error, len(made))
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			n := &made[i]
			n.Name, n.Storage = c.nodeName(first+i+1), storage
			n.Peer, n.IPFS, errs[i] = makeNode(ctx, filepath.Join(dir, n.Name), &c.Binaries)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("make the nodes: %w", err)
	}
	if first == 0 && len(made) > 0 {
		made[0].Ports = c.Ports
		if c.Ports == (Ports{}) && !s.Place.loopback() {
			made[0].Ports = realPorts()
		}
	}
	s.Nodes = append(s.Nodes, made...)
	return nil
}

// makeNode makes the directory of a node: all of it or nothing. One that is there already
// keeps its identities and its copies.
func makeNode(ctx context.Context, dir string, b *Binaries) (peer, ipfs string, err error) {
	if _, err := os.Stat(dir); err == nil {
		return nodeIDs(dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", "", err
	}
	if err = safefile.MakeDir(filepath.Join(tmp, clusterDir)); err == nil {
		err = makeRepo(ctx, b.IPFS, tmp)
	}
	if err == nil {
		err = makePeer(ctx, b.ClusterService, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return "", "", errors.Join(err, os.RemoveAll(tmp))
	}
	return nodeIDs(dir)
}

func nodeIDs(dir string) (peer, ipfs string, err error) {
	var id struct{ ID string }
	var conf struct{ Identity struct{ PeerID string } }
	err = errors.Join(
		readJSON(filepath.Join(dir, clusterDir, "identity.json"), &id),
		readJSON(filepath.Join(dir, repoDir, "config"), &conf))
	return id.ID, conf.Identity.PeerID, err
}

// settle writes the settings of all nodes.
func (f *Fleet) settle() error {
	for i, n := range f.state.Nodes {
		kubo, peer, err := f.settings(i)
		if err != nil {
			return err
		}
		dir := filepath.Join(f.dir, n.Name)
		if err := errors.Join(settleRepo(dir, kubo), settlePeer(dir, peer)); err != nil {
			return err
		}
	}
	return nil
}

// settings are those of one node.
func (f *Fleet) settings(i int) (*kuboSettings, *peerSettings, error) {
	s, n := f.state, &f.state.Nodes[i]
	socket := f.socketOf(n.Name)
	kubo := &kuboSettings{
		socket: socket, storage: n.Storage,
		listen: tcp(s.Place.Listen, n.Ports.Swarm), announce: tcp(s.Place.Announce, n.Ports.Swarm),
	}
	peer := &peerSettings{
		name: n.Name, cluster: s.Cluster, secret: f.credentials.Secret, credentials: f.credentials,
		listen: tcp(s.Place.Listen, n.Ports.Cluster), announce: tcp(s.Place.Announce, n.Ports.Cluster),
		api: tcp(s.Place.APIListen, n.Ports.API), socket: socket,
		group: s.Group, timing: &s.Timing, trusted: s.trusted(),
	}
	s.others(n.Name, func(id string, cluster []string, ipfs kuboPeer) {
		for _, a := range cluster {
			peer.peers = append(peer.peers, a+"/p2p/"+id)
		}
		kubo.peers = append(kubo.peers, ipfs)
	})
	var err error
	if s.TLS {
		peer.cert, peer.key, err = certificate(f.dir, apiHosts(&s.Place))
	}
	return kubo, peer, err
}

// trusted are the peers whose changes of the pin set count.
func (s *state) trusted() []string {
	if s.TrustAll {
		return []string{"*"}
	}
	ids := slices.Clone(s.Trusted)
	for _, n := range s.Nodes {
		ids = append(ids, n.Peer)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// others calls fn for each known node but the one named.
func (s *state) others(self string, fn func(peer string, cluster []string, ipfs kuboPeer)) {
	for _, n := range s.Nodes {
		if n.Name != self {
			fn(n.Peer, []string{tcp(s.Place.Announce, n.Ports.Cluster)},
				kuboPeer{ID: n.IPFS, Addrs: []string{tcp(s.Place.Announce, n.Ports.Swarm)}})
		}
	}
	for _, r := range s.Remote {
		fn(r.Peer, r.Cluster, kuboPeer{ID: r.IPFS, Addrs: r.IPFSAddrs})
	}
}

// apiHosts are the names under which the API is called.
func apiHosts(p *place) []string {
	return slices.Compact([]string{dialable(p.APIListen), "localhost", p.Announce})
}
