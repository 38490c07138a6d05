package fs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// aheadPages is how many pages after the one in hand are fetched when a tree is read in
	// order, and aheadWorkers how many blocks at once.
	aheadPages   = 8
	aheadWorkers = 8
	// aheadQueue bounds the pages that wait to be fetched: those of the directories in a
	// listing, as a rule.
	aheadQueue = 512
	// aheadBlobs is how many blobs are fetched before a file that is read in order comes
	// to them, and aheadSlack how far its reads may come out of order: the kernel has
	// several under way at once.
	aheadBlobs = 8
	aheadSlack = 4 << 20
	// aheadTime is how long the blobs that are fetched ahead may take, one after the other:
	// on a slow way many at once would only make the one that is waited for come too late.
	aheadTime = 2 * time.Second
)

// readAhead fetches what will be asked for soon. Its errors are nobody's: who needs the
// page or blob asks again.
type readAhead struct {
	r      *reader
	want   chan missing
	blobs  chan crypt.Pointer
	took   atomic.Int64 // nanoseconds that a blob takes, of late
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newReadAhead(r *reader) *readAhead {
	ctx, cancel := context.WithCancel(context.Background())
	a := &readAhead{r: r, want: make(chan missing, aheadQueue), blobs: make(chan crypt.Pointer, 2*aheadBlobs), cancel: cancel}
	for range aheadWorkers {
		a.wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				// What was asked for again before its turn came is there, or on its way.
				case m := <-a.want:
					if !r.pages.has(m.ptr.CID) {
						_, _ = r.page(ctx, m.kind, &m.ptr)
					}
				case p := <-a.blobs:
					if r.hasBlob(p.CID) {
						continue
					}
					a.blob(ctx, p)
				}
			}
		})
	}
	return a
}

// blob fetches a blob and notes how long that takes.
func (a *readAhead) blob(ctx context.Context, p crypt.Pointer) {
	begun := time.Now()
	_, _ = a.r.blob(ctx, p)
	a.took.Store((a.took.Load() + int64(time.Since(begun))) / 2)
}

// inTime is how many blobs may be on their way at once.
func (a *readAhead) inTime() int { return 1 + int(int64(aheadTime)/(1+a.took.Load())) }

// pages asks for the first few of some pages. It never waits.
func (a *readAhead) pages(kind crypt.PageKind, next []branch) {
	for i := range next[:min(len(next), aheadPages)] {
		if !a.page(kind, &next[i].child) {
			return
		}
	}
}

// page asks for a page, and reports whether there was room to. It never waits.
func (a *readAhead) page(kind crypt.PageKind, ptr *crypt.PagePointer) bool {
	if a.r.pages.has(ptr.CID) {
		return true
	}
	select {
	case a.want <- missing{kind, *ptr}:
		return true
	default:
		return false
	}
}

// blobOf asks for a blob, and reports whether there was room to. It never waits.
func (a *readAhead) blobOf(ptr crypt.Pointer) bool {
	if a.r.hasBlob(ptr.CID) {
		return true
	}
	select {
	case a.blobs <- ptr:
		return true
	default:
		return false
	}
}

// dir asks for the first page of a directory whose record was just listed: who lists a
// directory often goes on with those in it. It never waits.
func (a *readAhead) dir(encoded []byte) {
	var r record
	if r.decode(encoded) == nil && r.body == bodyDir {
		a.page(crypt.PageDirectory, &r.root)
	}
}

// after asks for the blobs of a file that come after an offset, if what was read before
// that offset was read in order, and reports whether it was. It never waits.
func (a *readAhead) after(in *inode, off, end uint64) (inOrder bool) {
	inOrder = off > 0 && off <= in.readEnd && off+aheadSlack >= in.readEnd
	if !inOrder || end > in.readEnd {
		in.readEnd = end
	}
	if !inOrder {
		return false
	}
	// The further it was read, the further it will be.
	n := min(aheadBlobs, 1+int(end/crypt.BlobMax), a.inTime(), a.r.blobs.room()/crypt.BlobMax)
	var last CID
	for e := range in.ext.from(end) {
		if n == 0 {
			break
		}
		s := e.src
		if !s.stored() || s.ptr.CID == last {
			continue
		}
		last, n = s.ptr.CID, n-1
		if !a.blobOf(s.ptr) {
			return true
		}
	}
	return true
}

func (a *readAhead) close() {
	a.cancel()
	a.wg.Wait()
}
