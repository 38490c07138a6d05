package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// pattern is n bytes that a name decides.
func pattern(name string, n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, name, i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// put writes a file in pieces that a kernel would write.
func put(t *testing.T, tree *fs.Tree, dir fs.Ino, name string, content []byte) fs.Ino {
	t.Helper()
	ctx := context.Background()
	a, err := tree.Lookup(ctx, dir, name)
	if errors.Is(err, fs.ErrNotFound) {
		a, err = tree.Mknod(ctx, dir, name, fs.ModeRegular|0o640, 0, fs.Owner{})
	}
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(content); {
		n, err := tree.Write(ctx, a.Ino, uint64(off), content[off:min(off+128<<10, len(content))])
		if err != nil {
			t.Fatal(err)
		}
		off += n
	}
	return a.Ino
}

func commit(t *testing.T, tree *fs.Tree) {
	t.Helper()
	if err := tree.Sync(context.Background(), fs.DurabilityIPFS); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) open() *fs.Tree {
	m.t.Helper()
	tree, err := fs.Open(context.Background(), m.config(m.s))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(tree.Abort)
	return tree
}

func (m *machine) asides() []fs.Aside {
	m.t.Helper()
	all, err := fs.Asides(m.config(m.s).JournalDir, m.vault)
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// exported exports an aside and returns what lies in it, and its list.
func exported(t *testing.T, open func() (*fs.AsideView, error)) (map[string][]byte, string) {
	t.Helper()
	v, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := exportAside(context.Background(), v, dir); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	top := filepath.Join(dir, exportFiles)
	err = filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		files[strings.TrimPrefix(p, top+"/")] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, exportList))
	if err != nil {
		t.Fatal(err)
	}
	return files, string(list)
}

func sameFiles(t *testing.T, when string, got, want map[string][]byte) {
	t.Helper()
	for name, b := range want {
		if !bytes.Equal(got[name], b) {
			t.Errorf("%s: %s has %d bytes, want %d that differ, or it is not there", when, name, len(got[name]), len(b))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s was exported, and was not changed", when, name)
		}
	}
}

func hasLine(list string, words ...string) bool {
	return slices.ContainsFunc(strings.Split(list, "\n"), func(l string) bool { return slices.Equal(strings.Fields(l), words) })
}

// Another device takes over while this one has acknowledged changes that no commit has: they
// can be read while it is mounted, after it died, after a new mount, and after it took over
// again and committed much; until its owner discards them.
func TestDisplacedKeepsItsChanges(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	tree := a.open()
	big := pattern("big", 3<<20+12345)
	put(t, tree, fs.RootIno, "old", []byte("old text"))
	put(t, tree, fs.RootIno, "stays", []byte("is not changed"))
	put(t, tree, fs.RootIno, "goes", []byte("is removed"))
	sub, err := tree.Mkdir(ctx, fs.RootIno, "sub", 0o755, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, tree, sub.Ino, "moved", pattern("moved", 300<<10))
	put(t, tree, sub.Ino, "linked", []byte("one of two names"))
	commit(t, tree)
	name, cid := a.newest()
	if _, err := c.takeOver(c.s, name, cid); err != nil {
		t.Fatal(err)
	}

	want := map[string][]byte{"old": []byte("new text, longer"), "dir/big": big, "moved here": pattern("moved", 300<<10)}
	put(t, tree, fs.RootIno, "old", want["old"])
	dir, err := tree.Mkdir(ctx, fs.RootIno, "dir", 0o700, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, tree, dir.Ino, "big", big)
	if err := tree.Unlink(ctx, fs.RootIno, "goes"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Rename(ctx, sub.Ino, "moved", fs.RootIno, "moved here", 0); err != nil {
		t.Fatal(err)
	}
	if err := tree.Rename(ctx, fs.RootIno, "sub", fs.RootIno, "renamed", 0); err != nil {
		t.Fatal(err)
	}
	if err := tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, fs.ErrOtherWriter) {
		t.Fatalf("a commit beside the other's: %v", err)
	}
	check := func(when string, open func() (*fs.AsideView, error)) {
		t.Helper()
		got, list := exported(t, open)
		sameFiles(t, when, got, want)
		for _, words := range [][]string{{"changed", "old"}, {"new", "dir"}, {"new", "dir/big"}, {"removed", "goes"},
			{"renamed", "sub/moved", "->", "moved", "here"}, {"renamed", "sub", "->", "renamed"}} {
			if !hasLine(list, words...) {
				t.Errorf("%s: the list does not say %q:\n%s", when, words, list)
			}
		}
		if strings.Contains(list, "stays") || strings.Contains(list, "linked") {
			t.Errorf("%s: the list has what was not changed:\n%s", when, list)
		}
	}
	if x, ok := tree.JournalAside(); !ok || x.Changes == 0 || x.Shared != x.Line.Sequence {
		t.Errorf("while it is mounted: %+v, %v", x, ok)
	}
	check("while it is mounted", func() (*fs.AsideView, error) { return tree.OpenAside(ctx, fs.AsideJournal) })
	if x, ok := tree.JournalAside(); !ok || x.Exported.IsZero() {
		t.Errorf("after the export: %+v, %v", x, ok)
	}
	tree.Abort()

	tree = a.open()
	if st := tree.Status(); !st.ReadOnly {
		t.Errorf("mounted again: %+v", st)
	}
	all := a.asides()
	if len(all) != 1 || all[0].Problem != "" || all[0].Changes == 0 || all[0].Exported.IsZero() || !strings.Contains(all[0].Because, "took over") {
		t.Fatalf("set aside: %+v", all)
	}
	byName := func() (*fs.AsideView, error) { return tree.OpenAside(ctx, all[0].Name) }
	check("after a new mount", byName)
	tree.Abort()
	if tree = a.open(); len(a.asides()) != 1 {
		t.Errorf("mounted once more: %+v", a.asides())
	}
	tree.Abort()

	// Each has a node of its own: nobody frees blocks in that of another device.
	c.store = fstest.NewMemory()
	share(t, c, a)
	// The other one removes and replaces much of what the changes stand on; then this device
	// takes over again and commits.
	other := c.open()
	for i := range 4 {
		put(t, other, fs.RootIno, "old", pattern(fmt.Sprint("c", i), 200<<10))
		commit(t, other)
	}
	if err := other.Unlink(ctx, fs.RootIno, "stays"); err != nil {
		t.Fatal(err)
	}
	commit(t, other)
	other.Abort()
	share(t, a, c)
	name, cid = c.newest()
	if _, err := a.takeOver(a.s, name, cid); err != nil {
		t.Fatal(err)
	}
	tree = a.open()
	for i := range 4 {
		put(t, tree, fs.RootIno, "old", pattern(fmt.Sprint("a", i), 200<<10))
		commit(t, tree)
	}
	if st := tree.Status(); st.ReadOnly {
		t.Errorf("after it took over: %+v", st)
	}
	check("after it took over and committed", byName)

	cfg := a.config(a.s)
	if err := fs.DiscardAside(cfg, "../journal", true); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("a name that is none: %v", err)
	}
	if err := fs.DiscardAside(cfg, all[0].Name, false); err != nil {
		t.Fatal(err)
	}
	tree.Abort()
	if tree = a.open(); len(a.asides()) != 0 {
		t.Errorf("discarded: %+v", a.asides())
	}
	left, err := os.ReadDir(a.dir)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), ".aside") || strings.Contains(e.Name(), "discarded") {
			t.Errorf("%s was left, %v", e.Name(), err)
		}
	}
}

// This device did not see that it was displaced, and committed beside the other one. What it
// committed is as much acknowledged as what it did not.
func TestDisplacedKeepsItsCommits(t *testing.T) {
	ctx := context.Background()
	for _, commits := range []int{1, 6} {
		t.Run(fmt.Sprint(commits), func(t *testing.T) {
			a := founder(t)
			c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
			tree := a.open()
			put(t, tree, fs.RootIno, "old", pattern("old", 100<<10))
			put(t, tree, fs.RootIno, "stays", pattern("stays", 100<<10))
			commit(t, tree)
			c.store = fstest.NewMemory()
			share(t, c, a)
			name, cid := a.newest()
			if _, err := c.takeOver(c.s, name, cid); err != nil {
				t.Fatal(err)
			}
			want := map[string][]byte{}
			for i := range commits {
				n := fmt.Sprint("file", i)
				want[n] = pattern(n, 80<<10+i)
				put(t, tree, fs.RootIno, n, want[n])
				commit(t, tree)
			}
			other := c.open()
			put(t, other, fs.RootIno, "of the other", []byte("text"))
			commit(t, other)
			other.Abort()
			share(t, a, c)
			want["last"], want["old"] = pattern("last", 1<<20), []byte("short now")
			put(t, tree, fs.RootIno, "last", want["last"])
			old, err := tree.Lookup(ctx, fs.RootIno, "old")
			if err != nil {
				t.Fatal(err)
			}
			zero := uint64(0)
			if _, err := tree.SetAttr(ctx, old.Ino, fs.SetAttr{Size: &zero}); err != nil {
				t.Fatal(err)
			}
			put(t, tree, fs.RootIno, "old", want["old"])
			tree.Abort()

			tree = a.open()
			all := a.asides()
			if len(all) != 1 || all[0].Changes == 0 || all[0].Shared != name.Sequence {
				t.Fatalf("set aside: %+v", all)
			}
			if err := fs.DiscardAside(a.config(a.s), all[0].Name, false); !errors.Is(err, fs.ErrBusy) {
				t.Errorf("discarded without having been exported: %v", err)
			}
			got, list := exported(t, func() (*fs.AsideView, error) { return tree.OpenAside(ctx, all[0].Name) })
			sameFiles(t, "mounted again", got, want)
			if strings.Contains(list, "stays") {
				t.Errorf("the list:\n%s", list)
			}
			tree.Abort()
			// It goes on from the other's line, and the changes stay where they are.
			newest, err := fs.Newest(ctx, a.config(a.s))
			if !errors.Is(err, fs.ErrFork) {
				t.Fatal(newest, err)
			}
			from := fs.Rewrapped{Name: fs.CommitName{Vault: a.vault, Device: newest.Device, Sequence: newest.Sequence}, Commit: newest.Commit,
				Open: a.s.OpenWrapped, OtherLine: true}
			if _, err := fs.Rewrap(ctx, a.config(a.s), from); err != nil {
				t.Fatal(err)
			}
			tree = a.open()
			for i := range 3 {
				put(t, tree, fs.RootIno, "old", pattern(fmt.Sprint("again", i), 100<<10))
				commit(t, tree)
			}
			if got := a.asides(); len(got) != 1 {
				t.Errorf("after taking over: %+v", got)
			}
			got, _ = exported(t, func() (*fs.AsideView, error) { return tree.OpenAside(ctx, all[0].Name) })
			sameFiles(t, "after taking over", got, want)
		})
	}
}
