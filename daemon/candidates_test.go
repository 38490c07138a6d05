package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// junkPins are pins that claim to be commits, newer than any.
// highSequence is as high as a number may be at any time: what is higher is not looked at.
const highSequence = uint64(1) << 40

func junkPins(n int, vault string) (pins []cluster.Found) {
	for i := range n {
		pins = append(pins, cluster.Found{CID: crypt.Sum(crypt.DagPB, fmt.Appendf(nil, "junk %d", i)).String(), Metadata: map[string]string{
			cluster.OwnerKey: ownerPrefix + "x", vaultKey: vault, deviceKey: "aaaaaaaaaaaaaaaa", sequenceKey: fmt.Sprintf("%016x", highSequence-uint64(i)),
		}})
	}
	return pins
}

func pinOf(n fs.CommitName, c fs.CID) cluster.Found {
	return cluster.Found{CID: c.String(), Metadata: map[string]string{cluster.OwnerKey: ownerPrefix + n.Vault + "/" + n.Device,
		vaultKey: n.Vault, deviceKey: n.Device, sequenceKey: fmt.Sprintf("%016x", n.Sequence)}}
}

// slowStore is one that looks for what it has not among peers, and waits for them.
type slowStore struct {
	fs.Store
	wait    time.Duration
	waiting atomic.Int32
	most    atomic.Int32
}

func (s *slowStore) Get(ctx context.Context, c fs.CID) ([]byte, error) {
	if has, err := s.Has(ctx, c); err != nil || has {
		return s.Store.Get(ctx, c)
	}
	n := s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	select {
	case <-time.After(s.wait): // what is slow here
	case <-ctx.Done():
	}
	return nil, fs.ErrUnavailable
}

// Forty pins that nobody has anything of cost a restore the time of a few, and hide nothing.
func TestRestoreAmidJunk(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("old", "text")
	oldName, oldCID := a.newest()
	a.write("new", "text")
	name, cid := a.newest()
	pins := junkPins(40, a.vault)
	pins = append(pins, pinOf(oldName, oldCID), pinOf(name, cid))
	relabelled := pinOf(oldName, oldCID) // an old commit that calls itself the newest
	relabelled.Metadata[sequenceKey] = fmt.Sprintf("%016x", highSequence-1)
	pins = append(pins, relabelled)

	const wait = 300 * time.Millisecond
	store := &slowStore{Store: a.store, wait: wait}
	s := &Service{store: store, p: Params{Identity: a.s, Log: slog.New(slog.DiscardHandler)}}
	begun := time.Now()
	f, err := s.adoptNewest(ctx, newSlots(), vaultsOf(pins)[a.vault])
	if err != nil || f.Head.Sequence != name.Sequence {
		t.Errorf("restored commit %d of %d: %v", f.Head.Sequence, name.Sequence, err)
	}
	if d := time.Since(begun); d > 20*wait {
		t.Errorf("it took %v, one junk pin costs %v", d, wait)
	}
	if n := store.most.Load(); n < 2 || n > triesAtOnce {
		t.Errorf("%d candidates at once", n)
	}
	// Nothing but junk ends in time, with an error.
	short, cancel := context.WithTimeout(ctx, wait/2)
	defer cancel()
	if _, err := s.adoptNewest(short, newSlots(), vaultsOf(junkPins(40, a.vault))[a.vault]); err == nil {
		t.Error("restored from junk")
	}
	if n := store.waiting.Load(); n > 0 {
		t.Errorf("%d candidates are still tried", n)
	}
}

// A device finds another one's commit, and the DID document of another one's commit, among
// more junk than it tries at once.
func TestNewsAmidJunk(t *testing.T) {
	ctx := context.Background()
	a := founder(t)
	a.write("old", "text")
	b := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	if !b.has("old") {
		t.Fatal("the device does not see the drive")
	}
	revoked := a.enrol(auth.Grant{Scope: auth.ScopeFull})
	if _, err := auth.Revoke(ctx, a.keystore(), thiefPass, revoked.s.Device()); err != nil {
		t.Fatal(err)
	}
	a.write("new", "text")
	name, cid := a.newest()
	_, version, err := a.s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	own := fstest.NewMemory()
	copyBlocks(t, own, a.store)
	const wait = 300 * time.Millisecond
	store := &slowStore{Store: own, wait: wait}
	look := &pinLook{pins: vaultsOf(append(junkPins(100, a.vault), pinOf(name, cid)))[a.vault], meet: func(context.Context) error { return nil }}
	log := slog.New(slog.DiscardHandler)

	n := news{home: Home{State: filepath.Join(b.dir, "state")}, id: b.s, store: store, vault: a.vault, log: log}
	begun := time.Now()
	if got, err := n.link(ctx, look); err != nil || got != name {
		t.Errorf("found %+v, want %+v: %v", got, name, err)
	}
	if d := time.Since(begun); d > 50*wait {
		t.Errorf("it took %v, one junk pin costs %v", d, wait)
	}
	d := &displacement{store: store, id: b.s, log: log}
	if err := d.learn(ctx, look); err == nil {
		t.Error("commits that nobody delivers say nothing")
	}
	if _, got, err := b.s.Log(ctx); err != nil || got != version {
		t.Errorf("version %s of the document, want %s: %v", got, version, err)
	}
	// What nobody delivered is asked for last.
	d.store = &slowStore{Store: own, wait: time.Hour}
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d.read = nil
	_ = d.learn(short, look)
	if !d.hasRead(cid) {
		t.Error("junk that is known to be junk stands before a commit that can be read")
	}
}

// What is kept of a pin set is bounded, and is of ours.
func TestCandidatesAreBounded(t *testing.T) {
	vault := crypt.NewVaultID().String()
	c := newCandidates()
	for i, p := range junkPins(10_000, vault) {
		c.add(&p)
		c.add(&p) // twice is once
		if n := len(c.vaults[vault]); n > 2*maxOfVault {
			t.Fatalf("%d are kept after %d", n, i)
		}
	}
	for i := range 3 * maxVaults {
		p := junkPins(1, fmt.Sprintf("%032x", i))[0]
		c.add(&p)
	}
	all := c.all()
	if len(all) != maxVaults || len(all[vault]) != maxOfVault || all[vault][0].name.Sequence != highSequence {
		t.Errorf("%d vaults, %d commits", len(all), len(all[vault]))
	}
	if !slices.IsSortedFunc(all[vault], func(a, b pinned) int {
		return strings.Compare(fmt.Sprintf("%016x", b.name.Sequence), fmt.Sprintf("%016x", a.name.Sequence))
	}) {
		t.Error("not the newest first")
	}
	for _, bad := range []map[string]string{
		{vaultKey: "../../" + vault}, {vaultKey: strings.Repeat("a", 5000)}, {deviceKey: strings.Repeat("a", 5000)}, {sequenceKey: "zz"},
		{cluster.OwnerKey: "somebody else"},
	} {
		p := junkPins(1, vault)[0]
		for k, v := range bad {
			p.Metadata[k] = v
		}
		c := newCandidates()
		if c.add(&p); len(c.all()) != 0 {
			t.Errorf("taken: %v", p.Metadata)
		}
	}
}
