package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// This file is the one place that decides whether a device may have made a commit. Opening,
// restoring, recovering, taking over, mounting snapshots and freeing all get their answer
// from History.Judge. While several places decided this, one of them did not look at the
// device's rights, and a read-only device could plant a tree in its owner's recovery.

// CommitClaim is what a commit says of who made it and when. It has the fields of
// fs.CommitClaim, see there; neither package may import the other.
type CommitClaim = struct {
	Device  string
	Version string
	At      time.Time
	After   time.Time
	Past    bool

	Message   []byte
	Signature []byte
}

// Verdict is what the history of an identity makes of a CommitClaim; see fs.Verdict.
type Verdict = struct {
	Standing string
	Because  string
}

// The standings of a device at a commit.
const (
	StandingWriter   = "writer"    // it may have made the commit; nothing else is accepted
	StandingReadOnly = "read-only" // the device is there to read
	StandingExpired  = "expired"   // its time to write was over
	StandingRevoked  = "revoked"   // it was a device, and is one no more
	StandingUnknown  = "unknown"   // no document lists it, or the document named is not in the history
	StandingForged   = "forged"    // the signature is not the device's
)

// claimSlack is how far the clock of a device with an end date may be behind.
const claimSlack = 24 * time.Hour

// History is what is known of an identity: its newest document, and the log that leads there.
type History struct {
	newest *did.Document
	log    *webvh.Log // nil for a DID without history
}

// NewHistory is the history that a log tells, or, without a log, a document alone.
func NewHistory(newest *did.Document, log *webvh.Log) History { return History{newest, log} }

// Judge tells whether the device may have made the commit then. The error is not about the
// commit: the history cannot be read, or the message is not one that devices sign.
func (h History) Judge(c CommitClaim) (Verdict, error) {
	if err := checkPurpose(c.Message); err != nil {
		return Verdict{}, err
	}
	then, since, err := h.at(c.Version)
	if err != nil {
		return Verdict{}, err
	}
	if then == nil {
		return Verdict{StandingUnknown, fmt.Sprintf("device %.40q names version %.80q of the DID document, which is not in the history of %s", c.Device, c.Version, h.newest.ID)}, nil
	}
	public := signingKey(then, c.Device)
	if public == nil {
		return h.unlisted(then, c.Device)
	}
	if len(c.Signature) != ed25519.SignatureSize || !ed25519.Verify(public, c.Message, c.Signature) {
		return Verdict{StandingForged, fmt.Sprintf("device %s has not signed it", c.Device)}, nil
	}
	g := grantOf(then, public)
	if v := allows(g, c.Device, c.At, c.After); v.Standing != StandingWriter {
		return v, nil
	}
	if g.Scope == ScopeWrite && c.At.Add(claimSlack).Before(since) {
		return Verdict{StandingUnknown, fmt.Sprintf("device %s could not write before %s, and the commit is of %s",
			c.Device, since.Format(time.RFC3339), c.At.UTC().Format(time.RFC3339))}, nil
	}
	if c.Past || then == h.newest {
		return Verdict{Standing: StandingWriter}, nil
	}
	// A device that was revoked, or may only read now, could name an old document for ever.
	now := signingKey(h.newest, c.Device)
	if now == nil || !now.Equal(public) {
		return h.unlisted(h.newest, c.Device)
	}
	return allows(grantOf(h.newest, now), c.Device, c.At, c.After), nil
}

// Standing is what the newest document makes of a commit that a device makes at a time. Its
// signature does not exist yet.
func (h History) Standing(device string, at time.Time) (Verdict, error) {
	public := signingKey(h.newest, device)
	if public == nil {
		return h.unlisted(h.newest, device)
	}
	return allows(grantOf(h.newest, public), device, at, time.Time{}), nil
}

// allows is what a grant makes of a commit at a time, after another one.
func allows(g Grant, device string, at, after time.Time) Verdict {
	switch {
	case g.Scope == ScopeFull:
		return Verdict{Standing: StandingWriter}
	case g.Scope != ScopeWrite:
		return Verdict{StandingReadOnly, fmt.Sprintf("device %s is there to read", device)}
	case at.After(g.Until):
		return Verdict{StandingExpired, fmt.Sprintf("device %s could write until %s", device, g.Until.Format(time.RFC3339))}
	case after.After(g.Until):
		return Verdict{StandingExpired, fmt.Sprintf("device %s could write until %s, and its commit follows one of %s",
			device, g.Until.Format(time.RFC3339), after.UTC().Format(time.RFC3339))}
	}
	return Verdict{Standing: StandingWriter}
}

// unlisted tells a device that was revoked from one that never was there.
func (h History) unlisted(doc *did.Document, device string) (Verdict, error) {
	for n := 1; h.log != nil && n <= h.log.Len(); n++ {
		e := h.log.Entry(n)
		old, err := did.Parse(e.ID.String(), e.State())
		if err != nil {
			continue // it lists nobody, and must not keep later entries from being judged
		}
		if signingKey(old, device) != nil {
			return Verdict{StandingRevoked, fmt.Sprintf("device %s is not in version %s of the document of %s; it was before", device, doc.Version, doc.ID)}, nil
		}
	}
	return Verdict{StandingUnknown, fmt.Sprintf("device %.40q is not in the document of %s", device, doc.ID)}, nil
}

// at is the document of a version, and when it was made; nil if the history has none.
func (h History) at(version string) (*did.Document, time.Time, error) {
	if h.log == nil { // there is one document, and its version says nothing
		return h.newest, time.Time{}, nil
	}
	for n := 1; n <= h.log.Len(); n++ {
		e := h.log.Entry(n)
		if e.VersionID != version {
			continue
		}
		if n == h.log.Len() && h.newest.Version.ID == version {
			return h.newest, e.Time, nil
		}
		doc, err := did.Parse(e.ID.String(), e.State())
		if err != nil {
			return nil, time.Time{}, err
		}
		doc.Version = did.Version{Number: uint64(n), ID: version}
		return doc, e.Time, nil
	}
	return nil, time.Time{}, nil
}

// signingKey is the key with which a document lists a device, or nil.
func signingKey(doc *did.Document, device string) ed25519.PublicKey {
	for _, k := range doc.KeysFor(did.Authentication) {
		if public, err := k.Ed25519(); err == nil && names(doc, device, public) {
			return public
		}
	}
	return nil
}

// refusal is the error of a verdict, for the device itself: ErrDevice if it is not listed, else
// ErrScope.
func refusal(v Verdict) error {
	switch v.Standing {
	case StandingWriter:
		return nil
	case StandingRevoked, StandingUnknown:
		return fmt.Errorf("%s: %w", v.Because, ErrDevice)
	}
	return fmt.Errorf("%s: %w", v.Because, ErrScope)
}

// knownHistory is what the session knows of its identity now.
func (s *Session) knownHistory(ctx context.Context) (History, error) {
	newest, err := s.newest(ctx)
	if err != nil {
		return History{}, err
	}
	s.document.Lock()
	defer s.document.Unlock()
	if !s.history {
		return History{newest: newest}, nil
	}
	if s.document.past == nil {
		return History{}, fmt.Errorf("%s: %w", s.did, ErrLog)
	}
	return History{newest: s.document.newest, log: s.document.past}, nil
}

// JudgeCommit tells whether a device may have made a commit, as the newest log says that
// this session knows.
func (s *Session) JudgeCommit(ctx context.Context, c CommitClaim) (Verdict, error) {
	h, err := s.knownHistory(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return h.Judge(c)
}

// MayCommit tells whether the newest document lets this device commit at a time. ErrDevice,
// ErrScope.
func (s *Session) MayCommit(ctx context.Context, at time.Time) error {
	h, err := s.knownHistory(ctx)
	if err != nil {
		return err
	}
	v, err := h.Standing(s.device.ID, at)
	if err != nil {
		return err
	}
	return refusal(v)
}

func (s *Session) judge(ctx context.Context, data []byte) ([]byte, error) {
	var c CommitClaim
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("a commit to judge: %v: %w", err, ErrInvalid)
	}
	v, err := s.JudgeCommit(ctx, c)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (s *Session) mayCommit(ctx context.Context, data []byte) error {
	var at time.Time
	if err := json.Unmarshal(data, &at); err != nil {
		return fmt.Errorf("the time of a commit: %v: %w", err, ErrInvalid)
	}
	return s.MayCommit(ctx, at)
}

// JudgeCommit is Session.JudgeCommit.
func (c *Client) JudgeCommit(ctx context.Context, claim CommitClaim) (v Verdict, err error) {
	data, err := json.Marshal(claim)
	if err != nil {
		return v, fmt.Errorf("a commit to judge: %w", err)
	}
	resp, err := c.call(ctx, &request{Op: opJudge, Data: data})
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(resp.Data, &v); err != nil {
		return v, fmt.Errorf("the agent's verdict: %v: %w", err, ErrInvalid)
	}
	return v, nil
}

// MayCommit is Session.MayCommit.
func (c *Client) MayCommit(ctx context.Context, at time.Time) error {
	data, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("the time of a commit: %w", err)
	}
	_, err = c.call(ctx, &request{Op: opMayCommit, Data: data})
	return err
}
