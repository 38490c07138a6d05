// Package claim makes and verifies verifiable credentials about a DID: what its owner, or
// somebody else, says of it, signed, in the JWT form of the W3C's data model 1.1; and the
// linkage of a DID with a web origin (DIF Well Known DID Configuration).
//
// Credentials are parsed by aries-framework-go; which key counts, for what, and when, this
// package decides with a resolver of its caller's. It never fetches a JSON-LD context or a
// schema, never looks for a key that the token does not name, and holds no private key:
// whoever signs gives a function.
package claim
