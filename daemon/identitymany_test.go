package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A revoked device that still has the password of Egress pins many commits of its own, with
// higher numbers than the owner's: a recovery takes the owner's newest all the same.
func TestRecoverAmidCommitsOfARevokedDevice(t *testing.T) {
	ctx := context.Background()
	a, phrase := founderWithPhrase(t, "first")
	a.write("before", "old text")
	b := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	thief := &machine{t: t, dir: t.TempDir(), store: fstest.NewMemory(), vault: a.vault}
	copyBlocks(t, thief.store, a.store)
	if err := os.CopyFS(thief.dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	thief.login()
	name, cid := a.newest()
	if _, err := auth.Revoke(ctx, a.keystore(), thiefPass, b.s.Device()); err != nil {
		t.Fatal(err)
	}
	a.rekey(true)
	a.write("after", "new text")
	good, goodCID := a.newest()
	_, version, err := a.s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}

	var pins []cluster.Found
	for i := range 2*restoreTries + 2 {
		forged, err := thief.takeOver(deaf{thief.s}, name, cid)
		if err != nil {
			t.Fatal(err)
		}
		name, cid = fs.CommitName{Vault: a.vault, Device: forged.Device, Sequence: forged.Sequence}, forged.Commit
		for _, device := range []string{forged.Device, good.Device} { // under its own name, and the owner's
			p := pinOf(name, cid)
			p.Metadata[deviceKey] = device
			p.Metadata[sequenceKey] = fmt.Sprintf("%016x", highSequence-uint64(i))
			pins = append(pins, p)
		}
	}
	own := fstest.NewMemory()
	copyBlocks(t, own, a.store)
	copyBlocks(t, own, thief.store)
	s := IdentitySearch{Phrase: phrase, Log: slog.New(slog.DiscardHandler)}
	clues, err := s.examine(ctx, own, vaultsOf(append(pins, pinOf(good, goodCID))), "Egress")
	if err != nil {
		t.Fatal(err)
	}
	f, err := judge(ctx, clues, phrase, s.Log)
	if err != nil {
		t.Fatal(err)
	}
	if f.Commit == nil || f.Commit.Commit != goodCID || f.Version != version || f.Unlisted {
		t.Errorf("found %+v in version %s, want commit %s in version %s; unlisted %t", f.Commit, f.Version, goodCID, version, f.Unlisted)
	}

	// A commit whose page nobody has tells of the DID, and is not gone on from.
	e, err := fs.Examine(ctx, own, phrase.OpenWrapped, good, goodCID)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Whole(ctx, own); err != nil {
		t.Error(err)
	}
	if err := e.Whole(ctx, fstest.NewMemory()); err == nil {
		t.Error("a commit without its page is whole")
	}
}
