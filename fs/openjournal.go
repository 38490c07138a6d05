package fs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/journal"
)

// openJournal opens the journal and replays what the head does not contain.
func (t *Tree) openJournal(ctx context.Context, l *loadedHead) error {
	switch t.state.get().JournalEnding {
	case endingAside:
		if err := t.setAside("it was being set aside when the program ended"); err != nil {
			return err
		}
	case endingDropped:
		if err := t.renewJournal(nil); err != nil {
			return err
		}
	}
	if err := t.checkJournal(l); err != nil {
		return err
	}
	keys, err := t.journalKeys(ctx)
	if err != nil {
		return fmt.Errorf("the key of the journal: %w", err)
	}
	if keys == nil {
		if err := t.setAside("its key is not to be had any more"); err != nil {
			return err
		}
		keys = t.vault
	}
	open := func() (*journal.Journal, error) {
		derive, err := keys.journalDeriver()
		if err != nil {
			return nil, err
		}
		stage, err := openStage(t.cfg.JournalDir)
		if err != nil {
			return nil, err
		}
		t.stage = stage
		j, err := journal.Open(journal.Config{Dir: t.cfg.JournalDir, Derive: derive, AcceptMissing: t.cfg.AcceptMissing, Before: stage.sync})
		if err != nil {
			t.stage.close()
			return nil, journalError(err)
		}
		t.alarmMissing(j)
		return j, nil
	}
	j, err := open()
	if err != nil {
		return err
	}
	after, found := uint64(0), false
	for _, p := range l.head.Journals {
		if p.Journal == j.ID() {
			after, found = p.Position, true
		}
	}
	id := hex.EncodeToString(idOf(j))
	if s := t.state.get(); s.Journal == id && s.Base == l.cid.String() {
		found = true
	}
	if t.state.get().Relieved && j.Last() > after {
		found = false
	}
	// A head of another device carries a position in this journal, too, and may lie about it: if
	// it claims more of the journal than there is, or than this device has committed itself,
	// acknowledged changes would vanish.
	claimed := l.head.Device != t.cfg.Identity.Device() && after > j.Last()
	if c := t.state.get().Contained; claimed || t.state.get().Relieved && c > 0 && after > c {
		after, found = 0, false
	}
	if s := t.state.get(); j.Last() > s.Opened.From && !s.containedIn(l) {
		found = false
	}
	if found && !j.Has(after) {
		err := fmt.Errorf("the first segments of the journal in %s are not there, from record %d on: %w", t.cfg.JournalDir, after+1, ErrStateMissing)
		if !t.cfg.AcceptMissing {
			j.Abandon()
			t.stage.close()
			return err
		}
		t.alarm(fmt.Errorf("mounted without them, as you have said: %w", err))
		found = false // the rest does not follow on anything
	}
	if !found && j.Last() > 0 {
		// These changes were made on top of another line of commits. They are kept
		// for rescue, and not mixed with this one.
		j.Abandon()
		t.stage.close()
		if err := t.setAside("it was begun on top of another state of the drive"); err != nil {
			return err
		}
		keys = t.vault
		if j, err = open(); err != nil {
			return err
		}
	}
	// A journal that ends before what the head contains has lost nothing that is not there. But
	// its next records would get numbers that the head says it has, and count for nothing.
	if keys.epoch != t.vault.epoch && j.Last() <= after || found && j.Last() < after {
		if err := t.renewJournal(j); err != nil {
			return err
		}
		keys, after, found = t.vault, 0, false
		if j, err = open(); err != nil {
			return err
		}
	}
	id = hex.EncodeToString(idOf(j))
	if s := t.state.get(); !found || !s.JournalKept || s.Journal != id {
		err := t.state.update(func(s *localState) {
			s.Journal, s.JournalKept = id, true
			if !found {
				s.Base, s.Contained = l.cid.String(), 0
			}
		})
		if err != nil {
			j.Abandon()
			return err
		}
	}
	if err := os.Remove(filepath.Join(t.cfg.JournalDir, asideFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		j.Abandon()
		t.stage.close()
		return fmt.Errorf("the journal is written on: %w", err)
	}
	t.journal, t.contained = j, after
	if err := t.replayJournal(ctx, after); err != nil {
		j.Abandon()
		t.stage.close()
		return err
	}
	return nil
}

// endJournal notes what is about to be done with the journal's directory.
func (t *Tree) endJournal(how string) error {
	return t.state.update(func(s *localState) { s.JournalEnding = how })
}

func (t *Tree) journalEnded() error {
	return t.state.update((*localState).endJournal)
}

// journalDeriver makes the keys of the journal that was begun under the key of a vault.
func (k *vaultKeys) journalDeriver() (journal.Deriver, error) {
	key, err := k.key.DeriveVaultKey(k.id[:], "ipfscloud/v1/journal")
	if err != nil {
		return nil, fmt.Errorf("the key of the journal: %w", err)
	}
	return func(salt []byte, label string) ([]byte, error) {
		return key.DeriveBytes(salt, label), nil // the journal overwrites it
	}, nil
}

// checkJournal says so if the journal that the state names, or the newest head, is not there.
func (t *Tree) checkJournal(l *loadedHead) error {
	s := t.state.get()
	if s.Journal == "" {
		return nil
	}
	there, err := journal.Exists(t.cfg.JournalDir)
	if err != nil {
		return err
	}
	had := s.JournalKept
	for _, p := range l.head.Journals {
		if p.Position > 0 && hex.EncodeToString(p.Journal[:]) == s.Journal {
			had = true
		}
	}
	if there || !had {
		return nil
	}
	err = fmt.Errorf("the journal in %s is not there, or nothing is in it; changes that were acknowledged and are newer than commit %d (%s) may have been: %w",
		t.cfg.JournalDir, l.head.Sequence, l.info().Time.UTC().Format(time.RFC3339), ErrStateMissing)
	if !t.cfg.AcceptMissing {
		return err
	}
	t.alarm(fmt.Errorf("mounted without it, as you have said: %w", err))
	return t.journalEnded()
}

// alarmMissing tells what was missing of the journal, and accepted.
func (t *Tree) alarmMissing(j *journal.Journal) {
	for _, err := range j.Accepted() {
		t.alarm(fmt.Errorf("mounted without it, as you have said: %w", err))
	}
}

func idOf(j *journal.Journal) []byte {
	id := j.ID()
	return id[:]
}

func (t *Tree) replayJournal(ctx context.Context, after uint64) error {
	t.replay = true
	n, bytes, streamed := 0, int64(0), int64(0)
	err := t.journal.Replay(after, func(number uint64, b []byte) error {
		o, err := decodeOp(b)
		if err == nil && o.kind == opStream {
			err = t.replayStream(o, number)
		}
		if err == nil {
			err = t.do(ctx, func() error { return t.apply(o) })
		}
		if err != nil {
			return fmt.Errorf("replaying record %d: %w", number, err)
		}
		n++
		bytes += int64(len(b))
		if o.kind == opStream {
			streamed += int64(o.size)
		}
		if t.dirty > t.dirtyLimit() {
			t.commits.sealFull()
		}
		return nil
	})
	if err != nil {
		return journalError(err)
	}
	t.alarmMissing(t.journal)
	if err := t.stage.trim(0); err != nil { // what no record speaks of
		return fmt.Errorf("removing staged blobs: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replay, t.replayed = false, nil
	t.pendingOps, t.pendingBytes, t.journalBytes = n, bytes+streamed, bytes
	t.space.owed.Store(bytes)
	if n > 0 {
		t.oldest = t.cfg.Now()
		t.cfg.Log.Info("replayed the journal", "changes", n, "bytes", bytes)
	}
	for in := range t.orphans {
		t.evict(in)
	}
	return nil
}
