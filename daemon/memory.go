package daemon

import "runtime/debug"

// nodeMemory is what Kubo and Go take besides the tree, in bytes.
const nodeMemory = 128 << 20

// limitMemory makes Go's collector work harder before the process outgrows what was asked
// for: twice the tree's limit, and what the embedded node takes.
func limitMemory(c Config) {
	debug.SetMemoryLimit(2*c.MemoryMiB<<20 + nodeMemory)
}
