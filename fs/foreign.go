package fs

import (
	"context"
	"math"
	"slices"
	"time"
)

// otherLine is a linked commit that is not of the line of the newest one.
type otherLine struct {
	kin     Kinship
	parting uint64 // the last number that the lines have in common
}

// foreign are the linked commits of this device that are not of its line, and the lowest of
// the last numbers that a line of theirs has in common with it. Another machine with the keys
// of this device has made them, or they were given up by the owner and are retained. They are
// not unlinked, and what only they need is not freed.
func (c *committer) foreign(ctx context.Context, names []CommitName, retained []uint64) (out map[CommitName]bool, parting uint64) {
	t := c.t
	out, parting = map[CommitName]bool{}, math.MaxUint64
	t.mu.Lock()
	ours := t.line
	t.mu.Unlock()
	for _, n := range names {
		if n.Device != t.cfg.Identity.Device() || slices.ContainsFunc(t.made, func(m madeCommit) bool { return m.sequence == n.Sequence }) {
			continue
		}
		apart, known := c.branches[n]
		if !known {
			l, err := loadHead(ctx, &t.cfg, n, time.Time{})
			if err != nil {
				t.cfg.Log.Warn("a commit that is linked cannot be read", "sequence", n.Sequence, "error", err)
				continue
			}
			theirs := lineOf(l.head, l.cid)
			// Earlier versions noted no sessions. There is no telling whose their commits are.
			kin := ours.to(theirs)
			if kin == KinOther && len(sessionsOf(l.head.Journals)) > 0 || kin == KinAside {
				apart = &otherLine{kin, ours.parting(theirs)}
			}
			if c.branches == nil {
				c.branches = map[CommitName]*otherLine{}
			}
			c.branches[n] = apart
		}
		if apart != nil && (apart.kin != KinAside || slices.Contains(retained, n.Sequence)) {
			out[n], parting = true, min(parting, apart.parting)
		}
	}
	return out, parting
}
