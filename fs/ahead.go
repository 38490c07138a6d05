package fs

import (
	"context"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// aheadPages is how many pages after the one in hand are fetched when a tree is read in
	// order, and aheadWorkers how many at once.
	aheadPages   = 8
	aheadWorkers = 8
)

// readAhead fetches pages that will be asked for soon. Its errors are nobody's: who needs
// the page asks again.
type readAhead struct {
	r      *reader
	want   chan *missing
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newReadAhead(r *reader) *readAhead {
	ctx, cancel := context.WithCancel(context.Background())
	a := &readAhead{r: r, want: make(chan *missing, 2*aheadPages), cancel: cancel}
	for range aheadWorkers {
		a.wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-a.want:
					_, _ = r.page(ctx, m.kind, &m.ptr)
				}
			}
		})
	}
	return a
}

// pages asks for the first few of the pages below some items. It never waits.
func (a *readAhead) pages(kind crypt.PageKind, items []item) {
	for i := range items[:min(len(items), aheadPages)] {
		ptr := &items[i].down.child
		if a.r.pages.has(ptr.CID) {
			continue
		}
		select {
		case a.want <- &missing{kind, *ptr}:
		default:
			return
		}
	}
}

func (a *readAhead) close() {
	a.cancel()
	a.wg.Wait()
}
