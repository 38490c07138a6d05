package ipfs

import (
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Reach says whether the node may connect to an address. A peer says of itself where it
// listens, and could name any service that this machine can reach.
type Reach func(netip.AddrPort) bool

// peerGate decides with whom the node has connections. Bitswap tells everybody who is
// connected which blocks this node looks for, and gives blocks to everybody who names
// their CIDs: so strangers are turned away when they have shown who they are, before they
// can open a stream.
//
// The same holds for connections that the node opens: Bitswap dials whoever it has heard of.
// Of a peer that the node was told, it dials only the addresses that it was told: libp2p
// would also dial what the peer says of itself once it is connected.
type peerGate struct {
	below connmgr.ConnectionGater // Kubo's own, from its address filters
	open  bool                    // strangers may connect
	local bool                    // strangers may be on this machine; else they are not dialled there

	mu    sync.RWMutex
	told  map[peer.ID]places
	reach Reach // nil allows every address that was told
}

// places are where a peer may be dialled.
type places struct {
	addrs map[netip.AddrPort]bool
	ports map[uint16]bool // at whatever address a DNS name has
}

var _ connmgr.ConnectionGater = (*peerGate)(nil)

// option puts the gate in front of the one that Kubo has configured. libp2p takes one only.
func (g *peerGate) option(c *libp2p.Config) error {
	g.below, c.ConnectionGater = c.ConnectionGater, g
	return nil
}

// set replaces the peers.
func (g *peerGate) set(peers map[peer.ID]peer.AddrInfo, reach Reach) {
	told := make(map[peer.ID]places, len(peers))
	for id, p := range peers {
		at := places{map[netip.AddrPort]bool{}, map[uint16]bool{}}
		for _, a := range p.Addrs {
			if addr, ok := tcpAddr(a); ok {
				at.addrs[addr] = true
			} else if port, ok := dnsPort(a); ok {
				at.ports[port] = true
			}
		}
		told[id] = at
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told, g.reach = told, reach
}

// admits says whether the node may have a connection to a peer.
func (g *peerGate) admits(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, told := g.told[p]
	return told || g.open
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *peerGate) InterceptPeerDial(p peer.ID) bool {
	return g.admits(p) && (g.below == nil || g.below.InterceptPeerDial(p))
}

// InterceptAddrDial implements connmgr.ConnectionGater. DNS names are resolved by now.
func (g *peerGate) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	if g.below != nil && !g.below.InterceptAddrDial(p, a) {
		return false
	}
	g.mu.RLock()
	at, told := g.told[p]
	reach := g.reach
	g.mu.RUnlock()
	addr, ok := tcpAddr(a)
	if !told {
		// In the public network, whoever answers a search may name any address.
		return g.open && (g.local || !ok || !onThisMachine(addr.Addr()))
	}
	if !ok {
		return false
	}
	return (at.addrs[addr] || at.ports[addr.Port()]) && (reach == nil || reach(addr))
}

// InterceptAccept implements connmgr.ConnectionGater.
func (g *peerGate) InterceptAccept(c network.ConnMultiaddrs) bool {
	return g.below == nil || g.below.InterceptAccept(c)
}

// InterceptSecured implements connmgr.ConnectionGater.
func (g *peerGate) InterceptSecured(d network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return g.admits(p) && (g.below == nil || g.below.InterceptSecured(d, p, c))
}

// InterceptUpgraded implements connmgr.ConnectionGater. The peer may have been dropped
// since InterceptSecured.
func (g *peerGate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if !g.admits(c.RemotePeer()) {
		return false, 0
	}
	if g.below == nil {
		return true, 0
	}
	return g.below.InterceptUpgraded(c)
}

// tcpAddr is the address and port of a multiaddress that is no more than these.
func tcpAddr(a ma.Multiaddr) (netip.AddrPort, bool) {
	if len(a) != 2 || a[1].Protocol().Code != ma.P_TCP {
		return netip.AddrPort{}, false
	}
	n, err := manet.ToNetAddr(a)
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddrPort(n.String())
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), err == nil
}

// dnsPort is the port of a multiaddress of a DNS name and a port.
func dnsPort(a ma.Multiaddr) (uint16, bool) {
	if len(a) != 2 || a[1].Protocol().Code != ma.P_TCP {
		return 0, false
	}
	switch a[0].Protocol().Code {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		raw := a[1].RawValue() // two bytes, big-endian
		return uint16(raw[0])<<8 | uint16(raw[1]), true
	}
	return 0, false
}

func onThisMachine(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast()
}
