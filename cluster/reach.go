package cluster

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// A peer says of itself at which addresses its IPFS node listens, and our node connects
// there. So a peer could make it knock on anything that this machine reaches: a router's
// page, a database on loopback. What is believed depends on where Egress itself is. An
// endpoint that its owner configured on this machine may speak of peers on this machine; one
// in a private network, of peers in private networks; one in the Internet, only of others
// there.

// scope is how near an address is. Who is near may name what is near.
type scope int32

const (
	scopeNone    scope = iota // nothing to dial, for anybody
	scopePublic               // the Internet
	scopePrivate              // private networks, whose addresses others have too
	scopeHere                 // this machine
)

// shared is 100.64.0.0/10, which providers and overlay networks use as a private range.
var shared = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)

// scopeOf is the scope of an address. Any address of one of this machine's interfaces is
// this machine.
func scopeOf(a netip.Addr) scope {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return scopeNone
	case a.IsLoopback():
		return scopeHere
	case a.IsLinkLocalUnicast(): // clouds give out their machines' credentials at one of these
		return scopeNone
	case ours(a):
		return scopeHere
	case a.IsPrivate() || shared.Contains(a):
		return scopePrivate
	}
	return scopePublic
}

// ours says whether an interface of this machine has an address.
func ours(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// place is where an endpoint is.
type place struct {
	fixed scope        // of an endpoint whose address says so
	port  uint16       // of an endpoint on this machine; 0 for a socket
	path  string       // of a socket
	seen  atomic.Int32 // scope of the address that a DNS name turned out to have
	addr  netip.Addr   // fixed is of it
	proxy func() bool  // whether a proxy stands between, whose address says nothing
}

func (p *place) scope() scope {
	if p.fixed != scopeNone {
		return p.fixed
	}
	return max(scope(p.seen.Load()), scopePublic)
}

// newPlace tells what the URL of an endpoint says of where it is.
func newPlace(u *url.URL) *place {
	p := &place{}
	if u.Scheme == "unix" {
		p.fixed, p.path = scopeHere, u.Path
		return p
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	}
	p.port = uint16(port)
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		p.addr, p.fixed = a.Unmap(), max(scopeOf(a), scopePublic)
	} else if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		p.fixed = scopeHere
	}
	p.proxy = func() bool {
		via, err := http.ProxyFromEnvironment(&http.Request{URL: u})
		return err != nil || via != nil
	}
	return p
}

// dial connects to the endpoint, or to the proxy before it.
func (p *place) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: connectTime}).DialContext(ctx, network, addr)
	if err == nil {
		p.connected(c.RemoteAddr())
	}
	return c, err
}

// connected remembers the address of an endpoint that is a DNS name.
func (p *place) connected(to net.Addr) {
	if p.fixed != scopeNone || p.proxy != nil && p.proxy() {
		return
	}
	if a, ok := to.(*net.TCPAddr); ok {
		p.seen.Store(int32(scopeOf(a.AddrPort().Addr())))
	}
}

// near is how near the nearest endpoint is: all are of one cluster.
func (c *Client) near() scope {
	n := scopePublic
	for _, e := range c.endpoints {
		n = max(n, e.place.scope())
	}
	return n
}

// Reach says whether a peer may be dialled at an address: nothing nearer than an endpoint
// of the cluster; and on this machine, nothing that another user serves than the one who
// serves the endpoint.
func (c *Client) Reach(a netip.AddrPort) bool {
	if a.Port() == 0 || !c.names(a.Addr()) {
		return false
	}
	if scopeOf(a.Addr()) != scopeHere {
		return true
	}
	for _, e := range c.endpoints {
		switch p := e.place; {
		case p.scope() != scopeHere:
		case p.port == a.Port():
			return false // it serves HTTP
		case sameServer(p, a):
			return true
		}
	}
	return false
}

// names says whether the cluster may name an address at all.
func (c *Client) names(a netip.Addr) bool {
	s := scopeOf(a)
	return s != scopeNone && s <= c.near()
}

const (
	maxAddrs   = 16  // of one peer that are dialled
	maxAddr    = 400 // bytes of an address: a DNS name, a port and an ID
	maxNameLen = 100 // runes of a peer's name or version
)

// reachable are those of a peer's addresses that can be dialled over TCP, of the kinds and
// ranges that the cluster may name, with the peer's ID at their end. What it does not
// understand it leaves out. The last is the ID alone: the peer may connect to us, wherever
// it is.
func (c *Client) reachable(id string, addrs []string) []string {
	if id == "" {
		return nil
	}
	var out []string
	for _, s := range addrs {
		s, ok := strings.CutSuffix(s, "/p2p/"+id)
		if !ok && strings.Contains(s, "/p2p/") || len(s) > maxAddr { // a relay, or another peer
			continue
		}
		if s += "/p2p/" + id; c.dials(s) && !slices.Contains(out, s) {
			if out = append(out, s); len(out) == maxAddrs {
				break
			}
		}
	}
	return append(out, "/p2p/"+id)
}

// dials says whether an address is of TCP, and of a range that the cluster may name. DNS
// names are looked at when they are dialled, by Reach.
func (c *Client) dials(s string) bool {
	part := strings.Split(s, "/") // "", kind, host, "tcp", port, "p2p", id
	if len(part) != 7 || part[0] != "" || part[3] != "tcp" {
		return false
	}
	if port, err := strconv.ParseUint(part[4], 10, 16); err != nil || port == 0 {
		return false
	}
	switch part[1] {
	case "ip4", "ip6":
		a, err := netip.ParseAddr(part[2])
		return err == nil && a.Is4() == (part[1] == "ip4") && a.Zone() == "" && c.names(a)
	case "dns", "dns4", "dns6":
		return part[2] != ""
	}
	return false
}

// tidy bounds what a peer says of itself, and leaves out what cannot be used.
func (c *Client) tidy(p *wirePeer) {
	p.Name, p.Version = cut(plain(p.Name), maxNameLen), cut(plain(p.Version), maxNameLen)
	p.Error, p.IPFS.Error = plain(p.Error), plain(p.IPFS.Error)
	if !isPeerID(p.IPFS.ID) {
		p.IPFS.ID = ""
	}
	p.IPFS.Addresses = c.reachable(p.IPFS.ID, p.IPFS.Addresses)
	p.Sees = p.Sees[:min(len(p.Sees), maxPeers)]
}

func cut(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes]) + "…"
	}
	return s
}

// isPeerID says whether a text can be an ID of a peer: letters and digits. Whoever uses it
// looks closer.
func isPeerID(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
