package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// TakeLog looks at a log that was found for the identity in dir, and keeps it if it goes on
// from the one that lies there, or if that one is missing or damaged. It tells whether it
// was kept. ErrRollback: another history than the one here. ErrInvalid: it does not hold,
// or is of another DID. An identity without history takes nothing.
//
// It wants no passphrase: a log certifies itself, and a login holds it against the version
// that the keystore remembers.
func TakeLog(ctx context.Context, dir string, log []byte) (bool, error) {
	sum, err := Inspect(dir)
	if err != nil || !hasHistory(sum.DID) {
		return false, err
	}
	l, err := ReadLog(ctx, log)
	if err != nil {
		return false, fmt.Errorf("%w: %w", err, ErrInvalid)
	}
	if "did:webvh:"+l.SCID() != SelfCertifying(sum.DID) {
		return false, fmt.Errorf("the log of %s: %w", l.Last().ID, ErrInvalid)
	}
	release, err := lockDir(ctx, dir)
	if err != nil {
		return false, err
	}
	defer release()
	have, err := LogMethod(dir).Newest(ctx, sum.DID)
	if err != nil && !errors.Is(err, did.ErrNotFound) && !errors.Is(err, did.ErrInvalid) {
		return false, err
	}
	if err == nil {
		if have.Extends(l) {
			return false, nil
		}
		if !l.Extends(have) {
			return false, fmt.Errorf("%s is not in the history of %s: %w", l.Last().VersionID, have.Last().VersionID, ErrRollback)
		}
	}
	return true, logStore{dir}.Save(ctx, webvh.ID{}, l.Bytes(), nil)
}

func hasHistory(id string) bool { return SelfCertifying(id) != id }
