// Package auth is KeyBase: identities, login and sessions.
//
// Its one job is to hold the keys of a person and to do operations with them for the
// rest of the program: sign, open what was sealed to them, prove who they are. It never
// hands out private bytes, never writes a secret to a log, an argument or the
// environment, and knows nothing of files, mounts or pinning. It may import auth/did,
// auth/did/webvh, the standard library and cryptographic libraries, and nothing else of this module.
//
// Init makes an identity in a keystore directory; Restore makes it again from its recovery
// phrase and its log, Recover takes it back after a loss. Login opens a Session. An Agent serves a session to other processes of the
// same user over a unix socket; Dial gives them a Client, which has the same methods.
// The keystore's bytes are described in FORMAT.md.
package auth
