package daemon

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Whoever may pin in Egress can pin anything under our name. What a search takes of that is
// bounded, and junk does not stand in the way of what is good: candidates are tried side by
// side, for a junk pin costs as long as the store waits for a block that nobody has.
const (
	triesAtOnce     = 16
	maxVaults       = 1024 // of which Egress has commits
	maxOfVault      = 512  // commits of one vault, the newest
	maxMetadata     = 200  // bytes of what names a commit
	restoreTries    = 16   // commits of a vault that are looked at if all of them can be read
	restoreTriesBad = 128  // and of those that cannot be read or do not verify
)

// pinned is a commit as a pin in Egress names it.
type pinned struct {
	name     fs.CommitName
	cid      fs.CID
	snapshot bool
}

// candidates collects commits from a list of pins, which may be endless.
type candidates struct{ vaults map[string][]pinned }

func newCandidates() *candidates { return &candidates{vaults: map[string][]pinned{}} }

// add takes a pin, if it is a commit of ours.
func (c *candidates) add(p *cluster.Found) {
	meta := func(key string) string {
		if s := p.Metadata[key]; len(s) <= maxMetadata {
			return strings.Clone(s) // the pin's other metadata is not kept
		}
		return ""
	}
	if !strings.HasPrefix(p.Metadata[cluster.OwnerKey], ownerPrefix) {
		return
	}
	seq, err := fs.ParseSequence(p.Metadata[sequenceKey])
	if err != nil || fs.CheckSequence(seq, time.Now()) != nil {
		return // not one of ours
	}
	cid, err := crypt.ParseCID(p.CID)
	if err != nil {
		return
	}
	name := fs.CommitName{Vault: meta(vaultKey), Device: meta(deviceKey), Sequence: seq}
	if _, err := crypt.ParseVaultID(name.Vault); err != nil || name.Device == "" {
		return
	}
	have, known := c.vaults[name.Vault]
	if !known && len(c.vaults) >= maxVaults {
		return
	}
	have = append(have, pinned{name, cid, p.Metadata[snapshotKey] != ""})
	if len(have) >= 2*maxOfVault {
		have = newest(have)
	}
	c.vaults[name.Vault] = have
}

// all are the commits by vault, the newest first.
func (c *candidates) all() map[string][]pinned {
	for vault, commits := range c.vaults {
		c.vaults[vault] = newest(commits)
	}
	return c.vaults
}

// newest sorts commits, the newest first, each once, and no more than are kept.
func newest(commits []pinned) []pinned {
	slices.SortStableFunc(commits, func(a, b pinned) int {
		return cmp.Or(cmp.Compare(b.name.Sequence, a.name.Sequence), strings.Compare(a.name.Device, b.name.Device),
			strings.Compare(a.cid.String(), b.cid.String()))
	})
	commits = slices.CompactFunc(commits, func(a, b pinned) bool { return a.name == b.name && a.cid == b.cid })
	return slices.Clip(commits[:min(len(commits), maxOfVault)])
}

// vaultsOf are the commits among pins, by vault, the newest first.
func vaultsOf(pins []cluster.Found) map[string][]pinned {
	c := newCandidates()
	for i := range pins {
		c.add(&pins[i])
	}
	return c.all()
}

// findCommits are the commits of all vaults in the pin set, by vault, the newest first.
func findCommits(ctx context.Context, client *cluster.Client) (map[string][]pinned, error) {
	var c *candidates
	err := client.Each(ctx, func() { c = newCandidates() }, func(p *cluster.Found) { c.add(p) })
	if err != nil {
		return nil, err
	}
	return c.all(), nil
}

// slots bound how many candidates are tried at once, in all vaults together.
type slots chan struct{}

func newSlots() slots { return make(slots, triesAtOnce) }

// tried is what became of a candidate.
type tried[T any] struct {
	commit pinned
	got    T
	err    error
}

// tryCommits tries candidates of one vault side by side, the newest first: until enough
// could be read, too many could not, or ctx ends. What it returns is in their order. good
// tells of an error that says as much as a success.
func tryCommits[T any](ctx context.Context, s slots, commits []pinned, good func(error) bool, try func(context.Context, pinned) (T, error)) []tried[T] {
	var (
		mu       sync.Mutex
		read     int
		bad      int
		results  = make([]*tried[T], len(commits))
		under    sync.WaitGroup
		finished = func() bool {
			mu.Lock()
			defer mu.Unlock()
			return read >= restoreTries || bad >= restoreTriesBad
		}
	)
	for i, c := range commits {
		select {
		case s <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil || finished() {
			if ctx.Err() == nil {
				<-s
			}
			break
		}
		under.Go(func() { // ends with ctx at the latest
			defer func() { <-s }()
			got, err := try(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			results[i] = &tried[T]{c, got, err}
			if err == nil || good(err) {
				read++
			} else {
				bad++
			}
		})
	}
	under.Wait()
	out := make([]tried[T], 0, len(commits))
	for _, r := range results {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// readCommits is tryCommits for commits all of which are wanted.
func readCommits[T any](ctx context.Context, s slots, commits []pinned, try func(context.Context, pinned) (T, error)) (all []tried[T]) {
	for len(commits) > 0 && ctx.Err() == nil {
		part := commits[:min(len(commits), restoreTries)]
		commits = commits[len(part):]
		all = append(all, tryCommits(ctx, s, part, func(error) bool { return false }, try)...)
	}
	return all
}
