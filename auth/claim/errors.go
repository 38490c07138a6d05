package claim

import "errors"

var (
	// ErrInvalid is a credential that is not in the form it should have.
	ErrInvalid = errors.New("not a valid credential")
	// ErrAlgorithm is a credential that is not signed with EdDSA (Ed25519).
	ErrAlgorithm = errors.New("not signed with EdDSA")
	// ErrKey is a key that its issuer's newest document does not list, or not for claims.
	ErrKey = errors.New("the issuer's document does not let this key make claims")
	// ErrSignature is a signature that does not belong to the credential.
	ErrSignature = errors.New("the signature does not verify")
	// ErrExpired and ErrNotYet are credentials out of their time.
	ErrExpired = errors.New("the credential has expired")
	ErrNotYet  = errors.New("the credential is not valid yet")
	// ErrSubject is a credential about somebody else.
	ErrSubject = errors.New("the credential is about another subject")
	// ErrNotLinked is an origin that does not vouch for a DID.
	ErrNotLinked = errors.New("the origin is not linked with the DID")
	// ErrUnavailable is an origin that cannot be asked.
	ErrUnavailable = errors.New("the origin cannot be reached")
)
