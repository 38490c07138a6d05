package webvh

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// stored is the log that was accepted here before. It was verified then, with the proofs
// of its witnesses; an entry written here may still wait for them. Beside the error of a
// log that does not hold to its end, it returns the part that holds.
func (m *Method) stored(ctx context.Context, id ID) (*Log, error) {
	text, err := m.cfg.Store.Log(ctx, id)
	if err != nil {
		return nil, err
	}
	if last := m.last.Load(); last != nil && bytes.Equal(text, last.text) {
		return last.log, nil
	}
	lines, err := splitLog(text)
	if err != nil {
		return nil, err
	}
	l, err := m.cfg.Verifier.entries(ctx, lines)
	if err == nil {
		err = l.failure
	}
	if err == nil {
		m.last.Store(&accepted{bytes.Clone(text), l})
	}
	if err != nil {
		return l, fmt.Errorf("the log kept here: %w", err)
	}
	return l, nil
}

// outgrown tells whether the log kept here ends with entries that the recovery rule of an
// earlier version has let in, and that of this one does not. They hash and are signed as
// they should, so this is not damage. A log that goes on without them, as the owner's does
// after a recovery, takes their place; else whoever has kept such a log could never let the
// owner in again.
func outgrown(l *Log, err error) bool {
	var named *did.Error
	return l != nil && errors.As(err, &named) && named.Kind == KindRecovery
}

// found is what a source had.
type found struct {
	log     *Log
	witness []byte
	err     error
	part    *Log // beside err: a log of the DID whose first entries hold, and not all
}

// ask gets and verifies the log of one source.
func (m *Method) ask(ctx context.Context, s Source, id ID) found {
	text, err := s.Log(ctx, id)
	if err != nil {
		return found{err: err}
	}
	lines, err := splitLog(text)
	if err != nil {
		return found{err: err}
	}
	v := m.cfg.Verifier
	l, err := v.entries(ctx, lines)
	if err != nil {
		return found{err: err}
	}
	var witness []byte
	if l.witnessed() {
		if witness, err = s.Witness(ctx, id); err != nil && !errors.Is(err, did.ErrNotFound) {
			return found{err: err}
		}
		if err = v.checkWitnesses(ctx, l, witness); err != nil {
			return found{err: err}
		}
	}
	if l.SCID() != id.SCID {
		return found{err: invalid(KindDocument, "the log is not that of %s but of %v", id, l)}
	}
	if l.failure != nil {
		return found{err: l.failure, part: l}
	}
	return found{log: l, witness: witness}
}

// Newest returns the newest log there is of a DID: that of the store, or a longer one of a
// source that extends it. It is kept in the store. Sources that hold another history than
// the store are not believed; two that contradict each other are an error.
func (m *Method) Newest(ctx context.Context, text string) (*Log, error) {
	l, _, err := m.gather(ctx, text)
	return l, err
}

// gather is Newest, and returns what the sources had of logs that do not hold to their ends.
func (m *Method) gather(ctx context.Context, text string) (newest *Log, parts []*Log, err error) {
	id, err := ParseID(text)
	if err != nil {
		return nil, nil, err
	}
	// A DID that is known to have moved is asked for at its new place too: the old one may
	// belong to somebody else now, who can withhold what is new.
	places := []ID{id}
	if known, err := m.stored(ctx, id); err == nil && known.Last().ID.String() != id.String() && known.speaksFor(id) == nil {
		places = append(places, known.Last().ID)
	}
	answers := make(chan found, len(places)*len(m.cfg.Sources))
	for _, place := range places {
		for _, s := range m.cfg.Sources {
			go func() { answers <- m.ask(ctx, s, place) }()
		}
	}
	// Every answer is waited for: each source has a deadline and obeys ctx.
	var all []found
	for range cap(answers) {
		f := <-answers
		if all = append(all, f); f.part != nil {
			parts = append(parts, f.part)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	local, localErr := m.stored(ctx, id)
	if localErr != nil && !errors.Is(localErr, did.ErrNotFound) && !outgrown(local, localErr) {
		return nil, nil, localErr
	}
	best, err := choose(local, all)
	if err != nil {
		return nil, parts, err
	}
	if local != nil && localErr != nil && best.log == local {
		return nil, nil, localErr
	}
	if err := best.log.speaksFor(id); err != nil {
		return nil, nil, err
	}
	if best.log != local {
		if err := m.cfg.Store.Save(ctx, best.log.Last().ID, best.log.Bytes(), best.witness); err != nil {
			return nil, nil, fmt.Errorf("keeping the log of %s: %w", id, err)
		}
	}
	return best.log, nil, nil
}

// choose returns the longest log; local may be nil.
func choose(local *Log, all []found) (found, error) {
	best := found{log: local}
	var errs []error
	for _, f := range all {
		switch {
		case f.err != nil:
			errs = append(errs, f.err)
		case best.log == nil || f.log.Extends(best.log):
			if best.log == nil || f.log.Len() > best.log.Len() {
				best = f
			}
		case best.log.Extends(f.log): // older
		case local != nil && f.log.Extends(local):
			return found{}, invalid(KindRollback, "two histories go on from %s: %s and %s", local.Last().VersionID, best.log.Last().VersionID, f.log.Last().VersionID)
		case local != nil: // another history than the one accepted here
			errs = append(errs, invalid(KindRollback, "%s is not in the history accepted here", f.log.Last().VersionID))
		default:
			return found{}, invalid(KindRollback, "two histories: %s and %s", best.log.Last().VersionID, f.log.Last().VersionID)
		}
	}
	if best.log != nil {
		return best, nil
	}
	return found{}, worst(errs)
}

// worst is the error to report when nobody had a log: an invalid one says most, then one
// that may pass, then that there is none.
func worst(errs []error) error {
	for _, meaning := range []error{did.ErrInvalid, did.ErrUnavailable} {
		for _, err := range errs {
			if errors.Is(err, meaning) {
				return err
			}
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return notFound("no source has the log")
}

// Resolve returns the newest document. A DID that has moved resolves to the document of
// its present one, which has the other under Former.
func (m *Method) Resolve(ctx context.Context, id string) (*did.Document, error) {
	l, err := m.Newest(ctx, id)
	if err != nil {
		return nil, err
	}
	return l.Document()
}

// ResolveVersion resolves as Resolve does, for a version that a query chooses, and with
// what the specification wants in the result.
func (m *Method) ResolveVersion(ctx context.Context, id string, q Query) (*Resolution, error) {
	plain, err := ParseID(id)
	if err != nil {
		return Failed(err), err
	}
	l, parts, err := m.gather(ctx, id)
	if err != nil && q != (Query{}) && len(parts) == 1 {
		// A version that holds is found even when later entries do not hold. Nothing of it is
		// kept, and two that may contradict each other are not chosen from.
		l, err = parts[0], nil
	}
	if err != nil {
		return Failed(err), err
	}
	r, err := l.Resolve(plain, q)
	if err != nil {
		return Failed(err), err
	}
	return r, nil
}
