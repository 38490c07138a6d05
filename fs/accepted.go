package fs

import (
	"context"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// LastAccepted returns the newest commit that this device accepted, from the state it
// keeps of a vault; a zero sequence if there is none.
func LastAccepted(stateDir, vault string) (CommitName, CID, error) {
	name, cid, _, err := accepted(stateDir, vault)
	return name, cid, err
}

// AcceptedAt is the same commit's name, with the time of its head: zero if that is not
// known.
func AcceptedAt(stateDir, vault string) (CommitName, time.Time, error) {
	name, _, at, err := accepted(stateDir, vault)
	return name, at, err
}

func accepted(stateDir, vault string) (CommitName, CID, time.Time, error) {
	s, err := openState(stateDir)
	if err != nil {
		return CommitName{}, CID{}, time.Time{}, err
	}
	a := s.get().Accepted
	if a.Sequence == 0 {
		return CommitName{}, CID{}, time.Time{}, nil
	}
	cid, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return CommitName{}, CID{}, time.Time{}, fmt.Errorf("%w: local state: %w", ErrIntegrity, err)
	}
	return CommitName{Vault: vault, Device: a.Device, Sequence: a.Sequence}, cid, a.time(), nil
}

// acceptedHead is the head of the commit that this device accepted last, nil if it is not
// to be had.
func (t *Tree) acceptedHead(ctx context.Context, a acceptedHead) *loadedHead {
	commit, err := crypt.ParseCID(a.Commit)
	if err != nil {
		return nil
	}
	l, err := loadCommit(ctx, &t.cfg, CommitName{Vault: t.cfg.Vault, Device: a.Device, Sequence: a.Sequence}, commit, time.Time{}, false)
	if err != nil || l.cid.String() != a.Head {
		return nil
	}
	return l
}
