package auth

import (
	"errors"
	"fmt"

	siop "github.com/cluster-labs/ipfscloud/auth/login"
)

// The meanings an operation of this package can fail with. They are wrapped with %w;
// the command line maps them to exit codes in one table.
var (
	// ErrNoIdentity: the keystore directory holds no identity yet.
	ErrNoIdentity = errors.New("no identity here")
	// ErrExist: the keystore directory already holds an identity.
	ErrExist = errors.New("an identity already exists here")
	// ErrInvalid: an argument is not acceptable.
	ErrInvalid = siop.ErrInvalid

	// ErrPassphrase: no slot of the keystore opens with this passphrase.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrKeystore: the keystore is damaged, or of a format this version does not know.
	ErrKeystore = errors.New("keystore is damaged")
	// ErrSlot: there is no such slot of the keystore, no room for one more, or it must stay.
	// It is an ErrInvalid.
	ErrSlot = fmt.Errorf("the slots do not allow it: %w", ErrInvalid)
	// ErrPhrase: the words are not a recovery phrase, or not this identity's.
	ErrPhrase = errors.New("not a valid recovery phrase")
	// ErrConfirmed: the phrase was confirmed, so the keystore does not hold it any more.
	ErrConfirmed = errors.New("the recovery phrase was confirmed and is no longer kept")
	// ErrLockedMemory: the system grants no locked memory for keys.
	ErrLockedMemory = errors.New("no locked memory for keys")

	// ErrRefused: the DID document or the answer to a challenge does not admit this login.
	ErrRefused = siop.ErrRefused
	// ErrDevice: the DID document does not list this device, or not any more. It is an
	// ErrRefused.
	ErrDevice = siop.ErrDevice
	// ErrDeactivated: the DID was given up. It is an ErrRefused.
	ErrDeactivated = siop.ErrDeactivated
	// ErrAwaits: the keystore has a phrase, and waits for the log of its identity.
	ErrAwaits = errors.New("the identity of the phrase was not found yet")
	// ErrLog: the DID's log is missing from the keystore's directory; a commit, or any other
	// place that has it, brings it back.
	ErrLog = errors.New("the DID's log is missing")
	// ErrRollback: a DID document is older than, or contradicts, the newest one seen.
	ErrRollback = siop.ErrRollback
	// ErrUnavailable: something did not answer within its deadline; trying again may help.
	ErrUnavailable = siop.ErrUnavailable
	// ErrClock: what was found is dated ahead of this machine's clock. It is an
	// ErrUnavailable.
	ErrClock = fmt.Errorf("the newest entry of the log is dated in the future; check the date and time of this computer, and try again: %w", ErrUnavailable)

	// ErrPurpose: a message to sign does not begin with a purpose of this software.
	ErrPurpose = errors.New("message without a purpose")
	// ErrSignature: a signature does not verify, or is of no device of the document.
	ErrSignature = errors.New("signature does not verify")
	// ErrNotRecipient: a sealed message does not open with the keys at hand.
	ErrNotRecipient = errors.New("not sealed to this identity")

	// ErrNoSession: no agent answers, so nobody is logged in.
	ErrNoSession = errors.New("not logged in")
	// ErrClosed: the session has ended.
	ErrClosed = errors.New("the session has ended")
	// ErrHeld: the session cannot end while something, such as a mount, holds it.
	ErrHeld = errors.New("the session is in use")
	// ErrBusy: another agent serves this socket, or another process changes the keystore.
	ErrBusy = siop.ErrBusy
)
