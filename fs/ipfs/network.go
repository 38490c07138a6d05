package ipfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/boxo/autoconf"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/config"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Network lets the embedded node speak to the peers it is told, and to no others: it asks
// nobody else who has what, tells nobody else what it has or looks for, and gives blocks to
// nobody else, wherever it listens.
type Network struct {
	// Listen are the multiaddrs where peers may connect; without any the node only dials.
	Listen []string
	// Upload and Download bound what goes over the connections that the node dials, all
	// together, in bytes a second; 0 is no bound.
	Upload, Download int
	// Public lets the node join the network of all IPFS nodes too, as one that asks: IPNS
	// names are found and published there. It announces what is pinned in it and nothing
	// else, so no block of a vault. Strangers may connect then; who knows the CID of a block
	// can get that block, which is ciphertext, and sees which blocks the node looks for.
	Public bool
	// Bootstrap are the nodes by which it joins, as multiaddrs that end in /p2p/ID; none
	// stands for those that Kubo knows.
	Bootstrap []string

	serves bool // it keeps records for others; for tests
}

// Check refuses addresses that Kubo would fail at much later: fs.ErrInvalid.
func (n *Network) Check() error {
	for _, a := range n.Listen {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			return fmt.Errorf("address %q to listen at: %w: %w", a, fs.ErrInvalid, err)
		}
		if _, err := m.ValueForProtocol(ma.P_TCP); err != nil || len(m) != 2 {
			return fmt.Errorf("address %q to listen at, which is not like /ip4/0.0.0.0/tcp/4001: %w", a, fs.ErrInvalid)
		}
	}
	_, err := parsePeers(n.Bootstrap)
	return err
}

// apply is harden's other half: what the node needs to give and get blocks.
func (n *Network) apply(c *config.Config) {
	if n == nil {
		return
	}
	onlyOurTransport(&c.Swarm.Transports)
	c.Addresses.Swarm = append([]string{}, n.Listen...)
	c.Bitswap.ServerEnabled = config.True
	c.Bitswap.Libp2pEnabled = config.True
	// All peers are there for our blocks: ask each of them.
	if c.Internal.Bitswap == nil {
		c.Internal.Bitswap = &config.InternalBitswap{}
	}
	c.Internal.Bitswap.BroadcastControl = &config.BitswapBroadcastControl{Enable: config.False}
	if n.Public {
		n.join(c)
	}
}

// join is what the node needs to find names and to be found.
func (n *Network) join(c *config.Config) {
	c.Routing.Type = config.NewOptionalString("dhtclient")
	if n.serves {
		c.Routing.Type = config.NewOptionalString("dhtserver")
	}
	c.Bootstrap = slices.Clone(n.Bootstrap)
	if len(c.Bootstrap) == 0 && !n.serves {
		c.Bootstrap = slices.Clone(autoconf.FallbackBootstrapPeers)
	}
	// A network whose entries are all on this machine is one for trying out.
	c.Routing.LoopbackAddressesOnLanDHT = config.False
	if n.onlyLocal() {
		c.Routing.LoopbackAddressesOnLanDHT = config.True
	}
	c.Provide.Enabled = config.True
	c.Provide.Strategy = config.NewOptionalString("pinned")
	c.Provide.DHT.SweepEnabled = config.False // made for many blocks; for these few it dawdles
	// Who is behind a router is reached through others.
	c.Swarm.Transports.Network.Relay = config.True
	c.Swarm.RelayClient.Enabled = config.True
	c.Swarm.EnableHolePunching = config.True
}

// onlyLocal says whether the public network that the node joins is all on this machine.
func (n *Network) onlyLocal() bool {
	return n.serves || len(n.Bootstrap) > 0 && !slices.ContainsFunc(n.Bootstrap, func(a string) bool { return !onLoopback(a) })
}

func onLoopback(addr string) bool {
	m, err := ma.NewMultiaddr(addr)
	return err == nil && manet.IsIPLoopback(m)
}

// parsePeers reads multiaddrs that end in /p2p/ID and joins those of one peer.
func parsePeers(addrs []string) (map[peer.ID]peer.AddrInfo, error) {
	out := make(map[peer.ID]peer.AddrInfo)
	for _, a := range addrs {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return nil, fmt.Errorf("address of a peer %q: %w: %w", a, fs.ErrInvalid, err)
		}
		have := out[info.ID]
		have.ID = info.ID
		have.Addrs = append(have.Addrs, info.Addrs...)
		out[info.ID] = have
	}
	return out, nil
}

// maxPeers is how many peers the node stays connected with: no fleet that keeps copies of
// one drive is as large.
const maxPeers = 128

// SetPeers names the peers that the node dials and stays connected with, by multiaddrs
// that end in /p2p/ID. One that is an ID alone may connect to us, and is not dialled. It
// does not wait for them. Others are let go. What cannot be used is left out, and logged:
// one peer must not hide the others. Peers are dialled where reach allows it; nil allows
// every address that is given. fs.ErrNotSupported: the node was opened without a Network.
func (e *Embedded) SetPeers(addrs []string, reach Reach) error {
	if e.conf.Network == nil {
		return fmt.Errorf("an offline node has no peers: %w", fs.ErrNotSupported)
	}
	told, bad := usablePeers(addrs)
	delete(told, e.node.Identity)
	e.logUnusable(bad)
	e.peers.set(told, reach)
	want := make(map[peer.ID]peer.AddrInfo)
	for id, p := range told {
		if len(p.Addrs) > 0 && len(want) < maxPeers {
			want[id] = p
		}
	}
	for _, have := range e.node.Peering.ListPeers() {
		w, ok := want[have.ID]
		if !ok {
			e.node.Peering.RemovePeer(have.ID)
			continue
		}
		if sameAddrs(have.Addrs, w.Addrs) {
			delete(want, have.ID)
		}
	}
	e.dropStrangers()
	for _, p := range want {
		e.node.Peering.AddPeer(p)
		e.dial(p)
	}
	return nil
}

// dropStrangers ends the connections to peers that the node may not have any more.
func (e *Embedded) dropStrangers() {
	for _, c := range e.node.PeerHost.Network().Conns() {
		if !e.peers.admits(c.RemotePeer()) {
			c.Close() //nolint:errcheck // it is gone either way
		}
	}
}

// usablePeers reads what it can of multiaddrs that end in /p2p/ID, and joins those of one
// peer.
func usablePeers(addrs []string) (peers map[peer.ID]peer.AddrInfo, bad []string) {
	peers = make(map[peer.ID]peer.AddrInfo)
	for _, a := range addrs {
		one, err := parsePeers([]string{a})
		if err != nil {
			bad = append(bad, a)
			continue
		}
		for id, p := range one {
			p.Addrs = append(peers[id].Addrs, p.Addrs...)
			peers[id] = p
		}
	}
	return peers, bad
}

// logUnusable tells of addresses that cannot be used, once.
func (e *Embedded) logUnusable(bad []string) {
	slices.Sort(bad)
	e.unusable.Lock()
	defer e.unusable.Unlock()
	if !slices.Equal(bad, e.unusable.last) && len(bad) > 0 {
		e.conf.Log.Warn("addresses of peers that cannot be used", "addresses", bad[:min(len(bad), 5)], "number", len(bad))
	}
	e.unusable.last = bad
}

// firstDial bounds the first try to connect; the node goes on trying by itself.
const firstDial = 10 * time.Second

// dial connects at once: the node's own first try comes after some seconds.
func (e *Embedded) dial(p peer.AddrInfo) {
	leave, err := e.gate.enter()
	if err != nil {
		return // closed
	}
	go func() { // ends with Close
		defer leave()
		ctx, cancel := context.WithTimeout(e.life, firstDial)
		defer cancel()
		if err := e.node.PeerHost.Connect(ctx, p); err != nil && !errors.Is(err, context.Canceled) { // else the node is being closed
			e.conf.Log.Warn("connecting to a peer", "peer", p.ID, "error", err)
		}
	}()
}

// Redial connects at once to those peers of SetPeers that there is no connection to: after
// some failures the node's own next try may be minutes away.
func (e *Embedded) Redial() {
	if e.conf.Network == nil {
		return
	}
	net := e.node.PeerHost.Network()
	for _, p := range e.node.Peering.ListPeers() {
		if net.Connectedness(p.ID) == network.Connected {
			continue
		}
		if s, ok := net.(*swarm.Swarm); ok {
			s.Backoff().Clear(p.ID)
		}
		e.dial(p)
	}
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x ma.Multiaddr) bool {
		return !slices.ContainsFunc(b, x.Equal)
	})
}

// Connected is how many of the peers of SetPeers the node has a connection to.
func (e *Embedded) Connected() (n int) {
	if e.conf.Network == nil {
		return 0
	}
	for _, p := range e.node.Peering.ListPeers() {
		if e.node.PeerHost.Network().Connectedness(p.ID) == network.Connected {
			n++
		}
	}
	return n
}

// Addresses are where peers can dial this node, as multiaddrs that end in /p2p/ID; none
// when it does not listen.
func (e *Embedded) Addresses() []string {
	if e.conf.Network == nil || len(e.conf.Network.Listen) == 0 {
		return nil
	}
	all, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: e.node.Identity, Addrs: e.node.PeerHost.Addrs()})
	if err != nil { // an id of ours is never malformed
		e.conf.Log.Error("addresses of the IPFS node", "error", err)
		return nil
	}
	out := make([]string, len(all))
	for i, a := range all {
		out[i] = a.String()
	}
	return out
}

// fetch asks the peers for a block and keeps it. It takes the place of a damaged one.
func (e *Embedded) fetch(ctx context.Context, c fs.CID, k cid.Cid) ([]byte, error) {
	b, err := e.node.Exchange.GetBlock(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("asking peers for block %s: %w", c, meaning(err))
	}
	if !c.Verify(b.RawData()) {
		return nil, fmt.Errorf("block %s from a peer: %w", c, fs.ErrIntegrity)
	}
	if err := e.blocks.Put(ctx, b); err != nil {
		e.conf.Log.Warn("keeping a block from a peer", "cid", c, "error", err)
	}
	return b.RawData(), nil
}
