package fstest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

func (r *suite) persistence(t *testing.T) {
	s, ctx := r.open(t), background(t)
	linked, put := Commit(3, 4096), Commit(2, 100)
	putLink(t, s, name(1), linked)
	putLink(t, s, name(2), linked)
	must(t, s.Unlink(ctx, name(2)))
	must(t, s.Put(ctx, put))
	s = r.reopen(t, s)
	wantBlocks(t, s, append(linked, put...))
	wantCommits(t, s, "", name(1))
	if got, err := s.Resolve(ctx, name(1)); err != nil || got != dirOf(linked) {
		t.Fatalf("resolve: %s, %v", got, err)
	}
	must(t, s.Link(ctx, name(3), dirOf(put), cids(put)))
	s = r.reopen(t, s)
	wantBlocks(t, s, append(linked, put...))
	wantCommits(t, s, "", name(1), name(3))
	s = r.reopen(t, s)
	wantBlocks(t, s, append(linked, put...))
}

func (r *suite) collection(t *testing.T) {
	s, ctx := r.open(t), background(t)
	first, second := Commit(3, 4096), Commit(3, 4096)
	must(t, s.Put(ctx, first))
	r.collect(t, s)
	wantBlocks(t, s, first)
	must(t, s.Link(ctx, name(1), dirOf(first), cids(first)))
	r.collect(t, s)
	wantBlocks(t, s, first)
	must(t, s.Put(ctx, second))
	r.collect(t, s)
	must(t, s.Link(ctx, name(2), dirOf(second), cids(second)))
	must(t, s.Unlink(ctx, name(1)))
	wantBlocks(t, s, append(first, second...))
	must(t, s.Free(ctx, cids(first)))
	r.collect(t, s)
	wantBlocks(t, s, second)
	for _, b := range first {
		if has, err := s.Has(ctx, b.CID); has || err != nil {
			t.Fatalf("has a freed block after the collection: %v, %v", has, err)
		}
	}
}

// collectionWhileWriting lets the collection run all the time while commits are made. It
// ends only if neither waits for the other for ever.
func (r *suite) collectionWhileWriting(t *testing.T) {
	s, ctx := r.open(t), background(t)
	const writers, commits = 2, 8
	stop := make(chan struct{})
	collected := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				collected <- n
				return
			default:
				r.collect(t, s)
				n++
			}
		}
	}()
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	all := make([][]fs.Block, writers)
	for w := range writers {
		wg.Go(func() {
			for c := range commits {
				var commit []fs.Block
				for _, b := range Commit(8, 4096) {
					if err := s.Put(ctx, []fs.Block{b}); err != nil {
						errs <- err
						return
					}
					commit = append(commit, b)
				}
				n := fs.CommitName{Vault: "v", Device: fmt.Sprintf("d%d", w), Sequence: uint64(c)}
				if err := s.Link(ctx, n, dirOf(commit), cids(commit)); err != nil {
					errs <- err
					return
				}
				all[w] = append(all[w], commit...)
			}
		})
	}
	wg.Wait()
	close(stop)
	if n := <-collected; n < 2 {
		t.Errorf("only %d collections ended while %d commits were made", n, writers*commits)
	}
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	r.collect(t, s)
	for _, blocks := range all {
		wantBlocks(t, s, blocks)
	}
}

func (r *suite) collectionAfterReopen(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := Commit(3, 4096)
	must(t, s.Put(ctx, blocks))
	s = r.reopen(t, s)
	r.collect(t, s)
	wantBlocks(t, s, blocks)
	must(t, s.Link(ctx, name(1), dirOf(blocks), cids(blocks)))
	s = r.reopen(t, s)
	r.collect(t, s)
	wantBlocks(t, s, blocks)
}

func (r *suite) damaged(t *testing.T) {
	s, ctx := r.open(t), background(t)
	blocks := Commit(2, 4096)
	putLink(t, s, name(1), blocks)
	r.damage(t, s, blocks[0].CID)
	_, err := s.Get(ctx, blocks[0].CID)
	wantErr(t, "get a damaged block", err, fs.ErrIntegrity)
	wantBlocks(t, s, blocks[1:])
	must(t, s.Put(ctx, blocks[:1])) // putting it again mends it
	wantBlocks(t, s, blocks)
}
