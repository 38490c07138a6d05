package fs

import (
	"context"
	"slices"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// besideDirs is how many directories after one, and how many in it, are looked for, among
	// besideNames names.
	besideDirs  = 4
	besideNames = 64
	// besideBlobs is how many blobs of each are fetched: the small files of a directory that
	// one commit wrote lie together.
	besideBlobs = 2
	// expectedDirs is how many directories are remembered that were thought to be next, and
	// besideAfter how often in a row one of them must have been.
	expectedDirs = 24
	besideAfter  = 2
)

// beside fetches the small files of the directories that will be read next: who reads those
// of one directory after the other, as a search or a backup does, would wait for each of them
// else. Its fields belong to who holds Tree.mu.
type beside struct {
	last     Ino   // the directory that was read last
	expected []Ino // what was thought to be next, the latest last
	right    int   // so often in a row it was one of them
}

// readBeside is told of a small file that is read from the store. It never waits. The caller
// holds mu.
func (t *Tree) readBeside(file *inode) {
	dir := file.parent
	if dir == nil || dir.attr.Ino == t.beside.last {
		return
	}
	t.beside.last = dir.attr.Ino
	// Here and there is not one after the other: only guesses are acted on that come true.
	if slices.Contains(t.beside.expected, dir.attr.Ino) {
		t.beside.right++
	} else {
		t.beside.right = 0
	}
	fetch := t.beside.right >= besideAfter
	t.expect(dir.base, "", fetch)
	if dir.parent != nil {
		t.expect(dir.parent.base, dir.name+"\x00", fetch)
	}
	if n := len(t.beside.expected); n > expectedDirs {
		t.beside.expected = slices.Delete(t.beside.expected, 0, n-expectedDirs)
	}
}

// expect notes the directories from a name on, and with fetch asks for their files.
func (t *Tree) expect(root crypt.PagePointer, from string, fetch bool) {
	dirs := min(besideDirs, t.ahead.inTime(), t.reader.blobs.room()/(2*besideBlobs*crypt.BlobMax))
	names := 0
	b := t.btree(crypt.PageDirectory, root)
	b.ahead = nil                                    // a guess fetches no pages either
	_ = b.scan(from, func(_ string, v []byte) bool { // as far as they are in memory
		var r record
		if r.decode(v) == nil && r.body == bodyDir {
			t.beside.expected = append(t.beside.expected, r.attr.Ino)
			if fetch && dirs > 0 {
				t.ahead.files(r.root)
			}
			dirs--
		}
		names++
		return dirs > 0 && names < besideNames
	})
}

// files asks for the small files of a directory. It never waits.
func (a *readAhead) files(root crypt.PagePointer) {
	select {
	case a.dirs <- root:
	default:
	}
}

// fetchFiles fetches the blobs of the first small files of a directory.
func (a *readAhead) fetchFiles(ctx context.Context, root *crypt.PagePointer) {
	p, err := a.r.page(ctx, crypt.PageDirectory, root)
	for err == nil && len(p.down) > 0 {
		p, err = a.r.page(ctx, crypt.PageDirectory, &p.down[0].child)
	}
	if err != nil {
		return
	}
	var blobs []crypt.Pointer
	for i := range min(p.len(), besideNames) {
		var r record
		if r.decode(p.value(i)) != nil || r.body != bodyExtents || r.attr.Size >= crypt.BlobMax || len(r.extents) == 0 {
			continue
		}
		ptr := r.extents[0].src.ptr
		if !slices.ContainsFunc(blobs, func(b crypt.Pointer) bool { return b.CID == ptr.CID }) {
			blobs = append(blobs, ptr)
		}
		if len(blobs) == besideBlobs {
			break
		}
	}
	for _, b := range blobs {
		if !a.r.hasBlob(b.CID) {
			a.blob(ctx, b)
		}
	}
}
