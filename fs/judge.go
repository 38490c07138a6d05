package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// CommitClaim is what a head says of itself, for the identity to judge. It is an alias of a
// struct without a name, as Verdict is: packages that must not import this one can implement
// Identity all the same, and stop compiling when one of the fields changes.
type CommitClaim = struct {
	Device  string
	Version string    // of the DID document that the head names
	At      time.Time // of the head
	// After is the time of the commit that this one claims to follow, as far as it is known:
	// a device with an end date cannot date a commit back to before its end if it follows
	// one that was made later.
	After time.Time
	// Past: the commit is an old one that is known by its CID, such as a snapshot in this
	// device's list. The document that it names judges it alone. Any other commit could
	// become the newest state of the drive, so the newest document must allow it too.
	Past      bool
	Message   []byte // what the device has signed
	Signature []byte
}

// Verdict is what an identity makes of a CommitClaim. Anything but StandingWriter means that
// the commit is not used, and Because says why.
type Verdict = struct {
	Standing string
	Because  string
}

// StandingWriter: the device was allowed to make the commit.
const StandingWriter = "writer"

// judge asks the identity whether the device that a head names may have made it then. It is
// the only place in this package that decides this.
func judge(ctx context.Context, id Identity, h *crypt.Head, msg, sig []byte, after time.Time, past bool) error {
	v, err := id.JudgeCommit(ctx, CommitClaim{Device: h.Device, Version: h.LogVersion, At: time.Unix(0, h.Time),
		After: after, Past: past, Message: msg, Signature: sig})
	if err != nil {
		return fmt.Errorf("judging head %d of %s: %w", h.Sequence, h.Device, err)
	}
	if v.Standing != StandingWriter {
		return fmt.Errorf("head %d: %s: %w", h.Sequence, v.Because, ErrIntegrity)
	}
	return nil
}

// A sequence is a counter that anybody who may write can push ahead. If one commit could use
// up the numbers, nobody could commit after it, not even the owner after revoking the device.
// So a head's number may not exceed what can have been reached by its time. The limit grows
// by far more numbers a second than commits are made, so there is always room for the next
// commit.
const (
	sequenceFloor = 1 << 40 // for devices whose clock is wrong
	sequencesPerS = 1000
	clockSlack    = 24 * time.Hour // clocks may be set to another time zone
)

// ErrCounter: the number of the next commit is beyond what this machine's clock allows.
var ErrCounter = errors.New("the next commit's number is ahead of this machine's clock; set the clock, or try again in a moment")

// sequenceEpoch is 2020-01-01: no commit is older.
func sequenceEpoch() time.Time { return time.Unix(1577836800, 0) }

// maxSequence is the highest number that a commit may have at a time.
func maxSequence(at time.Time) uint64 {
	s := at.Add(clockSlack).Sub(sequenceEpoch()).Milliseconds()
	return sequenceFloor + uint64(max(0, s))*sequencesPerS/1000
}

// plausible checks the numbers in a head that come from outside and that we count on from.
func plausible(h *crypt.Head, now time.Time) error {
	at := time.Unix(0, h.Time)
	if now.Before(at) { // a head from the future does not get the numbers of the future
		at = now
	}
	switch {
	case h.Sequence == 0 || h.Sequence > maxSequence(at):
		return fmt.Errorf("sequence %d cannot have been reached by %s: %w", h.Sequence, at.UTC().Format(time.RFC3339), ErrIntegrity)
	case h.Epoch > h.Sequence: // each epoch begins with a commit of its own
		return fmt.Errorf("epoch %d in commit %d: %w", h.Epoch, h.Sequence, ErrIntegrity)
	}
	for device, turn := range turnsOf(h.Journals) {
		// A turn that is ahead of all commits would hide every later fork.
		if turn > h.Sequence {
			return fmt.Errorf("turn of %s at %d in commit %d: %w", device, turn, h.Sequence, ErrIntegrity)
		}
	}
	return nil
}

// CheckSequence says whether a commit of this number can exist by now: for lists that name
// commits and cannot be verified, such as pins and directory names.
func CheckSequence(n uint64, now time.Time) error {
	if n == 0 || n > maxSequence(now) {
		return fmt.Errorf("sequence %d: %w", n, ErrInvalid)
	}
	return nil
}
