package fs

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

const (
	// packBelow: fewer adjacent bytes than this go to the pack blob of their directory.
	packBelow = 64 << 10
	// crowded: a blob's range with more extents than this is rewritten as one, but not yet
	// while it still changes a lot: then with more than overcrowded. Else each commit would
	// write all of a file again that is written at random.
	crowded     = 64
	overcrowded = 224
	// Blocks are put in batches of about this size.
	batchBytes  = 8 << 20
	batchBlocks = 512
	// keptPages bounds the pages of a commit that are kept though the store has them.
	keptPages = 512
)

// commitWriter writes a frozen view: blobs and pages, children before parents. It belongs
// to the committer's goroutine.
type commitWriter struct {
	log CID // the DID document, which earlier commits may have too
	t   *Tree
	ctx context.Context
	seq uint64

	batch []Block
	bytes int
	// pages are those of this commit that the store may not have yet: they are read again
	// when a page above is written.
	pages map[CID]*page
	blobs []CID // put, of files
	put2  []CID // put, of pages and nodes
	// replaced are the pages that nobody reads any more when the commit is the tree's.
	replaced []CID

	contained uint64 // position in this device's journal that the commit contains; 0 for none

	stored  bool // all blobs lie in the store
	linking bool // the store was asked to link the commit, and may have done it

	dead   []deadBlock
	gone   int          // blocks that were put on the dead list
	fresh  map[CID]bool // written by this commit
	adds   map[CID]int  // files that begin to use a blob
	drops  map[CID]int  // files that use it no more
	births map[CID]uint64
	sealed map[*source]*source
	spare  [][]byte // buffers of packs, to be used again
	cache  bool     // what is sealed goes to the cache too

	died    map[CID]uint64 // see committer.died
	gaveUp  map[CID]bool   // blobs of files of which this commit rewrote a crowded range
	revived []string       // keys of the dead list whose blobs are used again
}

func (w *commitWriter) put(b Block) error {
	w.batch = append(w.batch, b)
	w.bytes += len(b.Data)
	if b.CID.Codec == crypt.DagPB || w.fresh == nil || !w.isBlob(b.CID) {
		w.put2 = append(w.put2, b.CID)
	}
	if w.bytes >= batchBytes || len(w.batch) >= batchBlocks {
		return w.flush()
	}
	return nil
}

func (w *commitWriter) isBlob(c CID) bool { _, ok := w.births[c]; return ok }

func (w *commitWriter) flush() error {
	if len(w.batch) == 0 {
		return nil
	}
	if err := w.t.cfg.Store.Put(w.ctx, w.batch); err != nil {
		return fmt.Errorf("storing %d blocks: %w", len(w.batch), err)
	}
	w.batch, w.bytes = nil, 0
	w.t.mu.Lock()
	w.t.balance()
	w.t.mu.Unlock()
	if len(w.pages) > keptPages {
		w.pages = map[CID]*page{}
	}
	return nil
}

// discard frees the pages of an attempt that failed, as far as the store lets it.
func (w *commitWriter) discard() {
	ctx, cancel := context.WithTimeout(context.Background(), w.t.cfg.Deadline)
	defer cancel()
	var cids []CID
	if !w.stored {
		cids = append(cids, w.blobs...)
	}
	for _, c := range w.put2 {
		if c != emptyDir.CID && c != w.t.vault.keyringCID && c != w.log {
			cids = append(cids, c)
		}
	}
	if err := w.t.cfg.Store.Free(ctx, cids); err != nil {
		w.t.cfg.Log.Warn("freeing the blocks of a failed commit", "error", err)
	}
}

// page is the pageSource of a commit: it waits for the store.
func (w *commitWriter) page(kind crypt.PageKind, ptr *crypt.PagePointer) (*page, error) {
	if p, ok := w.pages[ptr.CID]; ok && p.kind == kind {
		return p, nil
	}
	return w.t.reader.page(w.ctx, kind, ptr)
}

func (w *commitWriter) tree(kind crypt.PageKind, root crypt.PagePointer) *btree {
	return &btree{kind: kind, root: root, get: w.page}
}

// writePage seals a page and makes its node.
func (w *commitWriter) writePage(d *draft, link linker) (crypt.PagePointer, error) {
	plain := d.encode()
	ptr, sealed := crypt.SealPage(d.kind, plain, w.seq)
	node, size, err := d.shadow(ptr.CID, uint64(len(sealed)), link)
	if err != nil {
		return crypt.PagePointer{}, err
	}
	p, err := decodePage(d.kind, plain)
	if err != nil {
		return crypt.PagePointer{}, err
	}
	w.pages[ptr.CID] = p
	w.t.reader.pages.put(ptr.CID, p, p.memory())
	if err := w.put(Block{ptr.CID, sealed}); err != nil {
		return crypt.PagePointer{}, err
	}
	if err := w.put(node); err != nil {
		return crypt.PagePointer{}, err
	}
	return crypt.PagePointer{Pointer: ptr, Node: node.CID, Size: size}, nil
}

// dropPage notes that a page and its node are not needed from this commit on.
func (w *commitWriter) dropPage(p *crypt.PagePointer) {
	w.dead = append(w.dead, deadBlock{p.CID, p.Birth}, deadBlock{p.Node, p.Birth})
	w.replaced = append(w.replaced, p.CID)
}

// write writes the view and returns the new top.
func (w *commitWriter) write(j *job) (vaultTop, error) {
	t := w.t
	top := j.top
	var err error
	if w.seq, err = t.state.nextSequence(t.lastSequence(), t.cfg.Now()); err != nil {
		return top, err
	}
	t.attempted = w.seq
	w.fresh, w.births = map[CID]bool{}, map[CID]uint64{}
	w.adds, w.drops = map[CID]int{}, map[CID]int{}
	w.sealed, w.died = map[*source]*source{}, map[CID]uint64{}
	w.gaveUp = map[CID]bool{}
	// A commit this large is one of many: who writes so much does not read it at once, and
	// the collector runs the more often the less memory is free.
	w.cache = j.dirty <= t.dirtyLimit()/4
	for _, c := range t.commits.unlinked { // sealed ahead, or by an attempt that failed
		w.fresh[c] = true
	}
	w.dead = append(w.dead, top.late...)
	top.late = nil
	if err := w.put(emptyDir); err != nil {
		return top, err
	}
	if err := w.dir(j.root); err != nil {
		return top, err
	}
	if top.inodes, err = w.inodeTable(j, top.inodes); err != nil {
		return top, err
	}
	for _, b := range j.dead {
		if err := w.dropBody(b); err != nil {
			return top, err
		}
	}
	for _, c := range t.commits.unlinked {
		if w.adds[c] == 0 { // overwritten before any commit used it
			w.dead = append(w.dead, deadBlock{c, w.seq})
			w.died[c] = w.seq
		}
	}
	for c, death := range t.commits.died {
		if w.gaveUp[c] && w.adds[c] == 0 {
			w.died[c] = death
		}
	}
	if top.refs, err = w.refTable(top.refs); err != nil {
		return top, err
	}
	root := j.root.rec // alone: the top stays until the next commit, the frozen view must not
	top.root = &root
	if t.top.sequence > 0 {
		w.dropPage(&t.top.pointer)
		w.dead = append(w.dead, deadBlock{t.top.head, t.top.sequence}, deadBlock{t.top.commit, t.top.sequence})
	}
	if top.dead, err = w.deadList(top.dead); err != nil {
		return top, err
	}
	top.late = w.dead // what the dead list itself left behind
	return top, w.top(&top)
}

// top writes the vault's page.
func (w *commitWriter) top(v *vaultTop) error {
	plain := v.encode()
	ptr, sealed := crypt.SealPage(crypt.PageVault, plain, w.seq)
	links, err := v.links()
	if err != nil {
		return err
	}
	links = append(links, Link{v.labels[0].String(), ptr.CID, uint64(len(sealed))})
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	node := EncodeDir(links)
	size := uint64(len(node.Data))
	for _, l := range links {
		size += l.Size
	}
	if err := w.put(Block{ptr.CID, sealed}); err != nil {
		return err
	}
	v.pointer = crypt.PagePointer{Pointer: ptr, Node: node.CID, Size: size}
	v.sequence = w.seq
	return w.put(node)
}

// dir writes a directory, what changed below it first, and fills in its record.
func (w *commitWriter) dir(f *frozenInode) error {
	names := sortedKeys(f.names)
	pack := &packer{w: w}
	for _, name := range names {
		c := f.names[name]
		switch {
		case c == nil || c.linked:
		case c.names != nil:
			if err := w.dir(c); err != nil {
				return err
			}
		default:
			if err := w.file(c, pack); err != nil {
				return err
			}
		}
	}
	if err := pack.close(); err != nil {
		return err
	}
	changes := make([]change, 0, len(names))
	for _, name := range names {
		c := f.names[name]
		if c == nil {
			changes = append(changes, change{key: name})
			continue
		}
		if !c.linked && c.names == nil {
			if err := w.finish(c); err != nil {
				return err
			}
		}
		changes = append(changes, change{name, c.rec.encode()})
	}
	root, err := w.tree(crypt.PageDirectory, f.rec.root).apply(changes, w, linkRecord)
	if err != nil {
		return err
	}
	f.rec.root = root
	f.rec.body = bodyDir
	if root.IsZero() {
		f.rec.body = bodyNone
	}
	return nil
}

// inodeTable writes the inodes with several names.
func (w *commitWriter) inodeTable(j *job, root crypt.PagePointer) (crypt.PagePointer, error) {
	pack := &packer{w: w}
	var keys []Ino
	for ino, f := range j.links {
		keys = append(keys, ino)
		if f != nil {
			if err := w.file(f, pack); err != nil {
				return root, err
			}
		}
	}
	slices.Sort(keys)
	if err := pack.close(); err != nil {
		return root, err
	}
	changes := make([]change, 0, len(keys))
	for _, ino := range keys {
		f := j.links[ino]
		if f == nil {
			changes = append(changes, change{key: inoKey(ino)})
			continue
		}
		if err := w.finish(f); err != nil {
			return root, err
		}
		changes = append(changes, change{inoKey(ino), f.rec.encode()})
	}
	return w.tree(crypt.PageInodes, root).apply(changes, w, linkRecord)
}

// dropBody notes that the content of an inode is not needed from this commit on.
func (w *commitWriter) dropBody(b *committedBody) error {
	if b.dir {
		return w.tree(crypt.PageDirectory, b.root()).walk(w.dropPage)
	}
	x := b.ext
	if b.tree != nil {
		var err error
		if x == nil {
			if x, err = readExtents(w.tree(crypt.PageExtents, b.root())); err != nil {
				return err
			}
		}
		if err := w.tree(crypt.PageExtents, b.root()).walk(w.dropPage); err != nil {
			return err
		}
	}
	for _, s := range x.blobs() {
		w.dropBlob(s)
	}
	w.dropNode(b, x)
	return nil
}

func (w *commitWriter) dropBlob(s *source) {
	w.drops[s.ptr.CID]++
	w.births[s.ptr.CID] = s.ptr.Birth
}

func (w *commitWriter) dropNode(b *committedBody, x extents) {
	if !b.node.IsZero() {
		var birth uint64
		for _, s := range x.blobs() {
			birth = max(birth, s.ptr.Birth)
		}
		w.dead = append(w.dead, deadBlock{b.node, birth})
	}
}

// refTable counts the files that share a blob, and lets blobs die that none uses.
// A blob that is not in the table has one file.
func (w *commitWriter) refTable(root crypt.PagePointer) (crypt.PagePointer, error) {
	t := w.t
	table := w.tree(crypt.PageRefs, root)
	touched := map[CID]bool{}
	for c := range w.adds {
		touched[c] = true
	}
	for c := range w.drops {
		touched[c] = true
	}
	var changes []change
	for c := range touched {
		key := string(c.Digest[:])
		n, listed := uint64(0), false
		death, dead := t.commits.died[c]
		if dead && w.adds[c] > 0 {
			w.revived = append(w.revived, deadKey(death, c))
		}
		if !w.fresh[c] && !dead {
			v, ok, err := table.lookup(key)
			if err != nil {
				return root, err
			}
			n = 1
			if listed = ok; ok {
				d := crypt.NewDecoder(v)
				n = d.Uvarint()
				if err := d.Close(); err != nil {
					return root, fmt.Errorf("%w: share count: %w", ErrIntegrity, err)
				}
			}
		}
		n += uint64(w.adds[c])
		if drop := uint64(w.drops[c]); drop > n {
			return root, fmt.Errorf("blob %s has %d users, %d leave: %w", c, n, drop, ErrIntegrity)
		} else if n -= drop; n == 0 {
			w.dead = append(w.dead, deadBlock{c, w.births[c]})
			w.died[c] = w.seq
		}
		switch {
		case n >= 2:
			changes = append(changes, change{key, binary.AppendUvarint(nil, n)})
		case listed:
			changes = append(changes, change{key: key})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.key, b.key) })
	return table.apply(changes, w, nil)
}

// deadList adds what this commit made unreachable, and takes out what was freed.
func (w *commitWriter) deadList(root crypt.PagePointer) (crypt.PagePointer, error) {
	var changes []change
	for _, k := range append(w.revived, w.t.commits.takeFreed()...) {
		changes = append(changes, change{key: k})
	}
	seen := map[CID]bool{}
	w.gone += len(w.dead)
	for _, d := range w.dead {
		if seen[d.cid] || d.cid == emptyDir.CID {
			continue
		}
		seen[d.cid] = true
		changes = append(changes, change{deadKey(w.seq, d.cid), binary.AppendUvarint(nil, d.birth)})
	}
	w.dead = nil
	slices.SortFunc(changes, func(a, b change) int { return strings.Compare(a.key, b.key) })
	return w.tree(crypt.PageDead, root).apply(changes, w, nil)
}

func deadKey(death uint64, c CID) string {
	return string(c.Append(binary.BigEndian.AppendUint64(nil, death)))
}

func parseDeadKey(k string) (death uint64, c CID, err error) {
	if len(k) != 8+crypt.CIDSize {
		return 0, c, fmt.Errorf("%w: key of the dead list", ErrIntegrity)
	}
	c, err = crypt.CIDFromBytes([]byte(k[8:]))
	return binary.BigEndian.Uint64([]byte(k)), c, err
}
