package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// share copies the blocks and the names of one store to another.
func share(t *testing.T, to, from *machine) {
	t.Helper()
	ctx := context.Background()
	copyBlocks(t, to.store, from.store)
	names, err := from.store.Commits(ctx, from.vault)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		cid, err := from.store.Resolve(ctx, n)
		if err == nil {
			err = to.store.Link(ctx, n, cid, []fs.CID{cid})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Two devices cannot see each other, one takes over, the other one goes on. When they meet,
// neither takes the other's commits for its own successors, whatever their numbers, and
// what both have stays.
func TestTwoWritersMeet(t *testing.T) {
	ctx := context.Background()
	for _, more := range []struct {
		name        string
		old, taking int // commits of who is relieved, and of who took over
	}{{"the old one is ahead", 4, 1}, {"the new one is ahead", 1, 4}} {
		t.Run(more.name, func(t *testing.T) {
			a := founder(t)
			a.write("before", "text")
			c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
			c.store = fstest.NewMemory()
			share(t, c, a)
			name, cid := a.newest()
			taken, err := c.takeOver(c.s, name, cid)
			if err != nil {
				t.Fatal(err)
			}
			for i := range more.taking {
				c.write("taking"+string(rune('a'+i)), "text")
			}
			for i := range more.old {
				a.write("old"+string(rune('a'+i)), "text")
			}
			share(t, a, c)
			share(t, c, a)

			w, err := fs.Newest(ctx, c.config(c.s))
			if err != nil || w.Device != c.s.Device() || w.Sequence < taken.Sequence {
				t.Errorf("who took over goes on with %+v, %v", w, err)
			}
			if !c.has("takinga") || c.has("olda") {
				t.Error("who took over does not see its own line")
			}
			c.write("further", "text")

			tree, err := fs.Open(ctx, a.config(a.s))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Abort()
			st := tree.Status()
			if !st.ReadOnly || len(st.Alerts) == 0 {
				t.Errorf("who was relieved: %+v", st)
			}
			if !strings.Contains(st.Because, "took over") {
				t.Errorf("it is told %q", st.Because)
			}
			// What both have is there still; on request it goes on from the other's line.
			share(t, a, c)
			other, err := fs.Newest(ctx, a.config(a.s))
			if !errors.Is(err, fs.ErrFork) || other.Device != c.s.Device() {
				t.Fatalf("%+v, %v", other, err)
			}
			from := fs.Rewrapped{Name: fs.CommitName{Vault: a.vault, Device: other.Device, Sequence: other.Sequence}, Commit: other.Commit,
				Open: a.s.OpenWrapped, OtherLine: true}
			back, err := fs.Rewrap(ctx, a.config(a.s), from)
			if err != nil {
				t.Fatal(err)
			}
			if !a.has("further") || a.has("olda") {
				t.Error("it does not go on from the other's line")
			}
			a.write("again", "text")
			share(t, c, a)
			if w, err := fs.Newest(ctx, c.config(c.s)); err != nil || w.Sequence <= back.Sequence || !c.has("again") {
				t.Errorf("who took over first sees %+v, %v", w, err)
			}
		})
	}
}

// A device that is mounted learns from its store that another one has taken over, and makes
// no commit beside it. One that was revoked relieves nobody.
func TestOvertakenWhileOpen(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("before", "text")
	c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	r := a.enrol(auth.Grant{Scope: auth.ScopeRead})
	tree, err := fs.Open(ctx, a.config(a.s))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	mkdir := func(name string) error {
		if _, err := tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
			return err
		}
		return tree.Sync(ctx, fs.DurabilityIPFS)
	}
	name, cid := a.newest()
	if _, err := r.takeOver(deaf{r.s}, name, cid); err != nil {
		t.Fatal(err)
	}
	if err := mkdir("one"); err != nil {
		t.Errorf("a reader's commit relieves the writer: %v", err)
	}
	name, cid = a.newest()
	taken, err := c.takeOver(c.s, name, cid)
	if err != nil {
		t.Fatal(err)
	}
	if err := mkdir("two"); !errors.Is(err, fs.ErrOtherWriter) {
		t.Errorf("the writer that was relieved commits: %v", err)
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "three", 0o700, fs.Owner{}); !errors.Is(err, fs.ErrReadOnly) {
		t.Errorf("and takes changes: %v", err)
	}
	if _, err := tree.Rekey(ctx, true); !errors.Is(err, fs.ErrReadOnly) {
		t.Errorf("and changes the keys: %v", err)
	}
	if w, err := fs.Newest(ctx, c.config(c.s)); err != nil || w.Sequence != taken.Sequence {
		t.Errorf("%+v, %v", w, err)
	}
}
