package did

import "errors"

// Names of errors, as the DID resolution specification has them.
const (
	NameInvalidDID         = "invalidDid"
	NameInvalidDocument    = "invalidDidDocument"
	NameInvalidDIDURL      = "invalidDidUrl"
	NameInvalidOptions     = "invalidOptions"
	NameNotFound           = "notFound"
	NameMethodNotSupported = "methodNotSupported"
	NameNotSupported       = "featureNotSupported"
	NameRepresentation     = "representationNotSupported"
	NameInternal           = "internalError"
)

// Error is a failure with the name that programs of other makers know it by.
type Error struct {
	Name   string // one of the names above
	Kind   string // a finer name where there is one, such as "invalidProof"
	Reason string // for people
	Err    error  // one of the meanings of this package
}

// Error is the name, the finer name and the reason.
func (e *Error) Error() string {
	if e.Kind != "" {
		return e.Name + " (" + e.Kind + "): " + e.Reason
	}
	return e.Name + ": " + e.Reason
}

// Unwrap is the meaning, for errors.Is.
func (e *Error) Unwrap() error { return e.Err }

// NameOf returns the name of an error of this package or of a method; an error of another
// kind is an internal one.
func NameOf(err error) string {
	var named *Error
	if errors.As(err, &named) {
		return named.Name
	}
	for _, n := range []struct {
		meaning error
		name    string
	}{
		{ErrInvalid, NameInvalidDID},
		{ErrNotFound, NameNotFound},
		{ErrUnsupportedMethod, NameMethodNotSupported},
		{ErrNotSupported, NameNotSupported},
	} {
		if errors.Is(err, n.meaning) {
			return n.name
		}
	}
	return NameInternal
}
