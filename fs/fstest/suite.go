package fstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Option tells RunStore what a Store can do beyond the interface.
type Option func(*suite)

// Reopen names a way to close a store and open it again on the same content, as a new
// process would. Without it the tests of persistence do not run.
func Reopen(f func(t *testing.T, s fs.Store) fs.Store) Option {
	return func(r *suite) { r.reopen = f }
}

// Collect names a way to run the garbage collection of the node behind a store.
func Collect(f func(t *testing.T, s fs.Store)) Option {
	return func(r *suite) { r.collect = f }
}

// Damage names a way to change the stored bytes of a block behind the store's back.
func Damage(f func(t *testing.T, s fs.Store, cid fs.CID)) Option {
	return func(r *suite) { r.damage = f }
}

// LeavesFreed says that Free leaves blocks to the collection of the node.
func LeavesFreed() Option { return func(r *suite) { r.leavesFreed = true } }

type suite struct {
	open        func(t *testing.T) fs.Store
	reopen      func(t *testing.T, s fs.Store) fs.Store
	collect     func(t *testing.T, s fs.Store)
	damage      func(t *testing.T, s fs.Store, cid fs.CID)
	leavesFreed bool
}

// RunStore holds a Store against what fs.Store promises. open returns an empty store and
// takes care that it is closed when the test ends; closing twice must do no harm.
func RunStore(t *testing.T, open func(t *testing.T) fs.Store, options ...Option) {
	r := &suite{open: open}
	for _, o := range options {
		o(r)
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
		can  bool
	}{
		{"PutGetHas", r.putGetHas, true},
		{"LargeBlock", r.largeBlock, true},
		{"NotFound", r.notFound, true},
		{"Link", r.link, true},
		{"LinkNeedsItsBlocks", r.linkNeedsItsBlocks, true},
		{"BadNames", r.badNames, true},
		{"Order", r.order, true},
		{"Unlink", r.unlink, true},
		{"Free", r.free, true},
		{"Usage", r.usage, true},
		{"Cancelled", r.cancelled, true},
		{"Concurrent", r.concurrent, true},
		{"ConcurrentLinks", r.concurrentLinks, true},
		{"Closed", r.closed, true},
		{"Persistence", r.persistence, r.reopen != nil},
		{"Collection", r.collection, r.collect != nil},
		{"CollectionWhileWriting", r.collectionWhileWriting, r.collect != nil},
		{"CollectionAfterReopen", r.collectionAfterReopen, r.collect != nil && r.reopen != nil},
		{"Damage", r.damaged, r.damage != nil},
	} {
		if c.can {
			t.Run(c.name, c.run)
		}
	}
}

// Timeout bounds one operation of the suite. It is far above what any takes.
const Timeout = 60 * time.Second

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	t.Cleanup(cancel)
	return ctx
}

// Random returns n random bytes, as sealed data looks.
func Random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its contract
	return b
}

// Commit returns the blocks of a small commit: leaves, a subdirectory, and the directory,
// which comes last.
func Commit(leaves int, size int) []fs.Block {
	var blocks []fs.Block
	var links []Link
	for i := range leaves {
		b := RawBlock(Random(size))
		blocks = append(blocks, b)
		links = append(links, Link{fmt.Sprintf("%08x", i), b.CID, uint64(size)})
	}
	sub := Directory(links...)
	return append(blocks, sub, Directory(Link{"root", sub.CID, uint64(leaves * size)}))
}

func cids(blocks []fs.Block) []fs.CID {
	out := make([]fs.CID, len(blocks))
	for i, b := range blocks {
		out[i] = b.CID
	}
	return out
}

func dirOf(blocks []fs.Block) fs.CID { return blocks[len(blocks)-1].CID }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want one that is %q", what, err, want)
	}
}

func wantBlocks(t *testing.T, s fs.Store, blocks []fs.Block) {
	t.Helper()
	ctx := background(t)
	for _, b := range blocks {
		got, err := s.Get(ctx, b.CID)
		if err != nil {
			t.Fatalf("get %s: %v", b.CID, err)
		}
		if !bytes.Equal(got, b.Data) {
			t.Fatalf("get %s: %d other bytes than the %d put", b.CID, len(got), len(b.Data))
		}
		if has, err := s.Has(ctx, b.CID); err != nil || !has {
			t.Fatalf("has %s: %v, %v", b.CID, has, err)
		}
	}
}

func name(sequence uint64) fs.CommitName {
	return fs.CommitName{Vault: "vault1", Device: "device1", Sequence: sequence}
}

func wantCommits(t *testing.T, s fs.Store, vault string, want ...fs.CommitName) {
	t.Helper()
	got, err := s.Commits(background(t), vault)
	must(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("commits of %q: got %v, want %v", vault, got, want)
	}
}

// putLink puts and links a commit.
func putLink(t *testing.T, s fs.Store, n fs.CommitName, blocks []fs.Block) {
	t.Helper()
	ctx := background(t)
	must(t, s.Put(ctx, blocks))
	must(t, s.Link(ctx, n, dirOf(blocks), cids(blocks)))
}

func (r *suite) putGetHas(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := append(Commit(3, 4096), RawBlock([]byte{}), RawBlock([]byte{7}))
	must(t, s.Put(ctx, nil))
	must(t, s.Put(ctx, blocks[:1]))
	wantBlocks(t, s, blocks[:1])
	must(t, s.Put(ctx, blocks))
	must(t, s.Put(ctx, blocks))
	wantBlocks(t, s, blocks)
	must(t, s.Sync(ctx))
	must(t, s.Sync(ctx))
	wantBlocks(t, s, blocks)
	if i := s.Info(); i.Kind == "" || i.Version == "" {
		t.Fatalf("info: %+v", i)
	}
}

func (r *suite) largeBlock(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := []fs.Block{RawBlock(Random(1<<20 + 4096)), RawBlock(Random(2 << 20))}
	dir := Directory(Link{"a", blocks[0].CID, 1 << 20}, Link{"b", blocks[1].CID, 2 << 20})
	putLink(t, s, name(1), append(blocks, dir))
	wantBlocks(t, s, append(blocks, dir))
	wantErr(t, "a block that IPFS does not pass on",
		s.Put(ctx, []fs.Block{RawBlock(Random(2<<20 + 1))}), fs.ErrTooLarge)
}

func (r *suite) notFound(t *testing.T) {
	s, ctx := r.open(t), background(t)
	for _, b := range []fs.Block{RawBlock(Random(10)), Directory(Link{"x", crypt.Sum(crypt.Raw, Random(4)), 4})} {
		_, err := s.Get(ctx, b.CID)
		wantErr(t, "get", err, fs.ErrNotFound)
		if has, err := s.Has(ctx, b.CID); has || err != nil {
			t.Fatalf("has: %v, %v", has, err)
		}
	}
	_, err := s.Resolve(ctx, name(1))
	wantErr(t, "resolve in an empty store", err, fs.ErrNotFound)
	wantCommits(t, s, "")
	wantCommits(t, s, "vault1")
	putLink(t, s, name(1), Commit(1, 10))
	_, err = s.Resolve(ctx, name(2))
	wantErr(t, "resolve", err, fs.ErrNotFound)
}

func (r *suite) link(t *testing.T) {
	s, ctx := r.open(t), background(t)
	first, second := Commit(5, 4096), Commit(2, 100)
	putLink(t, s, name(1), first)
	got, err := s.Resolve(ctx, name(1))
	must(t, err)
	if got != dirOf(first) {
		t.Fatalf("resolve: got %s, want %s", got, dirOf(first))
	}
	must(t, s.Link(ctx, name(1), dirOf(first), cids(first)))
	must(t, s.Link(ctx, name(1), dirOf(first), nil))
	must(t, s.Put(ctx, second))
	wantErr(t, "link a name to another directory",
		s.Link(ctx, name(1), dirOf(second), cids(second)), fs.ErrExist)
	if got, err := s.Resolve(ctx, name(1)); err != nil || got != dirOf(first) {
		t.Fatalf("resolve after a refused link: %s, %v", got, err)
	}
	must(t, s.Link(ctx, name(2), dirOf(second), cids(second)))
	must(t, s.Link(ctx, name(3), dirOf(first), nil)) // two names of one directory
	wantCommits(t, s, "vault1", name(1), name(2), name(3))
	wantBlocks(t, s, append(first, second...))
}

func (r *suite) linkNeedsItsBlocks(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := Commit(2, 64)
	must(t, s.Put(ctx, blocks[1:]))
	wantErr(t, "link without a block",
		s.Link(ctx, name(1), dirOf(blocks), cids(blocks)), fs.ErrNotFound)
	wantCommits(t, s, "")
	must(t, s.Put(ctx, blocks[:1]))
	must(t, s.Link(ctx, name(1), dirOf(blocks), cids(blocks)))
	missing := Commit(1, 64)
	wantErr(t, "link to no directory",
		s.Link(ctx, name(2), dirOf(missing), nil), fs.ErrNotFound)
	wantErr(t, "link to a leaf", s.Link(ctx, name(2), blocks[0].CID, nil), fs.ErrInvalid)
	wantCommits(t, s, "", name(1))
}

func (r *suite) badNames(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := Commit(1, 64)
	must(t, s.Put(ctx, blocks))
	for _, bad := range []string{"", ".", "..", "a/b", "a b", "A", "a\x00", "ä", "a-b", "../../x"} {
		for _, n := range []fs.CommitName{{Vault: bad, Device: "d"}, {Vault: "v", Device: bad}} {
			wantErr(t, "link "+n.Path(), s.Link(ctx, n, dirOf(blocks), cids(blocks)), fs.ErrInvalid)
			wantErr(t, "unlink "+n.Path(), s.Unlink(ctx, n), fs.ErrInvalid)
			_, err := s.Resolve(ctx, n)
			wantErr(t, "resolve "+n.Path(), err, fs.ErrInvalid)
		}
	}
	wantCommits(t, s, "")
}

func (r *suite) order(t *testing.T) {
	s := r.open(t)
	blocks := Commit(1, 64)
	names := []fs.CommitName{
		{Vault: "v", Device: "b", Sequence: 1<<64 - 1},
		{Vault: "v", Device: "a", Sequence: 2},
		{Vault: "w", Device: "a", Sequence: 3},
		{Vault: "v", Device: "b", Sequence: 0x10},
		{Vault: "v", Device: "b", Sequence: 9},
	}
	for _, n := range names {
		putLink(t, s, n, blocks)
	}
	wantCommits(t, s, "v", names[1], names[4], names[3], names[0])
	wantCommits(t, s, "w", names[2])
	wantCommits(t, s, "", names[1], names[2], names[4], names[3], names[0])
	wantCommits(t, s, "x")
}

func (r *suite) unlink(t *testing.T) {
	s, ctx := r.open(t), background(t)
	must(t, s.Unlink(ctx, name(1)))
	first, second := Commit(2, 64), Commit(2, 64)
	putLink(t, s, name(1), first)
	putLink(t, s, name(2), second)
	must(t, s.Unlink(ctx, name(1)))
	must(t, s.Unlink(ctx, name(1)))
	must(t, s.Unlink(ctx, fs.CommitName{Vault: "no", Device: "no"}))
	wantCommits(t, s, "", name(2))
	_, err := s.Resolve(ctx, name(1))
	wantErr(t, "resolve", err, fs.ErrNotFound)
	wantBlocks(t, s, append(first, second...))
	must(t, s.Link(ctx, name(1), dirOf(second), cids(second))) // the name is free again
	wantCommits(t, s, "", name(1), name(2))
}

func (r *suite) free(t *testing.T) {
	s, ctx := r.open(t), background(t)
	kept, freed := Commit(2, 64), Commit(2, 64)
	putLink(t, s, name(1), freed)
	putLink(t, s, name(2), kept)
	must(t, s.Unlink(ctx, name(1)))
	must(t, s.Free(ctx, cids(freed)))
	must(t, s.Free(ctx, cids(freed)))
	wantBlocks(t, s, kept)
	if !r.leavesFreed {
		for _, b := range freed {
			if has, err := s.Has(ctx, b.CID); has || err != nil {
				t.Fatalf("has a freed block: %v, %v", has, err)
			}
		}
	}
	putLink(t, s, name(3), freed) // and it can come back
	wantBlocks(t, s, freed)
}

func (r *suite) usage(t *testing.T) {
	s, ctx := r.open(t), background(t)
	before, _, err := s.Usage(ctx)
	must(t, err)
	putLink(t, s, name(1), Commit(4, 1<<18))
	after, _, err := s.Usage(ctx)
	must(t, err)
	if (before != 0 || after != 0) && after < before+1<<20 {
		t.Fatalf("usage went from %d to %d bytes with a MiB put", before, after)
	}
}

func (r *suite) cancelled(t *testing.T) {
	s := r.open(t)
	blocks := Commit(1, 64)
	putLink(t, s, name(1), blocks)
	ctx, cancel := context.WithCancel(background(t))
	cancel()
	_, getErr := s.Get(ctx, blocks[0].CID)
	_, hasErr := s.Has(ctx, blocks[0].CID)
	_, commitsErr := s.Commits(ctx, "")
	_, resolveErr := s.Resolve(ctx, name(1))
	_, _, usageErr := s.Usage(ctx)
	for what, err := range map[string]error{
		"put": s.Put(ctx, Commit(1, 64)), "sync": s.Sync(ctx), "get": getErr, "has": hasErr,
		"link": s.Link(ctx, name(2), dirOf(blocks), nil), "unlink": s.Unlink(ctx, name(1)),
		"commits": commitsErr, "resolve": resolveErr, "free": s.Free(ctx, cids(blocks)), "usage": usageErr,
	} {
		wantErr(t, what, err, context.Canceled)
	}
	wantBlocks(t, s, blocks)
	wantCommits(t, s, "", name(1))
}

func (r *suite) concurrent(t *testing.T) {
	s, ctx := r.open(t), background(t)
	shared := Commit(4, 4096)
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for range 8 {
		wg.Go(func() {
			for range 4 {
				own := Commit(4, 4096)
				for _, blocks := range [][]fs.Block{shared, own} {
					if err := s.Put(ctx, blocks); err != nil {
						errs <- err
						return
					}
					for _, b := range blocks {
						if got, err := s.Get(ctx, b.CID); err != nil || !bytes.Equal(got, b.Data) {
							errs <- fmt.Errorf("get %s: %d bytes, %w", b.CID, len(got), err)
							return
						}
					}
				}
				if err := s.Sync(ctx); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	wantBlocks(t, s, shared)
}

func (r *suite) concurrentLinks(t *testing.T) {
	s, ctx := r.open(t), background(t)
	const devices, commits = 4, 3
	var wg sync.WaitGroup
	errs := make(chan error, devices)
	for d := range devices {
		wg.Go(func() {
			for c := range commits {
				blocks := Commit(2, 64)
				n := fs.CommitName{Vault: "v", Device: fmt.Sprintf("d%d", d), Sequence: uint64(c)}
				err := s.Put(ctx, blocks)
				if err == nil {
					err = s.Link(ctx, n, dirOf(blocks), cids(blocks))
				}
				if err == nil && c > 0 {
					n.Sequence--
					err = s.Unlink(ctx, n)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	var want []fs.CommitName
	for d := range devices {
		want = append(want, fs.CommitName{Vault: "v", Device: fmt.Sprintf("d%d", d), Sequence: commits - 1})
	}
	wantCommits(t, s, "v", want...)
}

func (r *suite) closed(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := Commit(1, 64)
	must(t, s.Put(ctx, blocks))
	must(t, s.Close())
	must(t, s.Close())
	wantErr(t, "put", s.Put(ctx, blocks), fs.ErrUnavailable)
	_, err := s.Get(ctx, blocks[0].CID)
	wantErr(t, "get", err, fs.ErrUnavailable)
}
