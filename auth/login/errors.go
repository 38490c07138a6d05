package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// The meanings a login can fail with; they are wrapped with %w.
var (
	// ErrRefused: the DID document or the answer to a challenge does not admit this login.
	ErrRefused = errors.New("login refused")
	// ErrDevice: the DID document does not list the key, or not any more. It is an
	// ErrRefused.
	ErrDevice = fmt.Errorf("this device is not in the DID document: %w", ErrRefused)
	// ErrDeactivated: the DID was given up. It is an ErrRefused.
	ErrDeactivated = fmt.Errorf("the DID was deactivated: %w", ErrRefused)
	// ErrRollback: a DID document is older than, or contradicts, the newest one seen.
	ErrRollback = errors.New("the DID document was rolled back")
	// ErrUnavailable: something did not answer within its deadline; trying again may help.
	ErrUnavailable = errors.New("unreachable")
	// ErrBusy: too many answers are being judged.
	ErrBusy = errors.New("busy")
	// ErrInvalid: a request, an answer or a configuration is not in the form it should have.
	ErrInvalid = errors.New("invalid argument")
)

// Refusal gives what package did says the meaning it has for a login.
func Refusal(err error) error {
	if errors.Is(err, did.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", err, ErrUnavailable)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, did.ErrDeactivated) {
		return fmt.Errorf("%w: %w", err, ErrDeactivated)
	}
	if errors.Is(err, did.ErrKeyNotFound) {
		return fmt.Errorf("%w: %w", err, ErrDevice)
	}
	return fmt.Errorf("%w: %w", err, ErrRefused)
}
