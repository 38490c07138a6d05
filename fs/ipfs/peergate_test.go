package ipfs

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// stranger is a libp2p node that nobody was told of. It counts what it is told by Bitswap.
type stranger struct {
	host.Host
	heard atomic.Int64 // bytes
}

const bitswap = protocol.ID("/ipfs/bitswap/1.2.0")

func newStranger(t *testing.T) *stranger {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	s := &stranger{Host: h}
	h.SetStreamHandler(bitswap, func(st network.Stream) {
		defer st.Close() //nolint:errcheck // the test is over, or the other end is
		for b := make([]byte, 4<<10); ; {
			n, err := st.Read(b)
			s.heard.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	return s
}

// talks connects to a node and opens a Bitswap stream. A connection that is refused may
// look open for a moment, but never carries a stream.
func (s *stranger) talks(ctx context.Context, addrs []string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, a := range addrs {
		info, err := peer.AddrInfoFromString(a)
		if err != nil || s.Connect(ctx, *info) != nil {
			continue
		}
		if st, err := s.NewStream(ctx, info.ID, bitswap); err == nil {
			defer st.Close()             //nolint:errcheck // as above
			_, err = st.Write([]byte{0}) // an empty message
			_, answer := s.NewStream(ctx, info.ID, "/ipfs/id/1.0.0")
			return err == nil && answer == nil
		}
	}
	return false
}

// Nobody who was not named is told which blocks the node looks for, or gets one: unless the
// node is in the public network.
func TestStrangersGetNothing(t *testing.T) {
	for _, public := range []bool{false, true} {
		t.Run(map[bool]string{false: "private", true: "public"}[public], func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			strange := newStranger(t)
			known, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: strange.ID(), Addrs: strange.Addrs()})
			must(t, err)
			n := loopback()
			if n.Public = public; public {
				n.Bootstrap = []string{known[0].String()}
			}
			e, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: filepath.Join(shortDir(t), "repo"),
				Network: n, FetchTimeout: 2 * time.Second, Log: testLog(t)})
			must(t, err)
			t.Cleanup(func() { must(t, e.Close()) })
			block := fstest.RawBlock(fstest.Random(1 << 10))
			must(t, e.Put(ctx, []fs.Block{block}))

			// One that was named gets the block, and is asked.
			friend := openOnline(t, shortDir(t))
			must(t, e.SetPeers([]string{"/p2p/" + friend.node.Identity.String(), "/ip4/127.0.0.1/tcp/9/p2p/" + friend.node.Identity.String()}, nil))
			must(t, friend.SetPeers(e.Addresses(), nil))
			eventually(t, "a connection to a peer that was named", func() bool { return friend.Connected() == 1 && e.Connected() == 1 })
			if _, err := friend.Get(ctx, block.CID); err != nil {
				t.Errorf("a peer that was named: %v", err)
			}

			if got := strange.talks(ctx, e.Addresses()); got != public {
				t.Errorf("a stranger opens a Bitswap stream: %v", got)
			}
			if _, err := e.Get(ctx, fstest.RawBlock([]byte("nobody has this")).CID); err == nil {
				t.Fatal("a block that nobody has")
			}
			if public {
				eventually(t, "what the node looks for", func() bool { return strange.heard.Load() > 0 })
			} else if n := strange.heard.Load(); n > 0 {
				t.Errorf("a stranger was told %d bytes of what the node looks for", n)
			}

			// A whole node asks for the block by its CID.
			other, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: filepath.Join(shortDir(t), "repo"),
				Network: loopback(), FetchTimeout: 3 * time.Second, Log: testLog(t)})
			must(t, err)
			t.Cleanup(func() { must(t, other.Close()) })
			must(t, other.SetPeers(e.Addresses(), nil))
			if _, err := other.Get(ctx, block.CID); (err == nil) != public {
				t.Errorf("a strange node asks for a block: %v", err)
			}
			// Named now, it gets it.
			must(t, e.SetPeers([]string{"/p2p/" + other.node.Identity.String()}, nil))
			other.Redial()
			eventually(t, "the block, for one who was named meanwhile", func() bool { _, err := other.Get(ctx, block.CID); return err == nil })
			if !public {
				eventually(t, "the end of the connection to a peer that is not named any more", func() bool { return friend.Connected() == 0 })
				// Bitswap still knows that peer, and would dial it.
				info := peer.AddrInfo{ID: friend.node.Identity, Addrs: friend.node.PeerHost.Addrs()}
				if err := e.node.PeerHost.Connect(ctx, info); err == nil {
					t.Error("the node dials a peer that is not named any more")
				}
			}
		})
	}
}

func TestDialledAddresses(t *testing.T) {
	id, stranger := peer.ID("a"), peer.ID("b")
	addr := func(s string) ma.Multiaddr {
		m, err := ma.NewMultiaddr(s)
		must(t, err)
		return m
	}
	g := &peerGate{}
	g.set(map[peer.ID]peer.AddrInfo{id: {ID: id, Addrs: []ma.Multiaddr{
		addr("/ip4/192.0.2.1/tcp/4001"), addr("/ip4/127.0.0.1/tcp/4001"), addr("/dns/a.example/tcp/5001"),
	}}}, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() })
	for _, c := range []struct {
		who  peer.ID
		addr string
		want bool
	}{
		{id, "/ip4/192.0.2.1/tcp/4001", true},
		{id, "/ip4/192.0.2.1/tcp/22", false}, // what it says of itself once it is connected
		{id, "/ip4/192.0.2.2/tcp/4001", false},
		{id, "/ip4/127.0.0.1/tcp/4001", false},  // named, and out of reach
		{id, "/ip4/203.0.113.9/tcp/5001", true}, // what the name turned out to be
		{id, "/ip4/127.0.0.1/tcp/5001", false},
		{id, "/ip4/192.0.2.1/udp/4001/quic-v1", false},
		{stranger, "/ip4/192.0.2.1/tcp/4001", false},
	} {
		if got := g.InterceptAddrDial(c.who, addr(c.addr)); got != c.want {
			t.Errorf("%s of %s: %v", c.addr, c.who, got)
		}
	}
	if !g.InterceptPeerDial(id) || g.InterceptPeerDial(stranger) {
		t.Error("whom to dial")
	}
	g.open = true
	if g.InterceptAddrDial(stranger, addr("/ip4/127.0.0.1/tcp/22")) || !g.InterceptAddrDial(stranger, addr("/ip4/192.0.2.1/tcp/4001")) {
		t.Error("somebody in the public network names a port of this machine")
	}
	if g.local = true; !g.InterceptAddrDial(stranger, addr("/ip4/127.0.0.1/tcp/22")) {
		t.Error("a public network on this machine")
	}
}
