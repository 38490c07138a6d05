package fs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// sealBlob seals bytes of a file and returns the source that stands for them.
func (w *commitWriter) sealBlob(b []byte) (*source, error) {
	s := &source{frozen: true}
	return s, w.sealInto(s, b)
}

func (w *commitWriter) sealInto(s *source, b []byte) error {
	p, sealed, err := crypt.SealBlob(b, w.seq)
	if err != nil {
		return err
	}
	s.ptr = p
	w.fresh[p.CID], w.births[p.CID] = true, p.Birth
	w.blobs = append(w.blobs, p.CID)
	if w.cache {
		w.t.reader.keep(p.CID, b)
	}
	return w.put(Block{p.CID, sealed})
}

// packer joins what is too small for a blob of its own, of one directory and commit.
type packer struct {
	w   *commitWriter
	buf []byte
	cur *source
}

func (p *packer) add(b []byte) (*source, uint32, error) {
	if len(p.buf)+len(b) > crypt.BlobMax {
		if err := p.close(); err != nil {
			return nil, 0, err
		}
	}
	if p.cur == nil {
		p.cur = &source{frozen: true}
		if n := len(p.w.spare); n > 0 {
			p.buf, p.w.spare = p.w.spare[n-1], p.w.spare[:n-1]
		}
	}
	at := uint32(len(p.buf))
	p.buf = append(p.buf, b...)
	return p.cur, at, nil
}

// close seals what was added last.
func (p *packer) close() error {
	if p.cur == nil {
		return nil
	}
	s, b := p.cur, p.buf
	if p.w.cache {
		b = bytes.Clone(b) // the cache keeps it
	}
	p.w.spare = append(p.w.spare, p.buf[:0])
	p.cur, p.buf = nil, nil
	return p.w.sealInto(s, b)
}

// file seals the new bytes of an inode, or gives them to the pack. finish completes the
// record when the pack is sealed.
func (w *commitWriter) file(f *frozenInode, pack *packer) error {
	switch f.rec.attr.Mode & ModeType {
	case ModeSymlink:
		f.rec.body = bodySymlink
		return nil
	case ModeRegular:
	default:
		f.rec.body = bodyNone
		return nil
	}
	if f.unloaded { // its extents did not change
		return nil
	}
	if b, ok := inline(f); ok {
		f.rec.body, f.rec.inline = bodyInline, b
		if len(b) == 0 {
			f.rec.body = bodyNone
		}
		return nil
	}
	f.newExt = make(extents, 0, len(f.ext))
	for i := 0; i < len(f.ext); {
		j, fresh := i, 0
		for window := f.ext[i].off / crypt.BlobMax; j < len(f.ext) && f.ext[j].off/crypt.BlobMax == window; j++ {
			if !f.ext[j].src.stored() {
				fresh++
			}
		}
		n := j - i
		rewrite := fresh > 0 && (n > overcrowded || n > crowded && fresh <= n/4)
		if err := w.window(f, f.ext[i:j], rewrite, pack); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// inline returns the bytes of a small file none of which is stored yet in a blob.
func inline(f *frozenInode) ([]byte, bool) {
	if f.rec.attr.Size > inlineMax {
		return nil, false
	}
	b := make([]byte, f.rec.attr.Size)
	for _, e := range f.ext {
		if e.src.stored() {
			return nil, false
		}
		if e.off < uint64(len(b)) {
			copy(b[e.off:], e.src.data[e.at:e.at+e.len])
		}
	}
	return b, true
}

// window seals the runs of new bytes in one blob's range; all bytes if it is crowded.
func (w *commitWriter) window(f *frozenInode, x extents, all bool, pack *packer) error {
	take := func(e *extent) bool { return all || !e.src.stored() }
	for i := 0; i < len(x); {
		if !take(&x[i]) {
			f.newExt = append(f.newExt, x[i])
			i++
			continue
		}
		j, n := i+1, int(x[i].len)
		for j < len(x) && take(&x[j]) && x[j].off == x[j-1].end() && n+int(x[j].len) <= crypt.BlobMax {
			n += int(x[j].len)
			j++
		}
		if err := w.run(f, x[i:j], n, pack); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// run seals adjacent extents of n bytes.
func (w *commitWriter) run(f *frozenInode, x extents, n int, pack *packer) error {
	whole := len(x) == 1 && x[0].at == 0 && !x[0].src.stored() && int(x[0].len) == len(x[0].src.data)
	if whole {
		if s := w.sealed[x[0].src]; s != nil { // copy_file_range shared it before it was sealed
			f.newExt = append(f.newExt, extent{off: x[0].off, len: x[0].len, src: s})
			return nil
		}
	}
	var b []byte
	if whole {
		b = x[0].src.data
		x[0].src.taken = true
	} else {
		b = make([]byte, 0, n)
		for i := range x {
			data := x[i].src.data
			x[i].src.taken = true
			if x[i].src.stored() {
				f.rewrote = true
				var err error
				if data, err = w.t.reader.verifiedBlob(w.ctx, x[i].src.ptr); err != nil {
					return err
				}
			}
			b = append(b, data[x[i].at:x[i].at+x[i].len]...)
		}
	}
	if n < packBelow {
		s, at, err := pack.add(b)
		if err != nil {
			return err
		}
		f.newExt = append(f.newExt, extent{off: x[0].off, len: uint32(n), at: at, src: s})
		return nil
	}
	s, err := w.sealBlob(b)
	if err != nil {
		return err
	}
	if whole {
		w.sealed[x[0].src] = s
	}
	f.newExt = append(f.newExt, extent{off: x[0].off, len: uint32(n), src: s})
	return nil
}

// finish completes the record of a file: where its extents stand, its node, and what of
// its old content is not used any more.
func (w *commitWriter) finish(f *frozenInode) error {
	r := &f.rec
	if r.attr.Mode&ModeType != ModeRegular || f.unloaded {
		f.newBody = f.committed
		return nil
	}
	old := f.committed.value()
	f.newExt = f.newExt.join()
	if f.newBody = nil; len(f.newExt) > 0 {
		f.newBody = &committedBody{ext: f.newExt}
	}
	w.countBlobs(old.ext, f.newExt)
	if f.rewrote {
		for _, s := range f.ext.blobs() {
			w.gaveUp[s.ptr.CID] = true
		}
	}

	if len(f.newExt) > maxInlineExtents {
		root, err := w.tree(crypt.PageExtents, old.root()).apply(extentChanges(old, f.newExt), w, linkExtent)
		if err != nil {
			return err
		}
		r.body, r.root, r.alloc = bodyTree, root, f.newExt.allocated()
		f.newBody.tree = &root
		w.dropNode(&old, old.ext)
		return nil
	}
	if old.tree != nil {
		if err := w.tree(crypt.PageExtents, old.root()).walk(w.dropPage); err != nil {
			return err
		}
	}
	if len(f.newExt) == 0 {
		if r.body == 0 && f.rec.inline == nil {
			r.body = bodyNone
		}
		w.dropNode(&old, old.ext)
		return nil
	}
	r.body, r.extents = bodyExtents, f.newExt
	if len(f.newExt.blobs()) < 2 {
		w.dropNode(&old, old.ext)
		return nil
	}
	r.salt = old.salt
	if old.node.IsZero() || r.fileNode().CID != old.node {
		r.salt = crypt.NewLabel()
		w.dropNode(&old, old.ext)
		if err := w.put(r.fileNode()); err != nil {
			return err
		}
	}
	f.newBody.salt, f.newBody.node = r.salt, r.fileNode().CID
	return nil
}

// countBlobs notes which blobs a file begins to use, and which it gives up.
func (w *commitWriter) countBlobs(old, now extents) {
	was := map[CID]bool{}
	for _, s := range old.blobs() {
		was[s.ptr.CID] = true
	}
	for _, s := range now.blobs() {
		if was[s.ptr.CID] {
			delete(was, s.ptr.CID)
			continue
		}
		w.adds[s.ptr.CID]++
		w.births[s.ptr.CID] = s.ptr.Birth
	}
	for _, s := range old.blobs() {
		if was[s.ptr.CID] {
			w.dropBlob(s)
		}
	}
}

// extentChanges are the changes that make the pages of old those of x.
func extentChanges(old committedBody, x extents) []change {
	var was extents
	if old.tree != nil {
		was = old.ext
	}
	var out []change
	i := 0
	for k := range x {
		e := &x[k]
		for i < len(was) && was[i].off < e.off {
			out = append(out, change{key: extentKey(was[i].off)})
			i++
		}
		if i < len(was) && was[i].off == e.off {
			o := &was[i]
			i++
			if o.len == e.len && o.at == e.at && o.src.ptr.CID == e.src.ptr.CID {
				continue
			}
		}
		enc := crypt.Encoder{Buf: make([]byte, 0, extentSize)}
		encodeExtent(&enc, e)
		out = append(out, change{extentKey(e.off), enc.Buf})
	}
	for ; i < len(was); i++ {
		out = append(out, change{key: extentKey(was[i].off)})
	}
	slices.SortFunc(out, func(a, b change) int { return strings.Compare(a.key, b.key) })
	return out
}

func extentKey(off uint64) string {
	return string(binary.BigEndian.AppendUint64(nil, off))
}
