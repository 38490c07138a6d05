package ipfs

import (
	"bytes"
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// What the kernel has cached is read at once; what it has not is read all the same.
func TestReadCached(t *testing.T) {
	ctx := context.Background()
	e, err := OpenEmbedded(ctx, EmbeddedConfig{RepoDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	c := crypt.Sum(crypt.Raw, data)
	if err := e.Put(ctx, []fs.Block{{CID: c, Data: data}}); err != nil {
		t.Fatal(err)
	}
	k, err := kuboCID(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(e.blockPath(k))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func() {
		t.Helper()
		b := make([]byte, 4096)
		if err := e.GetPart(ctx, c, 4096, b); err != nil || !bytes.Equal(b, data[4096:8192]) {
			t.Fatalf("a part: %v", err)
		}
		if b, err := e.Get(ctx, c); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	read()
	part, all := e.cached(k, 4096, func(int64) []byte { return make([]byte, 4096) }), e.cached(k, 0, allOf)
	var buf [unix.PathMax]byte
	switch n, err := unix.Preadv2(int(f.Fd()), [][]byte{buf[:]}, 0, unix.RWF_NOWAIT); {
	case err != nil || n == 0:
		t.Logf("not tested: this file system reads nothing at once: %v", err)
	case !bytes.Equal(part, data[4096:8192]) || !bytes.Equal(all, data):
		t.Errorf("%d and %d bytes of a cached block were read at once", len(part), len(all))
	}
	if err := e.GetPart(ctx, c, int64(len(data))-10, make([]byte, 20)); err == nil {
		t.Error("20 bytes over the end")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	read()
}
