package daemon

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

const (
	// codeMemory is what the program's own code takes, in bytes, which Go's limit does not
	// count.
	codeMemory = 80 << 20
	// leastMemory is what the node and Go's runtime need in any case.
	leastMemory = 96 << 20
)

// limitMemory makes Go's collector work harder before the process outgrows what was asked
// for. Who sets GOMEMLIMIT knows better.
func limitMemory(c Config) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(max(c.MemoryMiB<<20-codeMemory, leastMemory))
}

// fewProcessors: with no more than these, one more of Go's than the machine has is of use.
const fewProcessors = 2

// addProcessor keeps one of Go's processors free. The threads that wait for the kernel's
// requests hold one each; where that leaves none, Go's monitor wakes every 20 µs to look
// whether one is to be taken from them, and each time delays a request. Two more than the
// machine has let the collector crowd out whom it works for. A quota of a control group, or
// who sets GOMAXPROCS, knows better.
func addProcessor() {
	if n := runtime.GOMAXPROCS(0); n <= fewProcessors && n == runtime.NumCPU() && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + 1)
	}
}

// restrain has the kernel forget inodes when they take more memory than they may. The
// returned function ends it.
func (s *Service) restrain() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		s.tree.Restrain(ctx, s.server)
	})
	return func() { cancel(); wg.Wait() }
}
