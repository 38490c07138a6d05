package fstest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

func TestMemory(t *testing.T) {
	RunStore(t, func(*testing.T) fs.Store { return NewMemory() },
		Reopen(func(t *testing.T, s fs.Store) fs.Store { return s.(*Memory).Reopen() }),
		Collect(func(t *testing.T, s fs.Store) { s.(*Memory).Collect() }),
		Damage(func(t *testing.T, s fs.Store, c fs.CID) {
			s.(*Memory).Tamper(c, func(b []byte) []byte { b[0] ^= 1; return b })
		}))
}

func TestFaultyWithoutFaults(t *testing.T) {
	RunStore(t, func(*testing.T) fs.Store { return NewFaulty(NewMemory()) })
}

func TestMemoryPowerCut(t *testing.T) {
	m, ctx := NewMemory(), background(t)
	synced, linked, lost := Commit(1, 8), Commit(1, 8), Commit(1, 8)
	must(t, m.Put(ctx, synced))
	must(t, m.Sync(ctx))
	putLink(t, m, name(1), linked)
	must(t, m.Put(ctx, lost))
	after := m.PowerCut()
	wantBlocks(t, after, append(synced, linked...))
	wantCommits(t, after, "", name(1))
	for _, b := range lost {
		_, err := after.Get(ctx, b.CID)
		wantErr(t, "a block that was not synced", err, fs.ErrNotFound)
	}
	wantErr(t, "use after the cut", m.Sync(ctx), fs.ErrUnavailable)
}

func TestMemoryLimit(t *testing.T) {
	m, ctx := NewMemory(), background(t)
	m.Limit = 100
	b := RawBlock(Random(80))
	must(t, m.Put(ctx, []fs.Block{b}))
	wantErr(t, "put", m.Put(ctx, []fs.Block{RawBlock(Random(21))}), fs.ErrNoSpace)
	must(t, m.Free(ctx, []fs.CID{b.CID}))
	must(t, m.Put(ctx, []fs.Block{RawBlock(Random(100))}))
}

func TestFaulty(t *testing.T) {
	ctx := background(t)
	f := NewFaulty(NewMemory())
	blocks := Commit(2, 64)
	putLink(t, f, name(1), blocks)
	second := Commit(1, 64)
	putLink(t, f, name(2), second)
	c := blocks[0].CID

	fault := errors.New("fault")
	f.Fail(OpGet, fault)
	_, err := f.Get(ctx, c)
	wantErr(t, "fail", err, fault)
	f.FailTimes(OpGet, 1, fault)
	_, err = f.Get(ctx, c)
	wantErr(t, "fail once", err, fault)
	_, err = f.Get(ctx, c)
	must(t, err)

	f.Hang(Any)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	wantErr(t, "hang", f.Sync(short), fs.ErrUnavailable)
	f.Heal()
	f.Delay(OpSync, time.Hour)
	short, cancel = context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	wantErr(t, "delay", f.Sync(short), context.DeadlineExceeded)

	f.After(OpLink, func(context.Context) error { return fault })
	wantErr(t, "lost reply", f.Link(ctx, name(3), dirOf(second), nil), fault)
	wantCommits(t, f, "", name(1), name(2), name(3))

	f.Flip(c)
	if got, err := f.Get(ctx, c); err != nil || c.Verify(got) {
		t.Fatalf("flip: %v, and the bytes verify", err)
	}
	f.Replace(c, []byte("other"))
	if got, err := f.Get(ctx, c); err != nil || !bytes.Equal(got, []byte("other")) {
		t.Fatalf("replace: %q, %v", got, err)
	}
	f.Corrupt(c)
	_, err = f.Get(ctx, c)
	wantErr(t, "corrupt", err, fs.ErrIntegrity)
	f.Lose(c)
	_, err = f.Get(ctx, c)
	wantErr(t, "lose", err, fs.ErrNotFound)
	if has, err := f.Has(ctx, c); has || err != nil {
		t.Fatalf("has a lost block: %v, %v", has, err)
	}

	must(t, f.RollBack(ctx, "vault1"))
	wantCommits(t, f, "", name(1), name(2))
	must(t, f.RollBack(ctx, "vault1", name(2)))
	_, err = f.Resolve(ctx, name(2))
	wantErr(t, "resolve a rolled back commit", err, fs.ErrNotFound)
	f.Heal()
	wantCommits(t, f, "", name(1), name(2), name(3))
	wantBlocks(t, f, blocks)
	if n := f.Calls(OpLink); n != 3 {
		t.Fatalf("%d links counted, want 3", n)
	}
}
