package fs

import (
	"context"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Blocks that a commit gave up are freed after the commit that follows it: until then they are
// part of the commit before, the way back if the newest one turns out to be damaged. On a drive
// where nothing changes any more, that second commit would never come, and on a full disk it
// could not: new data is refused, and what was removed gives no space back. So the committer
// makes it by itself, with nothing changed in it, when the drive has been idle for a while, at
// once if space is short, and when Tree.Sweep asks for it.

const (
	sweepDelay = 20 * time.Second // from a commit on an idle drive to the sweep
	sweepApart = 5 * time.Second  // between two sweeps, however often space is short
	// sweepWorth is how many pages must have died for a sweep of their own. Each commit
	// replaces a few, also the sweep's own; they go with the next change.
	sweepWorth = 256
	// freeBatch bounds the blocks that are freed at once, and freeBatches how often that is
	// done after one commit.
	freeBatch   = 20000
	freeBatches = 10
)

// Sweep frees the blocks of what was removed before the last commit, as far as no snapshot
// and no copy that is being made needs them. It makes a commit if that is what it takes.
func (t *Tree) Sweep(ctx context.Context) error {
	if t.journal == nil { // read-only
		return nil
	}
	t.commits.mu.Lock()
	t.commits.sweeping = true
	t.commits.mu.Unlock()
	return t.commits.wait(ctx)
}

// squeezed asks for a sweep because new data finds no space. It returns at once.
func (c *committer) squeezed() { poke(c.sweeps) }

// sweepPause is how long after a commit that left garbage behind the sweep comes.
func (c *committer) sweepPause() time.Duration {
	if !c.idle && c.t.space.full() { // a sweep that could not free anything waits
		return 0
	}
	return sweepDelay
}

// sweepDue reports whether a commit would free anything now, and has the next one made even
// if nothing changed.
func (c *committer) sweepDue() bool {
	if c.t.journal == nil || time.Since(c.swept) < sweepApart {
		return false
	}
	c.swept = time.Now()
	c.t.mu.Lock()
	top := c.t.top
	c.t.mu.Unlock()
	if c.garbage == 0 {
		c.garbage = c.leftover(&top)
	}
	if c.garbage == 0 || !c.sweepHelps() {
		return false
	}
	c.mu.Lock()
	c.sweeping = true
	c.mu.Unlock()
	return true
}

// takeSweep reports whether the commit that begins is to be made even if nothing changed.
func (c *committer) takeSweep() bool {
	c.mu.Lock()
	asked := c.sweeping
	c.sweeping = false
	c.mu.Unlock()
	return asked && c.garbage > 0 && c.sweepHelps()
}

// sweepHelps reports whether nothing but the number of commits keeps dead blocks. While an
// older commit is being copied, its blocks stay, however many commits follow.
func (c *committer) sweepHelps() bool {
	return c.t.cfg.Replicas == nil || c.t.cfg.Replicas.Oldest() == 0
}

// leftover is the newest commit if an earlier run has left enough dead blocks for a sweep.
func (c *committer) leftover(top *vaultTop) uint64 {
	ctx, cancel := context.WithTimeout(c.ctx, c.t.cfg.Deadline)
	defer cancel()
	n := 0
	err := c.deadList(ctx, top).scan("", func(key string, _ []byte) bool {
		n++
		return n < sweepWorth
	})
	if err != nil || n < sweepWorth {
		return 0
	}
	return top.sequence
}

func (c *committer) deadList(ctx context.Context, top *vaultTop) *btree {
	return &btree{kind: crypt.PageDead, root: top.dead, get: func(k crypt.PageKind, p *crypt.PagePointer) (*page, error) {
		return c.t.reader.page(ctx, k, p)
	}}
}

// free frees the blocks of the dead list that no commit from needs on has. What retained
// commits have is not garbage.
func (c *committer) free(ctx context.Context, top *vaultTop, needs uint64, retained []uint64) {
	t := c.t
	if err := t.loadOrphans(ctx); err != nil {
		t.cfg.Log.Warn("reading where removed files lie that are in use", "error", err)
		return
	}
	open := t.openBlobs()
	from, done := "", false
	for range freeBatches {
		var keys []string
		var cids []CID
		var bad error
		done = true
		err := c.deadList(ctx, top).scan(from, func(key string, _ []byte) bool {
			death, cid, err := parseDeadKey(key)
			switch {
			case err != nil:
				bad = err
				return false
			case death > needs:
				// Later ones are a later sweep's, unless a retained commit has them.
				done = death > c.garbage || len(retained) > 0 && death > slices.Min(retained)
				return false
			case len(cids) == freeBatch:
				from, done = key, false
				return false
			}
			if _, maybe := c.died[cid]; !open[cid] && !maybe {
				keys, cids = append(keys, key), append(cids, cid)
			}
			return true
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			t.cfg.Log.Warn("reading the dead list", "error", err)
			return
		}
		if len(cids) == 0 {
			break
		}
		if err := t.cfg.Store.Free(ctx, cids); err != nil {
			t.cfg.Log.Warn("freeing blocks", "error", err)
			return
		}
		c.freed = append(c.freed, keys...)
		if len(cids) < freeBatch {
			break
		}
	}
	if done {
		c.garbage = 0
	}
	t.space.forget()
}
