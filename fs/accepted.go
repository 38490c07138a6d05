package fs

import (
	"context"
	"fmt"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// LastAccepted returns the newest commit that this device accepted, from the state it
// keeps of a vault; a zero sequence if there is none.
func LastAccepted(stateDir, vault string) (CommitName, CID, error) {
	s, err := openState(stateDir)
	if err != nil {
		return CommitName{}, CID{}, err
	}
	a := s.get().Accepted
	if a.Sequence == 0 {
		return CommitName{}, CID{}, nil
	}
	cid, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return CommitName{}, CID{}, fmt.Errorf("%w: local state: %w", ErrIntegrity, err)
	}
	return CommitName{Vault: vault, Device: a.Device, Sequence: a.Sequence}, cid, nil
}

// acceptedHead is the head of the commit that this device accepted last, nil if it is not
// to be had.
func (t *Tree) acceptedHead(ctx context.Context, a acceptedHead) *loadedHead {
	commit, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return nil
	}
	l, err := loadCommit(ctx, &t.cfg, CommitName{Vault: t.cfg.Vault, Device: a.Device, Sequence: a.Sequence}, commit)
	if err != nil || l.cid.String() != a.Head {
		return nil
	}
	return l
}
