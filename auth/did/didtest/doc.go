// Package didtest is the conformance suite that each DID method passes, and a method that
// exists for tests only: it lives in memory and can do everything.
//
// Its one job is to hold methods to what auth/did promises of them. It imports auth/did
// and is imported by tests only.
package didtest
