package fs

import (
	"errors"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// walkBlobs is how many blobs of small files are on their way before they are read, and
	// walkNames among how many names each time they are looked for.
	walkBlobs = 8
	walkNames = 256
	// guessBlobs and guessNames are that while nothing shows that files are read in order, and
	// walkSure is how many blobs in a row must have been foreseen.
	guessBlobs = 2
	guessNames = 48
	walkSure   = 2
	// walkDepth is how many directories above a file are gone on with.
	walkDepth = 16
)

// walk foresees which small files are read next. Who searches a tree or copies it reads in
// the order of the listings, each directory where its name stands, and would wait for each
// blob else. Nothing is fetched before guesses came true. Its fields belong to who holds
// Tree.mu.
type walk struct {
	last     CID       // the blob that was read last
	foreseen []toFetch // those after it, in order
	right    int       // so often in a row it was one of them
	at       []place   // where it goes on, the innermost last
}

type toFetch struct {
	ptr   crypt.Pointer
	asked bool
}

// place is a name in a directory as it was committed, or the one after it.
type place struct {
	root crypt.PagePointer
	name string
}

// foresee is told of a small file that is read from a stored blob. It never waits. The caller
// holds mu.
func (t *Tree) foresee(file *inode, blob CID) {
	w := &t.walk
	if blob == w.last || file.parent == nil {
		return
	}
	w.last = blob
	if i := slices.IndexFunc(w.foreseen, func(f toFetch) bool { return f.ptr.CID == blob }); i >= 0 {
		w.foreseen = slices.Delete(w.foreseen, 0, i+1)
		w.right++
	} else {
		w.begin(file)
	}
	if w.right < walkSure {
		if m := t.walkOn(guessBlobs, guessNames); m != nil {
			w.at = nil // a guess fetches no pages
		}
		return
	}
	most := min(walkBlobs, t.ahead.inTime(), t.reader.blobs.room()/crypt.BlobMax)
	if m := t.walkOn(most, walkNames); m != nil {
		t.ahead.page(m.kind, &m.ptr)
	}
	for i := range w.foreseen[:min(most, len(w.foreseen))] {
		f := &w.foreseen[i]
		f.asked = f.asked || t.ahead.blobOf(f.ptr)
	}
}

// begin makes a file the one after which the walk goes on.
func (w *walk) begin(file *inode) {
	*w = walk{last: w.last, foreseen: w.foreseen[:0], at: w.at[:0]}
	for in := file; in.parent != nil && len(w.at) < walkDepth; in = in.parent {
		w.at = append(w.at, place{in.parent.base, in.name + "\x00"})
	}
	slices.Reverse(w.at)
}

// walkOn goes on until so many blobs are foreseen, over at most so many names. It returns the
// page that it would need and that is not in memory.
func (t *Tree) walkOn(blobs, names int) *missing {
	w := &t.walk
	for len(w.at) > 0 && len(w.foreseen) < blobs && names > 0 {
		here := &w.at[len(w.at)-1]
		last, down, ended := "", crypt.PagePointer{}, true
		b := t.btree(crypt.PageDirectory, here.root)
		b.ahead = nil
		err := b.scan(here.name, func(name string, v []byte) bool {
			last = name
			names--
			var r record
			if r.decode(v) == nil {
				switch {
				case r.body == bodyDir:
					down = r.root
				case r.body == bodyExtents && r.attr.Size < crypt.BlobMax && len(r.extents) > 0:
					w.add(r.extents[0].src.ptr)
				}
			}
			ended = down.IsZero() && names > 0 && len(w.foreseen) < blobs
			return ended
		})
		if last != "" {
			here.name = last + "\x00"
		}
		if err != nil {
			var m *missing
			errors.As(err, &m)
			return m
		}
		switch {
		case !down.IsZero():
			w.at = append(w.at, place{root: down})
		case ended:
			w.at = w.at[:len(w.at)-1]
		}
	}
	return nil
}

// add foresees a blob, unless it is the one that was foreseen or read before.
func (w *walk) add(ptr crypt.Pointer) {
	before := w.last
	if n := len(w.foreseen); n > 0 {
		before = w.foreseen[n-1].ptr.CID
	}
	if ptr.CID != before {
		w.foreseen = append(w.foreseen, toFetch{ptr: ptr})
	}
}
