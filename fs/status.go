package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// Status tells where the tree stands.
type Status struct {
	Vault         string
	PendingOps    int       // changes that are not committed
	PendingBytes  int64     // journal bytes of them
	OldestPending time.Time // zero if none
	Commit        HeadInfo  // the newest commit
	ReadOnly      bool
	Because       string // why, if so
	Durability    Durability
	Alerts        []string // what the user must know
	Causes        []error  // of each alert, nil where it is no error
	LastError     string   // of the newest attempt to commit, empty if it succeeded
	Store         StoreInfo
}

// Status returns at once: it asks neither the store nor the disk.
func (t *Tree) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{
		Vault: t.vault.id.String(), PendingOps: t.pendingOps, PendingBytes: t.pendingBytes,
		Commit:   t.top.info(),
		ReadOnly: t.readOnly != nil, Durability: t.cfg.Durability,
		Alerts: slices.Clone(t.alerts), Store: t.cfg.Store.Info(),
	}
	for _, a := range s.Alerts {
		s.Causes = append(s.Causes, t.causes[a])
	}
	if t.readOnly != nil {
		s.Because = t.readOnly.Error()
	}
	if t.pendingOps > 0 {
		s.OldestPending = t.oldest
	}
	if err := t.commits.lastError(); err != nil {
		s.LastError = err.Error()
	}
	return s
}

// Full tells whether new data is refused, for want of space on the disk of the journal.
func (t *Tree) Full() bool { return t.journal != nil && t.space.full() }

func (c *committer) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// takeFreed returns the keys of the dead list whose blocks are gone.
func (c *committer) takeFreed() []string { return c.freed }

// lastSequence is the highest sequence that this device may have signed in this run, or
// that the newest commit has.
func (t *Tree) lastSequence() uint64 { return max(t.attempted, t.top.sequence) }

// Sync returns when all changes made before the call have the durability asked for.
func (t *Tree) Sync(ctx context.Context, d Durability) error {
	if t.journal == nil {
		return nil // a read-only tree has no changes
	}
	switch d {
	case DurabilityLocal:
		if err := t.journal.Sync(ctx, t.journal.Last()); err != nil {
			return journalError(err)
		}
		return nil
	case DurabilityIPFS:
		return t.commits.wait(ctx)
	}
	if n, ok := d.copies(); ok {
		return t.syncCopies(ctx, n)
	}
	return fmt.Errorf("durability %q: %w", d, ErrInvalid)
}

// SetDurability changes what Fsync waits for.
func (t *Tree) SetDurability(d Durability) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg.Durability = d
}

// PathInfo tells what lies in the store for a path.
type PathInfo struct {
	Path   string
	Attr   Attr
	State  string // of the newest version: "journal", "committed", or "held:2/3" by two of three machines
	Blocks []CID  // sealed blobs of a file that are stored
	Node   CID    // of the shadow tree: a directory's, or that of a large file
	Commit uint64 // sequence of the newest commit
}

// Info describes a path, slash-separated and relative to the root.
func (t *Tree) Info(ctx context.Context, path string) (info PathInfo, err error) {
	err = t.do(ctx, func() error {
		in := t.root
		for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
			if name == "" || name == "." {
				continue
			}
			if !in.isDir() {
				return ErrNotDir
			}
			next, err := t.child(in, name)
			if err != nil {
				return err
			}
			in = next
		}
		info = PathInfo{Path: "/" + strings.Trim(path, "/"), Attr: in.stat(), State: t.stateOf(in), Commit: t.top.sequence}
		if in.isRegular() {
			if in.unloaded {
				if err := t.loadExtents(in); err != nil {
					return err
				}
			}
			for _, s := range in.ext.flat().blobs() {
				info.Blocks = append(info.Blocks, s.ptr.CID)
			}
			b := in.committed.value()
			info.Node = b.node
			if b.tree != nil {
				info.Node = b.tree.Node
			}
		}
		if in.isDir() {
			info.Node = in.base.Node
			if in == t.root {
				info.Node = t.top.root.root.Node
			}
		}
		if info.Node.Codec == crypt.DagPB && info.Node.Digest == ([32]byte{}) {
			info.Node = CID{}
		}
		return nil
	})
	return info, err
}
