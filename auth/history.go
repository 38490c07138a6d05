package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	siop "github.com/cluster-labs/ipfscloud/auth/login"
)

// What a session knows of its document, and learns while it is open.

// Log is the DID document (or its log) that a commit carries, and its version. ErrDevice
// when the newest version does not list this device: what it commits would be refused.
func (s *Session) Log(ctx context.Context) (log []byte, version string, err error) {
	doc, err := s.newest(ctx)
	if err != nil || !s.history {
		if err == nil {
			log, version = doc.Raw(), doc.Version.ID
		}
		return log, version, err
	}
	if !lists(doc, s.device.Signing) {
		return nil, "", fmt.Errorf("%s in version %s: %w", s.device.ID, doc.Version, ErrDevice)
	}
	s.document.Lock()
	defer s.document.Unlock()
	return bytes.Clone(s.document.log), s.document.newest.Version.ID, nil
}

// lists tells whether a document lists a device by its signing key.
func lists(doc *did.Document, signing []byte) bool {
	for _, k := range doc.KeysFor(did.Authentication) {
		if p, err := k.Ed25519(); err == nil && bytes.Equal(p, signing) {
			return true
		}
	}
	return false
}

// TakeLog looks at a log that was found, such as that of a commit. One that holds and goes
// on from the newest seen is kept, and is the newest from then on; an older one is nothing
// new. ErrRollback when it contradicts what was seen, ErrInvalid when it does not hold.
// Sessions of a DID without history take nothing.
func (s *Session) TakeLog(ctx context.Context, log []byte) error {
	if !s.history {
		return nil
	}
	if _, err := s.newest(ctx); err != nil {
		return err
	}
	s.document.Lock()
	same := bytes.HasPrefix(s.document.log, log)
	s.document.Unlock()
	if same {
		return nil
	}
	if _, err := TakeLog(ctx, s.dir, log); err != nil {
		return err
	}
	_, err := s.newest(ctx)
	return err
}

// Notes are what the identity keeps in the keyring of its vault; nil where it keeps
// nothing. They hold no secret in the clear.
func (s *Session) Notes(ctx context.Context) (b []byte, err error) {
	doc, err := s.newest(ctx)
	if err != nil || !s.history {
		return nil, err
	}
	err = s.withKeys(ctx, func() error {
		s.document.Lock()
		defer s.document.Unlock()
		s.document.notes.recovery = s.recovery
		if err := s.document.notes.seal(doc, s.keys.publishing); err != nil {
			return err
		}
		b = s.document.notes.encode()
		return nil
	})
	return b, err
}

// TakeNotes learns from the notes of a keyring what other devices say of themselves.
func (s *Session) TakeNotes(_ context.Context, b []byte) error {
	n, err := parseNotes(b)
	if err != nil || !s.history {
		return err
	}
	if err := s.learnPublishing(n); err != nil {
		return err
	}
	s.document.Lock()
	defer s.document.Unlock()
	for _, st := range n.statements {
		if st.holds(s.did) && !bytes.Equal(st.Signing, s.device.Signing) {
			s.document.notes.add(st)
		}
	}
	return nil
}

// statements are those of devices that the document lists.
func (s *Session) statements(doc *did.Document) []Statement {
	s.document.Lock()
	defer s.document.Unlock()
	if s.document.notes == nil {
		return nil
	}
	return s.document.notes.of(doc)
}

// newest resolves the DID again, if its log has changed. What cannot be reached leaves the
// newest document seen in force; what is older, or given up, is refused.
func (s *Session) newest(ctx context.Context) (*did.Document, error) {
	if err := s.withKeys(ctx, func() error { return nil }); err != nil {
		return nil, err
	}
	s.document.Lock()
	seen := s.document.newest
	unchanged := s.history && s.document.stamp != (stamp{}) && s.document.stamp == logStore{s.dir}.stamp()
	s.document.Unlock()
	if unchanged {
		return seen, nil
	}
	doc, err := s.resolver.Resolve(ctx, s.did)
	switch {
	case errors.Is(err, did.ErrUnavailable), s.history && errors.Is(err, did.ErrNotFound):
		return seen, nil
	case err != nil:
		return nil, err
	case doc.Deactivated:
		return nil, fmt.Errorf("%s: %w: %w", s.did, did.ErrDeactivated, ErrDeactivated)
	}
	return doc, s.accept(ctx, doc)
}

// accept makes a document that was resolved the newest one.
func (s *Session) accept(ctx context.Context, doc *did.Document) error {
	var log []byte
	var past *webvh.Log
	var now stamp
	if s.history {
		// The stamp is from before the file is read, so that a change meanwhile shows.
		now = logStore{s.dir}.stamp()
		l, err := LogMethod(s.dir).Newest(ctx, s.did)
		if err != nil {
			return siop.Refusal(err)
		}
		if doc, err = l.Document(); err != nil {
			return err
		}
		log, past = l.Bytes(), l
	}
	s.document.Lock()
	defer s.document.Unlock()
	if seen := s.document.newest; seen != nil && !doc.Version.Follows(seen.Version) {
		return fmt.Errorf("version %s of %s, seen before was %s: %w", doc.Version, s.did, seen.Version, ErrRollback)
	}
	s.document.newest, s.document.log, s.document.past, s.document.stamp = doc, log, past, now
	return nil
}
