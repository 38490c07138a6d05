package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Clean(to), 0o700); err != nil {
		t.Fatal(err)
	}
}

// sample fills a vault with every kind of object, and returns what its files hold.
func sample(t *testing.T, v *vault) map[string][]byte {
	t.Helper()
	want := map[string][]byte{}
	write := func(name string, b []byte) fs.Ino {
		a, err := v.tree.Mknod(ctx, fs.RootIno, name, fs.ModeRegular|0o600, 0, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(b); off += 1 << 20 {
			if _, err := v.tree.Write(ctx, a.Ino, uint64(off), b[off:min(len(b), off+1<<20)]); err != nil {
				t.Fatal(err)
			}
		}
		want[name] = b
		return a.Ino
	}
	for i := range 120 {
		write(fmt.Sprintf("inline%03d", i), bytes.Repeat([]byte{byte(i), 1}, 200))
	}
	write("packed1", bytes.Repeat([]byte("p1"), 4000))
	write("packed2", bytes.Repeat([]byte("p2"), 4000))
	write("blob", bytes.Repeat([]byte("blob"), 50000))
	write("large", bytes.Repeat([]byte("large..."), 900000))
	ino := write("linked", bytes.Repeat([]byte("linked"), 20000))
	if _, err := v.tree.Link(ctx, ino, fs.RootIno, "linked2"); err != nil {
		t.Fatal(err)
	}
	want["linked2"] = want["linked"]
	shared := write("shared", nil)
	a, err := v.tree.Lookup(ctx, fs.RootIno, "blob")
	if err != nil {
		t.Fatal(err)
	}
	v.commit()
	if _, err := v.tree.CopyRange(ctx, a.Ino, 0, shared, 0, a.Size); err != nil {
		t.Fatal(err)
	}
	want["shared"] = want["blob"]
	v.commit()
	return want
}

// readAll reads every file and counts those that cannot be read. Wrong bytes fail the test.
func readAll(t *testing.T, tree *fs.Tree, want map[string][]byte) (bad int) {
	t.Helper()
	for name, b := range want {
		a, err := tree.Lookup(ctx, fs.RootIno, name)
		if err == nil {
			got := make([]byte, len(b)+1)
			var n int
			if n, err = tree.Read(ctx, a.Ino, 0, got); err == nil && !bytes.Equal(got[:n], b) {
				t.Fatalf("%s was served with wrong bytes", name)
			}
		}
		if err != nil {
			if !errors.Is(err, fs.ErrIntegrity) || errors.Is(err, fs.ErrNotFound) {
				t.Fatalf("%s: %v", name, err)
			}
			bad++
		}
	}
	return bad
}

// Every stored block in turn is flipped, cut, swapped with another, and lost.
func TestTamperedBlocksAreNamedNeverServed(t *testing.T) {
	memory := fstest.NewMemory()
	v := newVault(t, memory)
	want := sample(t, v)
	newest := v.tree.Status().Commit.Sequence
	v.tree.Abort()
	memory.Collect()
	cids := memory.CIDs()
	seen := map[string]int{}
	for i, cid := range cids {
		data, err := memory.Get(ctx, cid)
		if err != nil {
			t.Fatal(err)
		}
		other, err := memory.Get(ctx, cids[(i+1)%len(cids)])
		if err != nil {
			t.Fatal(err)
		}
		for _, how := range []string{"flip", "cut", "swap", "lose"} {
			store := fstest.NewFaulty(memory)
			switch how {
			case "flip":
				store.Flip(cid)
			case "cut":
				store.Replace(cid, data[:len(data)*2/3])
			case "swap":
				store.Replace(cid, other)
			case "lose":
				store.Lose(cid)
			}
			cfg := v.cfg
			cfg.Store, cfg.ReadOnly = store, true
			tree, err := fs.Open(ctx, cfg)
			if err != nil {
				if !errors.Is(err, fs.ErrIntegrity) && !errors.Is(err, fs.ErrNotFound) && !errors.Is(err, crypt.ErrNotRecipient) {
					t.Fatalf("%s of %s: %v", how, cid, err)
				}
				seen["open refused"]++
				continue
			}
			if s := tree.Status(); s.Commit.Sequence != newest {
				if !s.ReadOnly || len(s.Alerts) == 0 {
					t.Fatalf("%s of %s: an older commit is shown as if it were the newest: %+v", how, cid, s)
				}
				seen["older commit, alert"]++
				tree.Abort()
				continue
			}
			bad := readAll(t, tree, want)
			switch {
			case bad == len(want):
				seen["nothing left"]++
			case bad > 0:
				seen["rest usable"]++
				if s := tree.Status(); len(s.Alerts) == 0 {
					t.Fatalf("%s of %s: %d files cannot be read and nobody is told", how, cid, bad)
				}
			default:
				seen["not read"]++ // nodes of the shadow tree, tables nobody asked for
			}
			tree.Abort()
		}
	}
	t.Logf("%d blocks: %v", len(cids), seen)
	if seen["rest usable"] == 0 || seen["open refused"]+seen["older commit, alert"] == 0 {
		t.Fatalf("the test reaches too little: %v", seen)
	}
}
