package fuse

import (
	"sync"

	"github.com/cluster-labs/ipfscloud/fs"
)

// A read makes the kernel ask for the file's attributes once more, for its time of access
// may have changed: who then looks at all files of a tree has a request for each. Listing a
// directory gives the attributes of all that is in it with two requests. So the kernel is
// told to forget a listing when a third of the files in it were read: it will ask for it
// anew when somebody wants it.
const (
	relistLeast = 4       // reads for which that is worth it
	relistsKept = 1 << 14 // directories; one that is forgotten costs no more than those requests
)

// relists counts what was read of the directories that were listed. The zero value is empty.
type relists struct {
	mu sync.Mutex // guards of
	of map[uint64]relist
}

type relist struct {
	entries, reads int
	ended          bool // all of it was listed
}

// listed notes that attributes of so many entries were given, from a directory's beginning
// or further on, or that its end was reached.
func (l *relists) listed(node uint64, begin bool, entries int, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, known := l.of[node]
	switch {
	case begin:
		d = relist{}
	case !known:
		return
	}
	d.entries, d.ended = d.entries+entries, end
	if d.entries > plusFirst || end && d.entries < relistLeast {
		delete(l.of, node)
		return
	}
	if l.of == nil {
		l.of = map[uint64]relist{}
	}
	l.of[node] = d
	for other := range l.of { // any
		if len(l.of) <= relistsKept {
			break
		}
		delete(l.of, other)
	}
}

// read notes that a file of a directory was read, and tells whether the directory should
// now be listed anew.
func (l *relists) read(node uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.of[node]
	if !ok {
		return false
	}
	// In the midst of a listing the kernel would give up keeping it, for good.
	if d.reads++; d.ended && d.reads >= relistLeast && 3*d.reads >= d.entries {
		delete(l.of, node)
		return true
	}
	l.of[node] = d
	return false
}

func (l *relists) drop(node uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, node)
}

// noteRead is told that a file was read from its beginning. It does not wait for the kernel:
// who reads may hold the page of the listing that is to be forgotten, and wait for the read.
func (r *raw) noteRead(node uint64) {
	dir, ok := r.tree.Parent(fs.Ino(node))
	if !ok || !r.relists.read(uint64(dir)) {
		return
	}
	select {
	case r.writing <- struct{}{}:
	default: // it saves time, and there is none now
		return
	}
	go func() { // the kernel may take as long as the mount lives
		defer func() { <-r.writing }()
		if err := r.writeBack(uint64(dir), 0, 0); err != nil {
			r.log.Debug("telling the kernel to list a directory anew", "error", err)
		}
	}()
}
