package ipfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func loopback() *Network { return &Network{Listen: []string{"/ip4/127.0.0.1/tcp/0"}} }

func openOnline(t *testing.T, dir string) *Embedded {
	t.Helper()
	e, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: filepath.Join(dir, "repo"),
		SocketPath: filepath.Join(dir, "api.sock"), Network: loopback(), FetchTimeout: 5 * time.Second, Log: testLog(t)})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// addresses asks a node where it can be dialled.
func addresses(t *testing.T, socket string) []string {
	t.Helper()
	status, body := post(t, socket, "id")
	var answer struct{ Addresses []string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || len(answer.Addresses) == 0 {
		t.Fatalf("id: %d %s", status, body)
	}
	return answer.Addresses
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// A real Kubo pins a commit from the embedded node; a new node, after the first is gone,
// reads all of it from that Kubo.
func TestCopyAndRestoreThroughPeers(t *testing.T) {
	ctx := testContext(t)
	keeper := newDaemonIn(t, "", loopback())
	peers := addresses(t, keeper.socket)

	e := openOnline(t, shortDir(t))
	must(t, e.SetPeers(peers, nil))
	all := fstest.Commit(20, 100<<10)
	dir := all[len(all)-1]
	name := fs.CommitName{Vault: "v", Device: "d", Sequence: 1}
	must(t, e.Put(ctx, all))
	cids := make([]fs.CID, len(all))
	for i, b := range all {
		cids[i] = b.CID
	}
	must(t, e.Link(ctx, name, dir.CID, cids))
	eventually(t, "a connection to the peer", func() bool { return e.Connected() == 1 })
	if len(e.Addresses()) == 0 {
		t.Error("the node does not say where it listens")
	}
	if status, body := post(t, keeper.socket, "pin/add", "arg="+dir.CID.String(), "recursive=true"); status != 200 {
		t.Fatalf("pinning from the embedded node: %d %s", status, body)
	}
	must(t, e.Close())

	fresh := openOnline(t, shortDir(t))
	if _, err := fresh.Get(ctx, dir.CID); !errors.Is(err, fs.ErrNotFound) {
		t.Fatalf("without peers: %v", err)
	}
	must(t, fresh.SetPeers(peers, nil))
	for _, b := range all {
		got, err := fresh.Get(ctx, b.CID)
		if err != nil || !bytes.Equal(got, b.Data) {
			t.Fatalf("from the peer: %d bytes, %v", len(got), err)
		}
		if has, err := fresh.Has(ctx, b.CID); err != nil || !has {
			t.Errorf("a fetched block is not kept: %v", err)
		}
	}
	// A damaged block is mended from the peer.
	flip(t, blockFile(t, fresh.conf.RepoDir, all[3].CID))
	if got, err := fresh.Get(ctx, all[3].CID); err != nil || !bytes.Equal(got, all[3].Data) {
		t.Fatalf("a damaged block: %v", err)
	}
	must(t, fresh.SetPeers(nil, nil))
	if got, err := fresh.Get(ctx, all[3].CID); err != nil || !bytes.Equal(got, all[3].Data) {
		t.Fatalf("the mended block on the disk: %v", err)
	}
	// What nobody has: an error within the deadline.
	must(t, fresh.SetPeers(peers, nil))
	begin := time.Now()
	if _, err := fresh.Get(ctx, fstest.RawBlock([]byte("nobody has this")).CID); !errors.Is(err, fs.ErrUnavailable) {
		t.Errorf("a block that no peer has: %v", err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A bound is kept, whoever opened the connection, and what is larger than a second's worth
// still gets there.
func TestUploadIsBounded(t *testing.T) {
	for _, dials := range []bool{true, false} {
		t.Run(map[bool]string{true: "it dials", false: "it is dialled"}[dials], func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			peer, network := openOnline(t, shortDir(t)), loopback()
			network.Upload = 512 << 10
			e, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: filepath.Join(shortDir(t), "repo"), Network: network, Log: testLog(t)})
			must(t, err)
			t.Cleanup(func() { must(t, e.Close()) })
			if dials {
				must(t, peer.SetPeers([]string{"/ip4/127.0.0.1/tcp/9/p2p/" + e.node.Identity.String()}, nil)) // not there: it will be dialled
				must(t, e.SetPeers(peer.Addresses(), nil))
				eventually(t, "a connection", func() bool { return e.Connected() == 1 })
			} else {
				must(t, e.SetPeers([]string{"/p2p/" + peer.node.Identity.String()}, nil))
				must(t, peer.SetPeers(e.Addresses(), nil))
				eventually(t, "a connection", func() bool { return peer.Connected() == 1 })
			}
			block := fstest.RawBlock(fstest.Random(1 << 20))
			must(t, e.Put(ctx, []fs.Block{block}))
			begin := time.Now()
			_, err = peer.Get(ctx, block.CID)
			must(t, err)
			if d := time.Since(begin); d < time.Second || d > 30*time.Second {
				t.Errorf("1 MiB at 512 KiB a second took %v", d)
			}
		})
	}
}

// What cannot be used of what a list of peers says hides none of the others.
func TestUnusableAddresses(t *testing.T) {
	e, friend := openOnline(t, shortDir(t)), openOnline(t, shortDir(t))
	id := friend.node.Identity.String()
	must(t, friend.SetPeers([]string{"/p2p/" + e.node.Identity.String()}, nil))
	must(t, e.SetPeers(append([]string{
		"nonsense", "", "/ip4/127.0.0.1/tcp/1", "/p2p/nobody", "/ip4/127.0.0.1/tcp/3/newproto/x/p2p/" + id,
		"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/" + id, "/ip4/127.0.0.1/tcp/99999/p2p/" + id,
	}, friend.Addresses()...), nil))
	eventually(t, "a connection to the peer whose address is good", func() bool { return e.Connected() == 1 })
	must(t, e.SetPeers([]string{"nonsense"}, nil))
	eventually(t, "no connection to a peer that is not named any more", func() bool { return friend.Connected() == 0 })
	_, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: t.TempDir(), Network: &Network{Listen: []string{"here"}}})
	wantErr(t, "listening nowhere", err, fs.ErrInvalid)
	wantErr(t, "peers of an offline node", openTest(t, shortDir(t)).SetPeers(nil, nil), fs.ErrNotSupported)
}
