package fs

import (
	"context"
	"slices"
	"time"
)

// What a loaded inode takes in memory, in bytes, about, with its part of the maps.
const (
	inodeWeight  = 320
	dirWeight    = 256
	fileWeight   = 96
	extentWeight = 24 + 128
	bodyWeight   = 112
	treeWeight   = 144
	attrWeight   = 64

	// changeWeight is what a changed name takes until it is committed, besides its inode:
	// its place in the overlays, the frozen copy, the record.
	changeWeight = 1 << 10
)

// measure is about how many bytes of memory an inode takes: large names and overlays are
// not counted, nor what waits to be sealed.
func (in *inode) measure() int32 {
	n := inodeWeight + len(in.name) + len(in.target)
	for name, v := range in.xattrs {
		n += attrWeight + len(name) + len(v)
	}
	if in.dirState != nil {
		n += dirWeight
	}
	if f := in.fileState; f != nil {
		n += fileWeight + f.ext.len()*extentWeight + cap(f.small)
		if len(f.ext.list) == 1 { // the content of a small file stays
			n += cap(f.ext.list[0].src.data)
		}
		if f.tree != nil {
			n += treeWeight
		}
	}
	if in.committed != nil {
		n += bodyWeight
	}
	return int32(min(n, 1<<30))
}

// keep adds an inode to those that are loaded.
func (t *Tree) keep(in *inode) {
	if old := t.inodes[in.attr.Ino]; old != nil {
		t.unload(old)
	}
	t.inodes[in.attr.Ino] = in
	in.older, in.newer = t.ring.older, &t.ring
	in.older.newer, t.ring.older = in, in
	in.weight = 0
	t.weigh(in)
}

// weigh notes that a loaded inode takes more or less memory than before.
func (t *Tree) weigh(in *inode) {
	if t.inodes[in.attr.Ino] != in {
		return
	}
	w := in.measure()
	t.weight += int64(w - in.weight)
	in.weight = w
	if t.weight > t.crowdedAt {
		t.crowdedAt = t.weight + t.inodeLimit()/16
		poke(t.crowded)
	}
	if d := t.weight - t.balanced; max(d, -d) > t.inodeLimit()/16 {
		t.balance()
	}
}

// dirtied counts memory of bytes that are in memory only. Half of what may wait begins a
// commit, so that who goes on writing need not stop for it.
func (t *Tree) dirtied(n int64) {
	early := t.dirtyLimit() / 2
	begin := t.dirty <= early && t.dirty+n > early
	t.dirty += n
	if begin && !t.replay {
		t.commits.hurry()
	}
	if t.dirty-t.dirtyBalanced > t.cfg.MemoryLimit/64 {
		t.balance()
	}
}

// dirtyLimit is how many bytes may be in memory only.
func (t *Tree) dirtyLimit() int64 { return t.cfg.MemoryLimit / 4 }

// balance shares half of the memory limit among what is cached; the other half is for the
// node, and for garbage that is not collected yet. Pages of metadata may have an eighth of the
// limit, and half as much more where blobs do not use it; blobs have what the rest leaves.
// What waits for a commit counts three times: there are its sealed copies, the lists and pages
// of the commit, and who writes makes much garbage, which full caches would have Go's collector
// look for all the time.
func (t *Tree) balance() {
	t.balanced, t.dirtyBalanced = t.weight, t.dirty
	limit := t.cfg.MemoryLimit
	room := limit/2 - t.weight - t.dirty*3 - int64(t.changed+t.freezing)*changeWeight - t.reader.known.size()
	t.reader.pages.resize(min(max(room-t.reader.blobs.size(), limit/8), limit*3/16))
	t.reader.blobs.resize(min(max(room-t.reader.pages.size(), limit/32), limit/2))
}

// changeLimit is how many names may change before a commit begins at once. With twice as
// many those who change more are held up.
func (t *Tree) changeLimit() int { return int(t.cfg.MemoryLimit / 16 / changeWeight) }

// noteChange counts what changed since the freeze.
func (t *Tree) noteChange() {
	if t.changed++; t.changed%t.changeLimit() == 0 && !t.replay {
		t.commits.hurry()
	}
}

// paceMost is how long one change is held up at most. A store that takes nothing must not
// stop changes that the journal takes.
const paceMost = 5 * time.Second

// pace holds up who makes changes faster than commits take them, after a change is made.
func (t *Tree) pace(ctx context.Context) {
	if t.commits.lastError() != nil {
		return
	}
	t.mu.Lock()
	done := t.dirtyDone
	crowd := t.changed+t.freezing > 2*t.changeLimit()
	t.mu.Unlock()
	if !crowd {
		return
	}
	t.commits.hurry()
	timer := time.NewTimer(paceMost)
	defer timer.Stop()
	select {
	case <-done:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// unload drops an inode from memory.
func (t *Tree) unload(in *inode) {
	if t.inodes[in.attr.Ino] == in {
		delete(t.inodes, in.attr.Ino)
		t.weight -= int64(in.weight)
		t.crowdedAt = min(t.crowdedAt, max(t.weight, t.inodeLimit())+t.inodeLimit()/16)
		in.older.newer, in.newer.older = in.newer, in.older
		in.older, in.newer = nil, nil
	}
}

// inodeLimit is how many bytes loaded inodes may take.
func (t *Tree) inodeLimit() int64 { return t.cfg.MemoryLimit / 5 }

// Loaded is the number of inodes in memory, and about how many bytes they take. The
// kernel's references keep them there: who wants fewer must ask the kernel to forget some.
func (t *Tree) Loaded() (inodes int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inodes), t.weight
}

// Place is a name in a directory, and the inode that has it; Name is empty for one that has
// several.
type Place struct {
	Parent Ino
	Name   string
	Ino    Ino
	Dir    bool
}

// Forgetter makes the kernel drop inodes that nobody uses, and give its references back.
type Forgetter interface {
	Forget([]Place) error
	// KeepsUsed reports whether Forget needs no names, and leaves alone what is in use, as far
	// as is known. Else the working directory of a process could lose its path, and neither
	// directories are asked for nor files of several names.
	KeepsUsed() bool
}

// idle returns places of inodes that only the kernel's references keep in memory: nothing
// of them waits for a commit. Together they weigh what the loaded inodes are over their
// limit, and a little more, so that the next time is not at once. Files of several names are
// among them if all says so, and directories if files are not enough besides: the kernel has
// their listings. (It also keeps a directory in which it knows that some name is not.) Those that
// were loaded first go first: what lies together in memory is given back together, else the
// memory of those that go would serve no other use. How often the kernel uses what it has,
// nobody knows.
func (t *Tree) idle(all bool) []Place {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := t.weight - t.inodeLimit()
	if over <= 0 {
		t.crowdedAt = t.inodeLimit()
		return nil
	}
	over += t.inodeLimit() / 8
	var out []Place
	var unused, dirs []*inode
	rest := over // for directories, if no file can go
	for in := t.ring.newer; in != &t.ring && over > 0; in = in.newer {
		w := int64(in.weight)
		switch {
		case in.holders > 0 || in.orphan || in.parent == nil && !in.linked:
		case in.isDir():
			if all && in.kids == 0 && in.refs > 0 && rest > 0 {
				rest -= w
				dirs = append(dirs, in)
			}
		case in.refs == 0:
			over -= w
			unused = append(unused, in)
		case !in.linked:
			over -= w
			out = append(out, Place{in.parent.attr.Ino, in.name, in.attr.Ino, false})
		case all: // it has several names
			over -= w
			out = append(out, Place{Ino: in.attr.Ino})
		}
	}
	for _, in := range unused {
		t.evict(in)
	}
	for _, in := range dirs {
		if over <= 0 {
			break
		}
		over -= int64(in.weight)
		out = append(out, Place{in.parent.attr.Ino, in.name, in.attr.Ino, true})
	}
	t.crowdedAt = max(t.inodeLimit(), t.weight) + t.inodeLimit()/16
	return out
}

// forgetBatch is how many names the kernel is asked to forget at once.
const forgetBatch = 256

// Restrain keeps the memory of loaded inodes within its limit: whenever they outgrow it, the
// kernel is made to forget what is idle. It returns when ctx ends.
func (t *Tree) Restrain(ctx context.Context, kernel Forgetter) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.crowded:
		}
		for batch := range slices.Chunk(t.idle(kernel.KeepsUsed()), forgetBatch) {
			if ctx.Err() != nil {
				return
			}
			if err := kernel.Forget(batch); err != nil {
				t.cfg.Log.Warn("asking the kernel to forget names", "error", err)
				break
			}
		}
	}
}
