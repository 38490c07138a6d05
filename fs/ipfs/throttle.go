package ipfs

import (
	"context"
	"net"

	"github.com/ipfs/kubo/config"
	kubolibp2p "github.com/ipfs/kubo/core/node/libp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

// maxPiece is the most that goes through a bound at once, in bytes.
const maxPiece = 64 << 10

// hostOption makes the node speak TCP alone, over connections that keep to the bounds, with
// the peers that a gate admits.
func (n *Network) hostOption(gate *peerGate) kubolibp2p.HostOption {
	d := &throttle{up: limiter(n.Upload), down: limiter(n.Download)}
	return func(id peer.ID, ps peerstore.Peerstore, options ...libp2p.Option) (host.Host, error) {
		tcpTransport := func(u transport.Upgrader, rcmgr network.ResourceManager, shared *tcpreuse.ConnMgr) (*tcp.TcpTransport, error) {
			if d.up == nil && d.down == nil {
				return tcp.NewTCPTransport(u, rcmgr, shared)
			}
			return tcp.NewTCPTransport(throttledUpgrader{u, d}, rcmgr, shared,
				tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return d, nil }))
		}
		return kubolibp2p.DefaultHostOption(id, ps, append(options, libp2p.Transport(tcpTransport), gate.option)...)
	}
}

// onlyOurTransport turns Kubo's own transports off.
func onlyOurTransport(t *config.Transports) {
	off := config.False
	t.Network.TCP, t.Network.Websocket, t.Network.QUIC = off, off, off
	t.Network.WebTransport, t.Network.WebRTCDirect, t.Network.Relay = off, off, off
}

// limiter lets n bytes pass a second; nil for no bound.
func limiter(n int) *rate.Limiter {
	if n <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), piece(n))
}

// piece is how much goes through a bound at once: little enough that it does not wait
// for longer than those who write allow.
func piece(perSecond int) int { return max(1024, min(maxPiece, perSecond/4)) }

// throttle dials and accepts connections that share two bounds.
type throttle struct{ up, down *rate.Limiter }

// DialContext implements tcp.ContextDialer.
func (d *throttle) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return d.bind(c), nil
}

func (d *throttle) bind(c net.Conn) net.Conn {
	life, end := context.WithCancel(context.Background())
	return &throttledConn{Conn: c, throttle: d, life: life, end: end}
}

// throttledUpgrader is where connections that peers open come by.
type throttledUpgrader struct {
	transport.Upgrader
	throttle *throttle
}

func (u throttledUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return u.Upgrader.UpgradeGatedMaListener(t, throttledListener{l, u.throttle})
}

type throttledListener struct {
	transport.GatedMaListener
	throttle *throttle
}

func (l throttledListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, nil, err
	}
	return throttledMaConn{Conn: c, bound: l.throttle.bind(c)}, scope, nil
}

// throttledMaConn is a connection with its multiaddrs that reads, writes and ends as
// bound does.
type throttledMaConn struct {
	manet.Conn
	bound net.Conn
}

func (c throttledMaConn) Read(p []byte) (int, error)  { return c.bound.Read(p) }
func (c throttledMaConn) Write(p []byte) (int, error) { return c.bound.Write(p) }
func (c throttledMaConn) Close() error                { return c.bound.Close() }

// throttledConn waits for the bounds; its close ends the wait.
type throttledConn struct {
	net.Conn
	*throttle
	life context.Context
	end  context.CancelFunc
}

func (c *throttledConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// Read takes what is there and then waits: the other side is held back by TCP.
func (c *throttledConn) Read(p []byte) (int, error) {
	if c.down == nil {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.down.Burst())])
	if n > 0 {
		if wait := c.down.WaitN(c.life, n); wait != nil && err == nil {
			err = net.ErrClosed
		}
	}
	return n, err
}

func (c *throttledConn) Write(p []byte) (done int, err error) {
	if c.up == nil {
		return c.Conn.Write(p)
	}
	for len(p) > 0 {
		n := min(len(p), c.up.Burst())
		if err := c.up.WaitN(c.life, n); err != nil {
			return done, net.ErrClosed
		}
		n, err = c.Conn.Write(p[:n])
		done += n
		if err != nil {
			return done, err
		}
		p = p[n:]
	}
	return done, nil
}
