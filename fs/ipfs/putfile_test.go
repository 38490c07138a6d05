package ipfs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// A block that is put as a file is a block like any other: read, counted, freed.
func TestPutFile(t *testing.T) {
	ctx := context.Background()
	repo := filepath.Join(t.TempDir(), "repo")
	open := func() *ipfs.Embedded {
		e, err := ipfs.OpenEmbedded(ctx, ipfs.EmbeddedConfig{RepoDir: repo})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	defer func() { e.Close() }()
	usage := func() int {
		used, _, err := e.Usage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return int(used)
	}
	before := usage()
	data := bytes.Repeat([]byte("block"), 200000)
	c := crypt.Sum(crypt.Raw, data)
	file := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice is no error
		if err := e.PutFile(ctx, c, file); err != nil {
			t.Fatal(err)
		}
	}
	read := func() {
		t.Helper()
		if b, err := e.Get(ctx, c); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if n := usage() - before; n < len(data) || n > len(data)+100<<10 {
			t.Errorf("%d bytes are counted, the block has %d", n, len(data))
		}
	}
	read()
	if n := len(e.Uncommitted()); n != 1 {
		t.Errorf("%d blocks wait for a commit", n)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	read()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open()
	read()

	// What a power cut left of it is replaced.
	name, err := filepath.Glob(filepath.Join(repo, "blocks", "*", "*.data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range name {
		if st, err := os.Stat(n); err == nil && st.Size() == int64(len(data)) {
			if err := errors.Join(os.Remove(n), os.WriteFile(n, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ok, err := e.Has(ctx, c); ok || err != nil {
		t.Fatal("the empty file is taken for the block", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.PutFile(ctx, c, file); err != nil {
		t.Fatal(err)
	}
	if b, err := e.Get(ctx, c); err != nil || !bytes.Equal(b, data) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if err := e.Free(ctx, []fs.CID{c}); err != nil {
		t.Fatal(err)
	}
	if ok, err := e.Has(ctx, c); ok || err != nil {
		t.Error("it is freed and there", err)
	}
	if n := usage(); n > 1<<30 {
		t.Errorf("%d bytes in use after all is freed", n)
	}
	if err := e.PutFile(ctx, c, filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a file that is not there is put")
	}

	// Another file system.
	shm, err := os.MkdirTemp("/dev/shm", "ipfscloud-test-")
	if err != nil {
		t.Skip("no other file system at hand: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	file = filepath.Join(shm, "b")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.PutFile(ctx, c, file); !errors.Is(err, fs.ErrNotSupported) {
		t.Error("from another file system:", err)
	}
}

// A part of a block is read where it lies; what is not there is said so.
func TestGetPart(t *testing.T) {
	ctx := context.Background()
	e, err := ipfs.OpenEmbedded(ctx, ipfs.EmbeddedConfig{RepoDir: filepath.Join(t.TempDir(), "repo")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	data := bytes.Repeat([]byte("0123456789"), 50000)
	c := crypt.Sum(crypt.Raw, data)
	if err := e.GetPart(ctx, c, 0, make([]byte, 10)); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("a part of no block: %v, want ErrNotFound", err)
	}
	if err := e.Put(ctx, []fs.Block{{CID: c, Data: data}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ off, n int }{{0, 10}, {12345, 65536}, {len(data) - 7, 7}, {0, len(data)}} {
		b := make([]byte, x.n)
		if err := e.GetPart(ctx, c, int64(x.off), b); err != nil || !bytes.Equal(b, data[x.off:x.off+x.n]) {
			t.Errorf("%d bytes at %d: %v", x.n, x.off, err)
		}
	}
	if err := e.GetPart(ctx, c, int64(len(data)-5), make([]byte, 10)); err == nil {
		t.Error("10 bytes over the end")
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := e.GetPart(ended, c, 0, make([]byte, 10)); err == nil {
		t.Error("a part for a caller that has gone")
	}
}
