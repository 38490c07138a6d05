package auth

import (
	"context"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Deactivate gives the DID up for good: the recovery key of its phrase signs the last
// version, which lists nothing. Nobody logs in with the DID any more, and no drive of it is
// mounted. The log lies beside the keystore; bringing it to others is the caller's.
//
// ErrPhrase: the phrase of another identity, or one that a recovery has replaced.
// ErrDeactivated, ErrRollback, did.ErrNotSupported: of a did:key.
func Deactivate(ctx context.Context, dir string, passphrase []byte, p *Phrase) (*did.Document, error) {
	sum, err := Inspect(dir)
	switch {
	case err != nil:
		return nil, err
	case sum.DID == "":
		return nil, ErrAwaits
	case !hasHistory(sum.DID):
		return nil, did.Want(did.NewKey(), did.CanDeactivate)
	}
	var doc *did.Document
	err = change(ctx, dir, passphrase, func(k *keystore, c *contents, _ *secret, _ int) (bool, error) {
		m := LogMethod(dir)
		l, now, err := currentLog(ctx, m, k.did, c.version)
		if err != nil {
			return false, err
		}
		key, err := p.derive(labelRecover)
		if err != nil {
			return false, err
		}
		defer key.wipe()
		if err := commitsTo(l, key); err != nil {
			return false, err
		}
		if err := m.Deactivate(ctx, now.ID, seedSigner{key}); err != nil {
			return false, fmt.Errorf("giving up %s: %w", now.ID, err)
		}
		if doc, err = m.Resolve(ctx, now.ID); err != nil {
			return false, err
		}
		c.version = doc.Version
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}
