package webvh

import (
	"fmt"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// The finer names of what makes a DID invalid.
const (
	KindLog        = "invalidLog"
	KindHash       = "invalidHash"
	KindProof      = "invalidProof"
	KindParameters = "invalidParameters"
	KindTime       = "invalidVersionTime"
	KindDocument   = "invalidDocument"
	KindWitness    = "invalidWitness"
	KindRecovery   = "recoveryDropped"
	KindRollback   = "rollback"
)

// ErrLog: a log, or the proofs of its witnesses, do not hold. It is a did.ErrInvalid too; a
// text that is no DID is only that.
var ErrLog = fmt.Errorf("the log of the DID does not hold: %w", did.ErrInvalid)

// invalid is an error that makes a DID invalid.
func invalid(kind, format string, args ...any) error {
	return &did.Error{Name: did.NameInvalidDID, Kind: kind, Reason: fmt.Sprintf(format, args...), Err: ErrLog}
}

// inEntry says which entry an error is about.
func inEntry(n int, err error) error {
	if e, ok := err.(*did.Error); ok {
		named := *e
		named.Reason = fmt.Sprintf("entry %d: %s", n, e.Reason)
		return &named
	}
	return fmt.Errorf("entry %d: %w", n, err)
}

func notFound(format string, args ...any) error {
	return &did.Error{Name: did.NameNotFound, Reason: fmt.Sprintf(format, args...), Err: did.ErrNotFound}
}
