// Package webvh is did:webvh 1.0: identifiers whose whole history is a log that certifies
// itself, one signed line a version, kept at a place on the web.
//
// Its one job is to verify such logs, to answer what a DID said at which version, and to
// write new entries. It imports auth/did and the packages beside this one. It holds no
// private key (signers are given), trusts no place that a log comes from, and fetches
// nothing but the two files that the DID names, and only when asked to.
package webvh
