package fs

import (
	"context"
	"math"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// ForgePosition makes a commit like the newest one, as a take-over from a lying device leaves
// it: its head claims to contain this device's journal up to a position; 0 is the last of all
// numbers.
func ForgePosition(ctx context.Context, cfg Config, journal [16]byte, position uint64) error {
	cfg.fill()
	name, cid, err := LastAccepted(cfg.StateDir, cfg.Vault)
	if err != nil {
		return err
	}
	l, err := loadCommit(ctx, &cfg, name, cid, time.Time{}, true)
	if err != nil {
		return err
	}
	state, err := openState(cfg.StateDir)
	if err != nil {
		return err
	}
	if err := state.update(func(s *localState) { s.Relieved = true }); err != nil {
		return err
	}
	if position == 0 {
		position = math.MaxUint64
	}
	h := *l.head
	h.Journals = []crypt.JournalPosition{{Device: cfg.Identity.Device(), Journal: journal, Position: position}}
	h.Sequence = state.get().Reserved + 1
	w := &commitWriter{t: &Tree{cfg: cfg, vault: l.keys, state: state, reader: newReader(cfg.Store, cfg.MemoryLimit)}, ctx: ctx, pages: map[CID]*page{}}
	for _, c := range []CID{h.Root.Node, h.Root.CID} {
		b, err := cfg.Store.Get(ctx, c)
		if err == nil {
			err = w.put(Block{c, b})
		}
		if err != nil {
			return err
		}
	}
	_, err = linkHead(ctx, cfg, l.keys, state, &h, w, nil)
	return err
}

// JournalOf is the journal of a tree, and its newest record.
func JournalOf(t *Tree) (id [16]byte, last uint64) { return t.journal.ID(), t.journal.Last() }
