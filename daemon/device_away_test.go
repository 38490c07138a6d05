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

// A device opens its drive while the store is away, and another one takes over meanwhile.
// When the store is back, the first makes no commit beside the other's; what it wrote stays
// in its journal.
func TestOvertakenWhileTheStoreWasAway(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("before", "text")
	c := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	a.write("known to both", "text")
	far := fstest.NewFaulty(a.store)
	for _, op := range []fstest.Op{fstest.OpCommits, fstest.OpResolve, fstest.OpLink, fstest.OpUnlink} {
		far.Fail(op, fs.ErrUnavailable)
	}
	cfg := a.config(a.s)
	cfg.Store = far
	tree, err := fs.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Abort()
	for _, name := range []string{"before", "known to both"} {
		if _, err := tree.Lookup(ctx, fs.RootIno, name); err != nil {
			t.Errorf("%s, while the store is away: %v", name, err)
		}
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "written while it was away", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Sync(ctx, fs.DurabilityLocal); err != nil {
		t.Fatal(err)
	}
	name, cid := a.newest()
	taken, err := c.takeOver(c.s, name, cid)
	if err != nil {
		t.Fatal(err)
	}

	far.Heal()
	if err := tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, fs.ErrOtherWriter) {
		t.Errorf("a commit beside the other's: %v", err)
	}
	if _, err := tree.Mkdir(ctx, fs.RootIno, "more", 0o700, fs.Owner{}); !errors.Is(err, fs.ErrReadOnly) {
		t.Errorf("a change after that: %v", err)
	}
	s := tree.Status()
	if !s.ReadOnly || s.PendingOps == 0 || !strings.Contains(strings.Join(s.Alerts, "\n"), "took over") {
		t.Errorf("%+v", s)
	}
	if w, err := fs.Newest(ctx, c.config(c.s)); err != nil || w.Sequence != taken.Sequence {
		t.Errorf("who took over sees %+v, %v", w, err)
	}
	if !c.has("known to both") || c.has("written while it was away") {
		t.Error("who took over does not see what was committed")
	}
}
