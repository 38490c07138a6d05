package fs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/journal"
)

// Rekey wraps the vault's key anew, for the recipients that the identity has now, and
// returns when a commit with that keyring is linked. A new epoch draws a new key: who was a
// recipient and is none now cannot read what comes after. Nothing of the tree is encrypted
// anew: all of it hangs on the pointer in the head.
func (t *Tree) Rekey(ctx context.Context, newEpoch bool) (HeadInfo, error) {
	t.rekeying.Lock()
	defer t.rekeying.Unlock()
	t.mu.Lock()
	old, readOnly := t.vault, t.readOnly
	t.mu.Unlock()
	if readOnly != nil {
		return HeadInfo{}, fmt.Errorf("%w: %w", ErrReadOnly, readOnly)
	}
	recipients, err := t.cfg.Identity.Recipients(ctx)
	if err != nil {
		return HeadInfo{}, fmt.Errorf("keys to wrap the vault key for: %w", err)
	}
	epoch, key := old.epoch, old.key
	if newEpoch {
		if key, err = crypt.NewVaultKey(); err != nil {
			return HeadInfo{}, err
		}
		epoch++
		if err := keepJournalKey(t.state, old.keyring); err != nil {
			return HeadInfo{}, err
		}
	}
	keys, err := wrap(ctx, t.cfg.Identity, old.id, epoch, key, recipients)
	if err != nil {
		return HeadInfo{}, err
	}
	t.mu.Lock()
	t.rekeyed = keys
	t.mu.Unlock()
	if err := t.commits.wait(ctx); err != nil {
		return HeadInfo{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.top.info(), nil
}

// keepJournalKey remembers the keyring whose key the journal was begun with: the journal
// goes on with it when the vault has another one.
func keepJournalKey(state *stateFile, keyring []byte) error {
	if state.get().JournalKeyring != nil {
		return nil
	}
	return state.update(func(s *localState) { s.JournalKeyring = keyring })
}

// journalKeys are the keys of the journal in its directory: those of the vault, or those
// that it was begun with. nil if they are not to be had any more.
func (t *Tree) journalKeys(ctx context.Context) (*vaultKeys, error) {
	ring := t.state.get().JournalKeyring
	if ring == nil {
		return t.vault, nil
	}
	keys, err := unwrap(ctx, t.cfg.Identity, ring)
	if errors.Is(err, crypt.ErrNotRecipient) {
		return nil, nil
	}
	return keys, err
}

// renewJournal begins a journal under the key of the vault in place of one under an older
// key of which nothing is needed any more.
func (t *Tree) renewJournal(old *journal.Journal) error {
	if old != nil {
		old.Abandon()
		t.stage.close()
	}
	if err := t.endJournal(endingDropped); err != nil {
		return err
	}
	if err := os.RemoveAll(t.cfg.JournalDir); err != nil {
		return fmt.Errorf("removing a journal that is committed: %w", err)
	}
	return t.journalEnded()
}
