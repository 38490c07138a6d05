// Package fstest holds what tests of the encrypted tree share: Memory, a Store without a
// disk; Faulty, which makes any Store fail on demand; and RunStore, the conformance suite
// that every Store passes.
//
// It imports fs and fs/crypt alone. It never touches the network, a kernel mount or IPFS,
// and no program that people run may import it.
package fstest
