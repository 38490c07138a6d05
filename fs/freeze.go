package fs

import (
	"context"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// job is a view of the tree, frozen at one journal position, that a commit writes.
// Everything in it is a copy or is never changed; the committer alone reads it.
type job struct {
	position uint64 // of the journal
	root     *frozenInode
	links    map[Ino]*frozenInode // of the inode table; nil for an inode that is gone
	dead     []*committedBody     // content of inodes that lost their last name
	top      vaultTop
	dirty    int64
	ops      int
	bytes    int64
	journal  int64 // those of bytes that are in the journal
	oldest   time.Time
}

// frozenInode is an inode as it was at the freeze.
type frozenInode struct {
	in        *inode
	rec       record
	ext       extents
	unloaded  bool
	committed *committedBody
	names     map[string]*frozenInode // of a directory: what changed; nil for a name gone
	linked    bool                    // here is a name only; the record is in the table

	// What the commit made of it.
	newExt  extents
	rewrote bool // also bytes that were stored already lie in new blobs
	newBody *committedBody
}

// freeze moves all changes out of the way and returns them. nil if there are none, unless a
// commit without changes is wanted too. It is called with the lock held.
func (t *Tree) freeze(empty bool) *job {
	if !empty && t.pendingOps == 0 && len(t.orphans) == 0 && len(t.root.over) == 0 && t.rekeyed == nil {
		return nil
	}
	if t.rekeyed != nil {
		t.vault = t.rekeyed
	}
	t.endStreams()
	t.slab = nil
	j := &job{position: t.journal.Last(), top: t.top, dirty: t.dirty, ops: t.pendingOps, bytes: t.pendingBytes, journal: t.journalBytes, oldest: t.oldest}
	j.top.files, j.top.bytes = t.files, t.bytes
	j.root = t.freezeDir(t.root)
	t.linkFrozen, t.links = t.links, nil
	j.links = make(map[Ino]*frozenInode, len(t.linkFrozen))
	for ino, in := range t.linkFrozen {
		if in == nil {
			j.links[ino] = nil
			continue
		}
		j.links[ino] = t.freezeInode(in)
	}
	for in := range t.orphans {
		if !in.committed.isZero() {
			j.dead = append(j.dead, in.committed)
			in.committed = nil
		}
		if in.refs == 0 && in.holders == 0 {
			delete(t.orphans, in)
			t.unload(in)
		}
	}
	t.epoch++
	t.freezing, t.changed = t.changed, 0
	t.oldest = t.cfg.Now()
	return j
}

func (t *Tree) freezeDir(d *inode) *frozenInode {
	f := t.freezeInode(d)
	d.frozen, d.over = d.over, nil
	f.names = make(map[string]*frozenInode, len(d.frozen))
	for name, in := range d.frozen {
		switch {
		case in == nil:
			f.names[name] = nil
		case in.linked:
			f.names[name] = &frozenInode{in: in, linked: true,
				rec: record{body: bodyLinked, attr: Attr{Ino: in.attr.Ino, Mode: in.attr.Mode & ModeType}}}
		case in.isDir():
			f.names[name] = t.freezeDir(in)
		default:
			f.names[name] = t.freezeInode(in)
		}
	}
	return f
}

func (t *Tree) freezeInode(in *inode) *frozenInode {
	if in.fileState != nil && in.small != nil {
		in.unpack()
	}
	if in.label == (crypt.Label{}) { // its record had none, and this one may need it
		in.label = crypt.NewLabel()
	}
	f := &frozenInode{in: in, committed: in.committed,
		rec: record{attr: in.attr, label: in.label, xattrs: in.xattrs, target: in.target}}
	switch {
	case in.isDir():
		f.rec.root = in.base
	case in.isRegular() && !in.unloaded:
		for e := range in.ext.all() {
			e.src.frozen = true
		}
		f.ext = in.ext.flat()
		in.extShared = in.ext.chunks == nil
	case in.isRegular():
		f.unloaded = true
		f.rec.body, f.rec.root = bodyTree, *in.tree
		f.rec.alloc = in.attr.Blocks * 512
	}
	return f
}

// thaw puts the changes of a commit that failed back, under those made since. Blobs that
// were sealed and stored stay: the next commit need not write them again.
func (t *Tree) thaw(j *job, stored bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oldest = j.oldest
	t.changed, t.freezing = t.changed+t.freezing, 0
	if stored {
		t.dirty -= j.dirty
		t.signalRoom()
	}
	t.thawDir(j.root, stored)
	for ino, in := range t.linkFrozen {
		if _, ok := t.links[ino]; !ok {
			put(&t.links, ino, in)
		}
		release(in)
	}
	t.linkFrozen = nil
	for _, f := range j.links {
		if f != nil && stored {
			t.adopt(f)
		}
	}
	for _, b := range j.dead { // whose inodes may be gone: a nameless one carries it on
		in := &inode{orphan: true, committed: b}
		t.orphans[in] = struct{}{}
	}
}

func (t *Tree) thawDir(f *frozenInode, stored bool) {
	d := f.in
	for name, in := range d.frozen {
		if _, ok := d.over[name]; !ok {
			put(&d.over, name, in)
		}
		release(in)
	}
	d.frozen = nil
	for _, c := range f.names {
		switch {
		case c == nil || c.linked:
		case c.names != nil:
			t.thawDir(c, stored)
		case stored:
			t.adopt(c)
		}
	}
}

func release(in *inode) {
	if in != nil {
		in.holders--
	}
}

// adopt replaces what stood there at the freeze by what the commit made of it: bytes in
// memory by the blobs that they were sealed into, and, where a crowded range was
// rewritten, old blobs by the new one. What changed since the freeze stays.
func (t *Tree) adopt(f *frozenInode) {
	in := f.in
	if f.newExt == nil || in.unloaded {
		return
	}
	var out extents
	changed := false
	for e := range in.ext.all() {
		e := *e
		if e.src.stored() && !f.rewrote || !e.src.stored() && !e.src.frozen {
			out = append(out, e)
			continue
		}
		for _, o := range f.ext.slice(e.off, e.end()) {
			if o.src != e.src || o.at != e.at+uint32(o.off-e.off) {
				continue
			}
			// The same bytes stood here at the freeze: take what was made of them.
			if o.off > e.off {
				head := e
				head.len = uint32(o.off - e.off)
				out = append(out, head)
			}
			out = append(out, f.newExt.slice(o.off, o.end())...)
			cut := uint32(o.end() - e.off)
			e.off, e.at, e.len = e.off+uint64(cut), e.at+cut, e.len-cut
			changed = true
		}
		if e.len > 0 {
			out = append(out, e)
		}
	}
	if changed {
		in.ext, in.extShared = extentMap{list: out.join()}, false
	}
}

// install makes the result of a commit the tree's committed state.
func (t *Tree) install(j *job, top vaultTop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.top = top
	if t.rekeyed == t.vault {
		t.rekeyed = nil
	}
	t.installDir(j.root)
	for ino, f := range j.links {
		if f != nil {
			t.installFile(f)
		}
		in := t.linkFrozen[ino]
		release(in)
		if in != nil {
			in.since = top.sequence
			defer t.evict(in)
		}
	}
	t.linkFrozen = nil
	t.dirty -= j.dirty
	if t.dirty > t.dirtyLimit()/2 {
		t.commits.hurry()
	}
	t.freezing = 0
	t.pendingOps -= j.ops
	t.pendingBytes -= j.bytes
	t.journalBytes -= j.journal
	t.space.owed.Store(t.journalBytes)
	t.balance()
	t.signalRoom()
}

// wakeWriters lets writers that wait for memory look again.
func (t *Tree) wakeWriters() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.signalRoom()
}

// signalRoom wakes writers that wait for memory.
func (t *Tree) signalRoom() {
	close(t.dirtyDone)
	t.dirtyDone = make(chan struct{})
}

func (t *Tree) installDir(f *frozenInode) {
	d := f.in
	d.base, d.since = f.rec.root, t.top.sequence
	if d.orphan {
		if d.committed = nil; !d.base.IsZero() {
			root := d.base
			d.committed = &committedBody{dir: true, tree: &root}
			t.orphans[d] = struct{}{}
		}
	}
	gone := d.frozen
	d.frozen = nil
	for _, c := range f.names {
		switch {
		case c == nil || c.linked:
		case c.names != nil:
			t.installDir(c)
		default:
			t.installFile(c)
		}
	}
	for _, in := range gone {
		release(in)
		if in != nil {
			in.since = t.top.sequence
			t.evict(in)
		}
	}
}

func (t *Tree) installFile(f *frozenInode) {
	in := f.in
	if !in.isRegular() || f.unloaded {
		return
	}
	t.adopt(f)
	in.committed = f.newBody
	if f.rec.body == bodyInline && in.holders <= 1 { // it did not change since
		in.pack()
	}
	t.weigh(in)
	if in.orphan && !in.committed.isZero() {
		t.orphans[in] = struct{}{}
	}
}

// loadOrphans reads the extents of files without names that are in use: the pages that hold
// them are going to be freed.
func (t *Tree) loadOrphans(ctx context.Context) error {
	return t.do(ctx, func() error {
		for in := range t.orphans {
			if in.refs > 0 && in.isRegular() && in.unloaded && in.small == nil {
				if err := t.loadExtents(in); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// openBlobs are the blobs of inodes without names that are still in use.
func (t *Tree) openBlobs() map[CID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[CID]bool{}
	for in := range t.orphans {
		if in.refs == 0 || !in.isRegular() {
			continue
		}
		for _, s := range in.ext.flat().blobs() {
			out[s.ptr.CID] = true
		}
	}
	return out
}
