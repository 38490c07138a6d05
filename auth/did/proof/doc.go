// Package proof makes and checks Data Integrity proofs of the cryptosuite eddsa-jcs-2022
// by keys that are named as did:key.
//
// Its one job is the signature over a JSON object and the options of its proof. Whether a
// key may sign what it signed is the caller's question. It imports auth/did for its keys
// and signers and auth/did/jcs, knows no other cryptosuite, and holds no private key.
package proof

import "errors"

// ErrInvalid: a proof that does not hold, or that is of another kind.
var ErrInvalid = errors.New("invalid proof")

// The fixed words of the proofs of this package.
const (
	Type        = "DataIntegrityProof"
	Cryptosuite = "eddsa-jcs-2022"
	Purpose     = "assertionMethod"
)
