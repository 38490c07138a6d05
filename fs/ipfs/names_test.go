package ipfs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// testKey signs records; it may sign wrongly.
type testKey struct {
	private ed25519.PrivateKey
	wrong   bool
}

func newTestKey() *testKey {
	_, k, _ := ed25519.GenerateKey(nil)
	return &testKey{private: k}
}

func (k *testKey) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

func (k *testKey) Sign(_ context.Context, msg []byte) ([]byte, error) {
	if k.wrong {
		msg = append(msg, 0)
	}
	return ed25519.Sign(k.private, msg), nil
}

// record is what a name stands for, for an hour.
func record(tree string, sequence uint64) Record {
	return Record{Tree: tree, Sequence: sequence, Until: time.Now().Add(time.Hour), TTL: time.Second}
}

func openPublic(t *testing.T, bootstrap []string) *Names {
	t.Helper()
	dir := shortDir(t)
	socket := filepath.Join(dir, "api.sock")
	e, err := OpenEmbedded(context.Background(), EmbeddedConfig{RepoDir: filepath.Join(dir, "repo"), SocketPath: socket,
		Network: &Network{Listen: loopback().Listen, Public: true, Bootstrap: bootstrap}, Log: testLog(t)})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return openNames(t, socket)
}

func openNames(t *testing.T, socket string) *Names {
	t.Helper()
	n, err := OpenNames(socket, "")
	must(t, err)
	t.Cleanup(n.Close)
	return n
}

// The embedded node of one person publishes, through real nodes that keep the records of
// a network on loopback, and that of another one, who knows nothing but the name, reads.
func TestNamesOverTheNetwork(t *testing.T) {
	ctx := testContext(t)
	serving := &Network{Listen: loopback().Listen, Public: true, serves: true}
	first := newDaemonIn(t, "", serving)
	bootstrap := addresses(t, first.socket)
	second := newDaemonIn(t, "", &Network{Listen: loopback().Listen, Public: true, Bootstrap: bootstrap, serves: true})
	bootstrap = append(bootstrap, addresses(t, second.socket)...)

	key := newTestKey()
	name, _, err := newRecord(ctx, key, record("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", 1))
	must(t, err)
	writer, reader := openPublic(t, bootstrap), openPublic(t, bootstrap)
	log := bytes.Repeat([]byte("a line of a log\n"), 40_000) // more than a block
	var tree string
	publish := func(b []byte, sequence uint64) {
		t.Helper()
		tree, err = writer.Add(ctx, "test", map[string][]byte{".well-known/did.jsonl": b, "other": {1}})
		must(t, err)
		eventually(t, "publishing", func() bool { // when the node has met others
			err = writer.Publish(ctx, key, record(tree, sequence))
			return err == nil
		})
	}
	read := func(want []byte) {
		t.Helper()
		eventually(t, "reading by the name", func() bool {
			got, err := reader.Read(ctx, name, "/.well-known/did.jsonl", 1<<20)
			if err != nil {
				t.Log(err)
			}
			return bytes.Equal(got, want)
		})
	}
	publish(log, 1)
	read(log)
	was := tree
	publish(log[:100], 2)
	read(log[:100])

	var pins struct {
		Keys map[string]struct{ Name string }
	}
	must(t, writer.client.json(ctx, request{command: "pin/ls", options: map[string]any{"type": "recursive", "names": true}}, &pins))
	if _, ok := pins.Keys[was]; ok || pins.Keys[tree].Name != "test" {
		t.Errorf("pinned: %v; want %s alone", pins.Keys, tree)
	}
	_, err = reader.Read(ctx, name, ".well-known/did.jsonl", 99)
	wantErr(t, "more than may be", err, fs.ErrInvalid)
	_, err = reader.Read(ctx, name, "missing", 99)
	wantErr(t, "a file that is not there", err, fs.ErrUnavailable)
	_, err = reader.Read(ctx, "no name", "other", 99)
	wantErr(t, "no name at all", err, fs.ErrInvalid)
	key.wrong = true
	if err := writer.Publish(ctx, key, record(tree, 3)); err == nil {
		t.Error("a record with a wrong signature is published")
	}
}

func TestNamesWithoutNetwork(t *testing.T) {
	dir := shortDir(t)
	e := openOnline(t, dir)
	n := openNames(t, e.conf.SocketPath)
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
	defer cancel()
	tree, err := n.Add(ctx, "test", map[string][]byte{"a": []byte("b")})
	must(t, err)
	wantErr(t, "publishing by a node that joins no network", n.Publish(ctx, newTestKey(), record(tree, 1)), fs.ErrUnavailable)
	name, _, err := newRecord(ctx, newTestKey(), record(tree, 1))
	must(t, err)
	_, err = n.Read(ctx, name, "a", 10)
	wantErr(t, "reading by a node that joins no network", err, fs.ErrUnavailable)
}
