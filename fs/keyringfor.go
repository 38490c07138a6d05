package fs

import (
	"context"
	"fmt"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// KeyringFor makes a keyring that opens one old commit for the recipients that an identity has
// now. A commit is wrapped for the devices of its time; one that came later, such as that of a
// recovery, cannot open it, while who makes this keyring can: open is what the keys of a
// recovery phrase, or of an earlier device, do. Nothing is judged here: whoever opens the commit
// with the keyring verifies its head as always.
func KeyringFor(ctx context.Context, store Store, open crypt.Opener, id Identity, name CommitName, commit CID) (HeadInfo, []byte, error) {
	ev, err := Examine(ctx, store, open, name, commit)
	if err != nil {
		return HeadInfo{}, nil, err
	}
	recipients, err := id.Recipients(ctx)
	if err != nil {
		return HeadInfo{}, nil, fmt.Errorf("keys to wrap the vault key for: %w", err)
	}
	ring, err := crypt.WrapKey(ev.head.Vault, ev.Epoch, ev.key, recipients)
	if err != nil {
		return HeadInfo{}, nil, err
	}
	return ev.Head, ring.Encode(), nil
}
