// Package crypt seals what a vault stores, and says what the sealed bytes mean.
//
// Its one job is the vault format, version 1, which FORMAT.md describes to the byte:
// block names, blobs, pages, pointers, keyrings and heads. It imports no other package
// of this project. It never does input or output, never keeps a key longer than a call,
// and never returns plaintext that did not verify.
package crypt
