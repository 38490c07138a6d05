package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// copied is a vault whose state and journal were copied: the same device once more. Its
// store has what the other one has, as after a copy of the whole disk.
func (v *vault) copied() *vault {
	v.t.Helper()
	dir := v.t.TempDir()
	c := &vault{t: v.t, store: fstest.NewMemory(), cfg: v.cfg}
	c.cfg.Store = c.store
	c.cfg.StateDir, c.cfg.JournalDir = filepath.Join(dir, "state"), filepath.Join(dir, "journal")
	for from, to := range map[string]string{v.cfg.StateDir: c.cfg.StateDir, v.cfg.JournalDir: c.cfg.JournalDir} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			v.t.Fatal(err)
		}
	}
	v.send(c)
	return c
}

// send gives another vault's store all blocks, and the name of no commit but the accepted.
func (v *vault) send(to *vault) {
	v.t.Helper()
	m := v.store.(*fstest.Memory)
	for _, cid := range m.CIDs() {
		b, err := m.Get(ctx, cid)
		if err == nil {
			err = to.store.Put(ctx, []fs.Block{{CID: cid, Data: b}})
		}
		if err != nil {
			v.t.Fatal(err)
		}
	}
	name, commit, err := fs.LastAccepted(to.cfg.StateDir, to.cfg.Vault)
	if err == nil {
		err = to.store.Link(ctx, name, commit, []fs.CID{commit})
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// made makes a directory and commits it.
func (v *vault) made(name string) fs.HeadInfo {
	v.t.Helper()
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
		v.t.Fatal(err)
	}
	v.commit()
	return v.tree.Status().Commit
}

func (v *vault) hasDir(name string) bool {
	v.t.Helper()
	_, err := v.tree.Lookup(ctx, fs.RootIno, name)
	if err != nil && !errors.Is(err, fs.ErrNotFound) {
		v.t.Fatal(err)
	}
	return err == nil
}

func (v *vault) name(h fs.HeadInfo) fs.CommitName {
	return fs.CommitName{Vault: v.cfg.Vault, Device: h.Device, Sequence: h.Sequence}
}

// take links a commit of another machine, as it is done with one that Egress has.
func (v *vault) take(from *vault, h fs.HeadInfo) {
	v.t.Helper()
	from.send(v)
	if _, err := fs.Adopt(ctx, v.store, v.cfg.Identity, v.name(h), h.Commit, time.Time{}); err != nil {
		v.t.Fatal(err)
	}
}

// A backup of a device is put back after the device has gone on, in this and in later
// sessions: the newer state comes after it, and is taken over.
func TestBackupFollowedByNewerState(t *testing.T) {
	v := newVault(t, nil)
	v.made("before")
	v.tree.Abort()
	old := v.copied()
	v.open()
	v.made("later")
	v.kill()
	newest := v.made("latest")

	v.send(old)
	if r, err := fs.Relate(ctx, old.cfg, old.name(newest), newest.Commit); err != nil || r.Kin != fs.KinDescendant || r.Sequence != newest.Sequence {
		t.Fatalf("the newest commit, seen from the backup: %+v, %v", r, err)
	}
	old.take(v, newest)
	old.open()
	defer old.tree.Abort()
	if s := old.tree.Status(); s.ReadOnly || !old.hasDir("later") || !old.hasDir("latest") {
		t.Errorf("the backup has not gone on from the newest state: %+v", s)
	}
	next := old.made("next")
	old.send(v)
	if r, err := v.tree.Relate(ctx, v.name(next), next.Commit); err != nil || r.Kin != fs.KinDescendant {
		t.Errorf("what it made then: %+v, %v", r, err)
	}
	if r, err := old.tree.Relate(ctx, v.name(newest), newest.Commit); err != nil || r.Kin != fs.KinAncestor {
		t.Errorf("what it has gone on from: %+v, %v", r, err)
	}
}

// Two machines with the same device go on from the same commit: each sees that the other's
// commits do not come after its own, whatever their numbers, and opens the other's no more
// than it mixes it in.
func TestTwins(t *testing.T) {
	v := newVault(t, nil)
	v.made("before")
	v.tree.Abort()
	twin := v.copied()
	twin.cfg.Leap = true
	v.open()
	twin.open()
	defer func() { twin.tree.Abort() }()
	a, b := v.made("a"), twin.made("b")
	if a.Sequence == b.Sequence {
		t.Errorf("both have signed number %d", a.Sequence)
	}
	v.send(twin)
	twin.send(v)
	for who, r := range map[*vault]fs.HeadInfo{v: b, twin: a} {
		if got, err := who.tree.Relate(ctx, v.name(r), r.Commit); err != nil || got.Kin != fs.KinOther {
			t.Errorf("the other's commit: %+v, %v", got, err)
		}
	}
	v.take(twin, b)
	v.kill()
	s := v.tree.Status()
	if !s.ReadOnly || len(s.Causes) == 0 || !errors.Is(s.Causes[0], fs.ErrTwin) || s.Commit.Commit != a.Commit || !v.hasDir("a") || v.hasDir("b") {
		t.Errorf("opened beside the twin's commit: %+v", s)
	}

	// The owner lets this one go on, from the other's line. What it had is no news from then
	// on, and no ancestor.
	other, err := fs.Newest(ctx, v.cfg)
	if !errors.Is(err, fs.ErrTwin) || other.Commit != b.Commit {
		t.Fatalf("%+v, %v", other, err)
	}
	v.tree.Abort()
	if _, err := fs.Rewrap(ctx, v.cfg, fs.Rewrapped{Name: v.name(other), Commit: other.Commit, Open: v.cfg.Identity.OpenWrapped, OtherLine: true}); err != nil {
		t.Fatal(err)
	}
	v.open()
	if s := v.tree.Status(); s.ReadOnly || v.hasDir("a") || !v.hasDir("b") {
		t.Errorf("it does not go on from the other's line: %+v", s)
	}
	end := v.made("end")
	if r, err := v.tree.Relate(ctx, v.name(a), a.Commit); err != nil || r.Kin != fs.KinAside {
		t.Errorf("what was given up: %+v, %v", r, err)
	}
	v.send(twin)
	if r, err := twin.tree.Relate(ctx, v.name(end), end.Commit); err != nil || r.Kin != fs.KinDescendant {
		t.Errorf("seen from the other one: %+v, %v", r, err)
	}
}

// A copy goes on from what an open drive has committed: the drive sees that somebody else
// writes in its place.
func TestCopyGoesOnFromOpenDrive(t *testing.T) {
	v := newVault(t, nil)
	before := v.made("before")
	twin := v.copied()
	defer func() { twin.tree.Abort() }()
	after := v.made("after")
	v.send(twin)
	twin.take(v, after)
	twin.open()
	last := twin.made("twin")
	twin.send(v)
	if r, err := v.tree.Relate(ctx, v.name(last), last.Commit); err != nil || r.Kin != fs.KinDescendant {
		t.Errorf("a commit made on top of an open drive's: %+v, %v", r, err)
	}
	for _, h := range []fs.HeadInfo{before, after} {
		if r, err := v.tree.Relate(ctx, v.name(h), h.Commit); err != nil || r.Kin == fs.KinOther {
			t.Errorf("its own: %+v, %v", r, err)
		}
	}
}

// A halted tree takes no change and commits nothing, and keeps what it had.
func TestHalt(t *testing.T) {
	v := newVault(t, nil)
	h := v.made("committed")
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "pending", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	v.tree.Halt(fs.ErrTwin)
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "more", 0o700, fs.Owner{}); !errors.Is(err, fs.ErrReadOnly) || !errors.Is(err, fs.ErrTwin) {
		t.Errorf("a change: %v", err)
	}
	if err := v.tree.Sync(ctx, fs.DurabilityIPFS); !errors.Is(err, fs.ErrTwin) {
		t.Errorf("a commit: %v", err)
	}
	if s := v.tree.Status(); !s.ReadOnly || s.Commit.Commit != h.Commit || !v.hasDir("pending") {
		t.Errorf("%+v", s)
	}
	// Nobody has gone on: so what is pending is on top of the newest commit still.
	if v.kill(); !v.hasDir("pending") || v.tree.Status().ReadOnly {
		t.Errorf("opened again: %+v", v.tree.Status())
	}
	v.commit()
}

// The journal of a backup goes on where the journal of the device that went on has other
// records of the same numbers: its changes are set aside, not taken for committed.
func TestBackupWithChangesOfItsOwn(t *testing.T) {
	v := newVault(t, nil)
	v.made("before")
	v.tree.Abort()
	old := v.copied()
	v.open()
	for _, name := range []string{"1", "2", "3"} {
		v.made(name)
	}
	newest := v.made("4")
	old.open()
	if _, err := old.tree.Mkdir(ctx, fs.RootIno, "own", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	old.tree.Abort()
	old.take(v, newest)
	old.open()
	defer old.tree.Abort()
	s := old.tree.Status()
	if old.hasDir("own") || !old.hasDir("4") {
		t.Errorf("the drive has %+v", s)
	}
	// The daemon makes an alert of it, for as long as it is there.
	aside, err := fs.Asides(old.cfg.JournalDir, old.cfg.Vault)
	if err != nil || len(aside) != 1 || aside[0].Changes != 1 || aside[0].Problem != "" {
		t.Fatalf("set aside: %+v, %v", aside, err)
	}
	view, err := old.tree.OpenAside(ctx, aside[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	var differ []string
	err = view.Walk(ctx, func(d fs.Difference) error { differ = append(differ, string(d.Kind)+" "+d.Path); return nil })
	if err != nil || !slices.Equal(differ, []string{"new own"}) {
		t.Errorf("it has %q, %v", differ, err)
	}
}

// What another line has in the same store is neither unlinked nor freed.
func TestRetireLeavesOtherLines(t *testing.T) {
	v := newVault(t, nil)
	v.made("before")
	v.tree.Abort()
	twin := v.copied()
	twin.open()
	b := twin.made("b")
	twin.tree.Abort()
	v.cfg.Leap = true
	v.open()
	a := v.made("a")
	if a.Sequence <= b.Sequence {
		t.Fatalf("commit %d after commit %d", a.Sequence, b.Sequence)
	}
	twin.send(v)
	if err := v.store.Link(ctx, v.name(b), b.Commit, []fs.CID{b.Commit}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		v.made(name)
	}
	if c, err := v.store.Resolve(ctx, v.name(b)); err != nil || c != b.Commit {
		t.Errorf("the other line's commit: %v, %v", c, err)
	}
	names, err := v.store.Commits(ctx, v.cfg.Vault)
	if err != nil || len(names) != 3 {
		t.Errorf("linked are %v, %v", names, err)
	}
}
