package daemon

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	// nodeMemory is what Kubo and Go take besides the tree, in bytes.
	nodeMemory = 128 << 20
	// restrainEvery is how often the number of loaded inodes is looked at.
	restrainEvery = 2 * time.Second
)

// limitMemory makes Go's collector work harder before the process outgrows what was asked
// for: twice the tree's limit, and what the embedded node takes.
func limitMemory(c Config) {
	debug.SetMemoryLimit(2*c.MemoryMiB<<20 + nodeMemory)
}

// restrain asks the kernel to forget names while there are more inodes in memory than the
// limit has room for. The returned function ends it.
func (s *Service) restrain() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ask := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.tree.Restrain(ctx, ask, func(p fs.Place) error {
			return s.server.InvalidateEntry(uint64(p.Parent), p.Name)
		})
	})
	wg.Go(func() {
		tick := time.NewTicker(restrainEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case ask <- struct{}{}:
			case <-ctx.Done():
				return
			default: // still at it
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
