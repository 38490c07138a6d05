package fs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Replicas counts the copies of commits on other machines. A copy of a newer commit is
// one of an older commit too: what has not changed since is in both. The methods of one
// value may be called at once from many goroutines, and return at once but for Wait.
type Replicas interface {
	// Copies tells on how many machines the commit, or a newer one, lies, and how many
	// are wanted.
	Copies(sequence uint64) (held, target int)
	// Wait returns when the commit, or a newer one, lies on n machines.
	Wait(ctx context.Context, sequence uint64, n int) error
	// Oldest is the oldest commit that is being copied: its blocks must stay. 0 if there
	// is none.
	Oldest() uint64
}

const egressPrefix = "egress:"

// DurabilityEgress is DurabilityIPFS, and n other machines report that they have it all.
func DurabilityEgress(n int) Durability { return Durability(egressPrefix + strconv.Itoa(n)) }

// ParseDurability reads "local", "ipfs" or "egress:N". ErrInvalid says which there are.
func ParseDurability(s string) (Durability, error) {
	d := Durability(s)
	if _, ok := d.copies(); ok || d == DurabilityLocal || d == DurabilityIPFS {
		return d, nil
	}
	return "", fmt.Errorf("durability is %q, but must be local, ipfs or egress:N: %w", s, ErrInvalid)
}

// copies is the N of egress:N.
func (d Durability) copies() (n int, ok bool) {
	number, ok := strings.CutPrefix(string(d), egressPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n > 0 && n <= 1000 && number[0] != '+'
}

// syncCopies commits and waits for copies on other machines.
func (t *Tree) syncCopies(ctx context.Context, n int) error {
	if t.cfg.Replicas == nil {
		return fmt.Errorf("durability %s: this drive has no Egress that would keep copies: %w", DurabilityEgress(n), ErrInvalid)
	}
	if err := t.commits.wait(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	sequence := t.top.sequence
	t.mu.Unlock()
	return t.cfg.Replicas.Wait(ctx, sequence, n)
}

// stateOf tells where the newest version of an inode is: "journal"; "committed" in the
// node of this machine; or "held:2/3" on two of three machines that should have it.
func (t *Tree) stateOf(in *inode) string {
	if in.orphan || in.holders > 0 || (in == t.root && (len(in.over) > 0 || len(in.frozen) > 0)) {
		return "journal"
	}
	if t.cfg.Replicas != nil {
		if held, target := t.cfg.Replicas.Copies(in.since); target > 0 && held > 0 {
			return fmt.Sprintf("held:%d/%d", held, target)
		}
	}
	return "committed"
}
