package fs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// fileStore is a store that takes blocks out of files, as the embedded node does.
type fileStore struct {
	*fstest.Memory
	files atomic.Int32
}

func (s *fileStore) PutFile(ctx context.Context, c fs.CID, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !c.Verify(b) {
		return fmt.Errorf("the file is not %s: %w", c, fs.ErrIntegrity)
	}
	s.files.Add(1)
	return s.Put(ctx, []fs.Block{{CID: c, Data: b}})
}

// streamed makes a file and writes it from front to back.
func (v *vault) streamed(name string, data []byte, piece int) fs.Ino {
	v.t.Helper()
	a, err := v.tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		v.t.Fatal(err)
	}
	v.writeOn(a.Ino, 0, data, piece)
	return a.Ino
}

func (v *vault) writeOn(ino fs.Ino, off int, data []byte, piece int) {
	v.t.Helper()
	for i := 0; i < len(data); i += piece {
		p := data[i:min(len(data), i+piece)]
		if n, err := v.tree.Write(ctx, ino, uint64(off+i), p); err != nil || n != len(p) {
			v.t.Fatal(n, err)
		}
	}
}

func (v *vault) has(name string, want []byte) {
	v.t.Helper()
	a, err := v.tree.Lookup(ctx, fs.RootIno, name)
	if err != nil {
		v.t.Fatal(err)
	}
	defer v.tree.Forget(a.Ino, 1)
	got := make([]byte, len(want)+1)
	n, err := v.tree.Read(ctx, a.Ino, 0, got)
	if err != nil || a.Size != uint64(len(want)) || !bytes.Equal(got[:n], want) {
		v.t.Fatalf("%s has %d bytes, %d were read, want %d: %v", name, a.Size, n, len(want), err)
	}
}

func (v *vault) staged() []string {
	v.t.Helper()
	names, err := filepath.Glob(filepath.Join(v.cfg.JournalDir, "blobs", "*"))
	if err != nil {
		v.t.Fatal(err)
	}
	return names
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Large writes are sealed once: they lie in the stage as blobs, survive a kill, become
// blocks as the files that they are, and leave the stage with their commit.
func TestStream(t *testing.T) {
	store := &fileStore{Memory: fstest.NewMemory()}
	v := newVault(t, store)
	data := random(5<<20 + 3*crypt.PackageSize + 77)
	want := map[string][]byte{}
	for _, piece := range []int{64 << 10, 128 << 10, 320 << 10, 1 << 20, len(data)} {
		name := fmt.Sprint("f", piece)
		v.streamed(name, data, piece)
		want[name] = data
		v.has(name, data)
	}
	// Overwritten, cut, copied and removed while they stand in the stage.
	ino := v.streamed("over", data, 128<<10)
	over := bytes.Clone(data)
	copy(over[100:], "overwritten")
	copy(over[2<<20-5:], "over two blobs")
	for _, off := range []int{100, 2<<20 - 5} {
		v.writeOn(ino, off, over[off:off+20], 20)
	}
	want["over"] = over
	ino = v.streamed("cut", data, 128<<10)
	size := uint64(1<<20 + 100)
	if _, err := v.tree.SetAttr(ctx, ino, fs.SetAttr{Size: &size}); err != nil {
		t.Fatal(err)
	}
	v.writeOn(ino, int(size), data[size:3<<20], 128<<10)
	want["cut"] = data[:3<<20]
	from := v.streamed("from", data[:3<<20+128<<10], 128<<10)
	to := v.streamed("to", nil, 1)
	if n, err := v.tree.CopyRange(ctx, from, 64<<10, to, 0, 3<<20); err != nil || n != 3<<20 {
		t.Fatal(n, err)
	}
	v.writeOn(from, 3<<20+128<<10, data[3<<20+128<<10:4<<20], 128<<10) // it goes on
	want["from"], want["to"] = data[:4<<20], data[64<<10:3<<20+64<<10]
	v.streamed("gone", data, 128<<10)
	if err := v.tree.Unlink(ctx, fs.RootIno, "gone"); err != nil {
		t.Fatal(err)
	}

	check := func() {
		t.Helper()
		for name, data := range want {
			v.has(name, data)
		}
	}
	check()
	v.kill()
	check()
	v.commit()
	check()
	if n := store.files.Load(); n < 30 {
		t.Errorf("%d blobs were taken as files", n)
	}
	if left := v.staged(); len(left) > 0 {
		t.Errorf("%d blobs are left in the stage after a commit", len(left))
	}
	store.Collect()
	v.wipe()
	check()
}

// After a power cut a synced stream is whole, or the damage is named; what was not synced
// ends the journal where it is missing.
func TestStreamAfterPowerCut(t *testing.T) {
	data := random(2 << 20)
	for _, cut := range []struct {
		name string
		do   func(t *testing.T, path string)
	}{
		{"missing", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
		{"empty", func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"zeros", func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Truncate(path, 0), os.Truncate(path, st.Size())); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(cut.name, func(t *testing.T) {
			store := fstest.NewFaulty(fstest.NewMemory())
			v := newVault(t, store)
			store.Fail(fstest.OpPut, fs.ErrUnavailable) // nothing is committed meanwhile
			ino := v.streamed("f", data[:512<<10], 128<<10)
			if err := v.tree.Sync(ctx, fs.DurabilityLocal); err != nil {
				t.Fatal(err)
			}
			synced := v.staged()
			if len(synced) != 1 {
				t.Fatal(synced)
			}
			v.streamed("g", data[:256<<10], 128<<10) // of another blob
			v.writeOn(ino, 512<<10, data[512<<10:640<<10], 128<<10)
			v.tree.Abort()
			for _, path := range v.staged() {
				if path != synced[0] {
					cut.do(t, path)
				}
			}
			v.open() // g's bytes are gone, and what came after them
			v.has("f", data[:512<<10])
			v.has("g", nil)
			v.streamed("h", data, 128<<10)
			v.kill()
			v.has("f", data[:512<<10])
			v.has("h", data)
			if err := v.tree.Sync(ctx, fs.DurabilityLocal); err != nil {
				t.Fatal(err)
			}
			v.tree.Abort()
			cut.do(t, synced[0])
			if _, err := fs.Open(ctx, v.cfg); !errors.Is(err, fs.ErrIntegrity) {
				t.Fatal("synced bytes are gone, and the drive says", err)
			}
		})
	}
}
