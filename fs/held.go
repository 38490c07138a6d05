package fs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// missing is how code under Tree.mu says that it needs a page from the store.
type missing struct {
	kind crypt.PageKind
	ptr  crypt.PagePointer
}

func (m *missing) Error() string { return "page " + m.ptr.CID.String() + " is not in memory" }

// do runs fn with the lock held. If fn needs a page that is not in memory, do gives up
// the lock, fetches the page and runs fn again: so fn must not change anything before it
// has seen all the pages that it needs.
func (t *Tree) do(ctx context.Context, fn func() error) error {
	var held *heldPages      // own ones, once the lock was given up
	var wait context.Context // for all the pages together
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return fmt.Errorf("the drive is closed: %w", ErrStale)
		}
		if t.held = held; held == nil {
			t.held = &t.scratch
		}
		err := fn()
		var m *missing
		miss := err != nil && errors.As(err, &m)
		if held == nil {
			if miss {
				held = t.scratch.clone()
			}
			t.scratch.reset()
		}
		t.held = nil
		t.mu.Unlock()
		if !miss {
			return err
		}
		if wait == nil {
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeout(ctx, t.cfg.Deadline)
			defer cancel()
		}
		p, err := t.reader.page(wait, m.kind, &m.ptr)
		if err != nil {
			t.noteError(err)
			return deadlineError(ctx, err)
		}
		held.add(m.ptr.CID, p)
	}
}

// heldPages keeps what an operation has seen in memory until it ends: a page that its
// check found must still be there when the change is applied.
type heldPages struct {
	few  []heldPage // at most fewPages
	more map[CID]*page
}

type heldPage struct {
	cid CID
	p   *page
}

const fewPages = 16

func (h *heldPages) add(cid CID, p *page) {
	if len(h.few) < fewPages {
		h.few = append(h.few, heldPage{cid, p})
		return
	}
	if h.more == nil {
		h.more = map[CID]*page{}
	}
	h.more[cid] = p
}

func (h *heldPages) find(cid CID) *page {
	for i := range h.few {
		if h.few[i].cid == cid {
			return h.few[i].p
		}
	}
	return h.more[cid]
}

// reset forgets all and keeps the memory for a few.
func (h *heldPages) reset() {
	clear(h.few)
	h.few, h.more = h.few[:0], nil
}

func (h *heldPages) clone() *heldPages { return &heldPages{slices.Clone(h.few), h.more} }

// deadlineError tells a deadline of ours from one of the caller's.
func deadlineError(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// memoryPage is the pageSource of code under the lock.
func (t *Tree) memoryPage(kind crypt.PageKind, ptr *crypt.PagePointer) (*page, error) {
	if t.held != nil {
		if p := t.held.find(ptr.CID); p != nil {
			return p, nil
		}
	}
	if p, ok := t.reader.pages.peek(ptr.CID); ok && p.kind == kind {
		if t.held != nil {
			t.held.add(ptr.CID, p)
		}
		return p, nil
	}
	return nil, &missing{kind, *ptr}
}
