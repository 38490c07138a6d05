package ipfs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/libp2p/go-libp2p/core/crypto"
	cryptopb "github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Names publishes small trees of files that anybody may read under IPNS names, and reads
// such trees, through the RPC of a node. The node never has the key of a name: what it
// passes on are records that were signed elsewhere.
//
// The errors of its methods wrap fs.ErrUnavailable when the node is away, is offline or
// does not find a name.
type Names struct{ client *client }

// A node asks its network for a name once, and takes its time. Who has a block it asks
// seldom again: after a while it is better to ask anew.
const (
	nameWait  = time.Minute
	treeWait  = 6 * time.Second
	treeTries = 3
)

// OpenNames speaks to the node at an address as OpenRPC knows it; nothing is sent yet.
func OpenNames(address, authorization string) (*Names, error) {
	c, err := newClient(address, authorization, nameWait)
	if err != nil {
		return nil, err
	}
	return &Names{c}, nil
}

// Close lets the connections go.
func (n *Names) Close() { n.client.close() }

// NameKey is the Ed25519 key of an IPNS name; who has it only signs.
type NameKey interface {
	Public() ed25519.PublicKey
	Sign(ctx context.Context, msg []byte) ([]byte, error)
}

// Record says for some time that a name stands for a tree.
type Record struct {
	Tree     string // CID
	Sequence uint64 // of two records the one with the higher counts
	Until    time.Time
	TTL      time.Duration // that others may go without asking again
}

// Add keeps files in the node, pinned under a label in the place of those that were there
// before, and returns the CID of their tree. The names of the files are paths.
func (n *Names) Add(ctx context.Context, label string, contents map[string][]byte) (string, error) {
	var root path.ImmutablePath
	err := n.client.retry(ctx, "add", 0, func(ctx context.Context) (err error) {
		root, err = n.client.api.Unixfs().Add(ctx, directory(contents), options.Unixfs.Pin(false, ""), options.Unixfs.CidVersion(1))
		return err
	})
	if err != nil {
		return "", err
	}
	tree := root.RootCid().String()
	pin := request{command: "pin/add", args: []string{tree}, options: map[string]any{"recursive": true, "name": label}}
	if err := n.client.call(ctx, pin, nil); err != nil { // a client's add drops the label
		return "", err
	}
	return tree, n.dropOthers(ctx, label, tree)
}

func directory(tree map[string][]byte) files.Directory {
	here := map[string]files.Node{}
	below := map[string]map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		dir, rest, ok := strings.Cut(name, "/")
		if !ok {
			here[name] = files.NewBytesFile(tree[name])
			continue
		}
		if below[dir] == nil {
			below[dir] = map[string][]byte{}
		}
		below[dir][rest] = tree[name]
	}
	for dir, t := range below {
		here[dir] = directory(t)
	}
	return files.NewMapDirectory(here)
}

// dropOthers unpins what a label was for before.
func (n *Names) dropOthers(ctx context.Context, label, keep string) error {
	var pins struct {
		Keys map[string]struct{ Name string }
	}
	err := n.client.json(ctx, request{command: "pin/ls", options: map[string]any{"type": "recursive", "names": true, "name": label}}, &pins)
	if err != nil {
		return err
	}
	for cid, pin := range pins.Keys {
		if pin.Name != label || cid == keep {
			continue
		}
		if err := n.client.call(ctx, request{command: "pin/rm", args: []string{cid}}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Publish gives the record of a name to the node's network, and tells the network who has
// the tree.
func (n *Names) Publish(ctx context.Context, key NameKey, r Record) error {
	name, record, err := newRecord(ctx, key, r)
	if err != nil {
		return err
	}
	put := request{command: "routing/put", args: []string{"/ipns/" + name}, body: func() io.Reader { return bytes.NewReader(record) }}
	if err := n.client.call(ctx, put, nil); err != nil {
		return fmt.Errorf("publishing the record of %s: %w", name, err)
	}
	provide := request{command: "routing/provide", args: []string{r.Tree}, options: map[string]any{"recursive": true}}
	if err := n.client.call(ctx, provide, nil); err != nil {
		return fmt.Errorf("announcing %s: %w", r.Tree, err)
	}
	return nil
}

// Read returns a file of the tree that a name stands for now, of at most limit bytes.
// Nothing of the answer is to be trusted.
func (n *Names) Read(ctx context.Context, name, file string, limit int64) (b []byte, err error) {
	if _, err := ipns.NameFromString(name); err != nil {
		return nil, fmt.Errorf("IPNS name %q: %w: %w", name, fs.ErrInvalid, err)
	}
	var now struct{ Path string }
	if err := n.client.json(ctx, request{command: "name/resolve", args: []string{name}, options: map[string]any{"nocache": true}}, &now); err != nil {
		return nil, err
	}
	cat := request{command: "cat", args: []string{now.Path + "/" + strings.TrimPrefix(file, "/")}, options: map[string]any{"length": limit + 1}}
	for try := 1; ; try++ {
		once, cancel := context.WithTimeout(ctx, treeWait)
		err = n.client.call(once, cat, func(r io.Reader) error {
			b, err = io.ReadAll(io.LimitReader(r, limit+1))
			return err
		})
		late := once.Err() != nil && ctx.Err() == nil
		cancel()
		if !late || try == treeTries {
			break
		}
		n.redial(ctx, strings.TrimPrefix(now.Path, "/ipfs/"))
	}
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s of %s has more than %d bytes: %w", file, name, limit, fs.ErrInvalid)
	}
	return b, err
}

// redial lets the node lose its connections to those who have a tree. Now and then it has
// such a connection and does not ask there for blocks, as long as it lasts: the peers met
// by dialling each other at once, or one of them was too busy to answer in time.
func (n *Names) redial(ctx context.Context, tree string) {
	ctx, cancel := context.WithTimeout(ctx, treeWait)
	defer cancel()
	var peers []string
	find := request{command: "routing/findprovs", args: []string{tree}, options: map[string]any{"num-providers": 8}}
	_ = n.client.call(ctx, find, func(r io.Reader) error { // what came before an error counts
		for d := json.NewDecoder(r); ; {
			var event struct{ Responses []struct{ ID string } }
			if err := d.Decode(&event); err != nil {
				return nil
			}
			for _, p := range event.Responses {
				peers = append(peers, p.ID)
			}
		}
	})
	for _, p := range peers {
		_ = n.client.call(ctx, request{command: "swarm/disconnect", args: []string{"/p2p/" + p}}, nil) // it may have none
	}
}

// newRecord makes a record and lets the key sign it.
func newRecord(ctx context.Context, key NameKey, r Record) (name string, record []byte, err error) {
	value, err := path.NewPath("/ipfs/" + r.Tree)
	if err != nil {
		return "", nil, fmt.Errorf("tree %q: %w: %w", r.Tree, fs.ErrInvalid, err)
	}
	public, err := crypto.UnmarshalEd25519PublicKey(key.Public())
	if err != nil {
		return "", nil, fmt.Errorf("key of a name: %w: %w", fs.ErrInvalid, err)
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return "", nil, fmt.Errorf("key of a name: %w: %w", fs.ErrInvalid, err)
	}
	made, err := ipns.NewRecord(remoteKey{ctx, key, public}, value, r.Sequence, r.Until, r.TTL, ipns.WithV1Compatibility(false))
	if err != nil {
		return "", nil, fmt.Errorf("signing the record of a name: %w", err)
	}
	if record, err = ipns.MarshalRecord(made); err != nil {
		return "", nil, fmt.Errorf("record of a name: %w", err)
	}
	name, err = peer.ToCid(id).StringOfBase(multibase.Base36)
	if err != nil {
		return "", nil, fmt.Errorf("name of a key: %w", err)
	}
	return name, record, ipns.ValidateWithName(made, ipns.NameFromPeer(id))
}

var errRemote = errors.New("the key is kept elsewhere")

// remoteKey is a NameKey as libp2p knows keys.
type remoteKey struct {
	ctx    context.Context // libp2p's Sign has none
	key    NameKey
	public crypto.PubKey
}

var _ crypto.PrivKey = remoteKey{}

// Sign implements crypto.PrivKey.
func (k remoteKey) Sign(msg []byte) ([]byte, error) { return k.key.Sign(k.ctx, msg) }

// GetPublic implements crypto.PrivKey.
func (k remoteKey) GetPublic() crypto.PubKey { return k.public }

// Type implements crypto.Key.
func (remoteKey) Type() cryptopb.KeyType { return cryptopb.KeyType_Ed25519 }

// Raw implements crypto.Key: there is nothing to give.
func (remoteKey) Raw() ([]byte, error) { return nil, errRemote }

// Equals implements crypto.Key.
func (k remoteKey) Equals(other crypto.Key) bool {
	o, ok := other.(crypto.PrivKey)
	return ok && k.public.Equals(o.GetPublic())
}
