// Package login lets programs and web sites log their users in by the DIDs of those.
//
// Its one job is to ask a question that only the holder of a DID's key can answer, and to
// judge the answer: a self-issued ID token in the form of SIOPv2. Verifier does that for
// any program, Site for a web server; README.md says how. It never sees a private key,
// never believes a token that names its own key, and forgets no version of a document that
// it has accepted. It may import auth/did and auth/claim, and nothing else of this module:
// a service that imports it takes in neither the drive nor IPFS.
package login
