// Package journal is a crash-safe local log of changes that are not yet committed.
//
// Its one job: a record that Append returned for survives the death of the process, and
// after Sync a power cut. It keeps ciphertext only, in segments of fixed size and in a mapped
// file that the newest records pass through, and imports no other package of this project. It
// never interprets a record, never decides what to trim, and never hides that a synced record
// cannot be read back.
//
// Lock order: syncMu before mu.
package journal
