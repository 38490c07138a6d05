package fs

import "github.com/cluster-labs/ipfscloud/fs/crypt"

// spillOrphans gives what files without names hold in memory to the committer, to be sealed
// with what is sealed ahead, if it is much: no commit ever writes them, and programs have
// large temporary files that they unlinked at once.
func (c *committer) spillOrphans() {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for in := range t.orphans {
		if in.fileState != nil && !in.unloaded {
			n += in.ext.unsealed(true)
		}
	}
	if int64(n) < t.cfg.MemoryLimit/8 {
		return
	}
	c.mu.Lock()
	queued := make(map[*source]bool, len(c.full))
	for _, s := range c.full {
		queued[s] = true
	}
	c.mu.Unlock()
	for in := range t.orphans {
		if in.refs == 0 || in.fileState == nil || in.unloaded {
			continue
		}
		for _, s := range in.spill() {
			if !queued[s] {
				queued[s] = true
				c.seal(s)
			}
		}
		t.weigh(in)
	}
}

// spill packs the bytes of a file that are in memory into sources of the size of a blob and
// returns those, and the ones that have that size already. What does not fill a source
// stays as it is.
func (in *inode) spill() (full []*source) {
	for e := range in.ext.all() {
		if s := e.src; !s.stored() && s.whole() {
			full = append(full, s)
		}
	}
	n := in.ext.unsealed(false) / crypt.BlobMax * crypt.BlobMax
	if n == 0 {
		return full
	}
	var out extents
	var pack *source
	for e := range in.ext.all() {
		e := *e
		for n > 0 && e.len > 0 && !e.src.stored() && !e.src.whole() {
			if pack == nil {
				pack = &source{data: make([]byte, 0, crypt.BlobMax)}
			}
			k := min(e.len, uint32(crypt.BlobMax-len(pack.data)))
			out = append(out, extent{off: e.off, len: k, at: uint32(len(pack.data)), src: pack})
			pack.data = append(pack.data, e.src.data[e.at:e.at+k]...)
			e.off, e.at, e.len, n = e.off+uint64(k), e.at+k, e.len-k, n-int(k)
			if len(pack.data) == crypt.BlobMax {
				pack.frozen = true
				full = append(full, pack)
				pack = nil
			}
		}
		if e.len > 0 {
			out = append(out, e)
		}
	}
	in.ext, in.extShared = extentMap{list: out}, false
	return full
}

// unsealed is the number of bytes that nothing but memory has, with or without those that
// wait for nothing but their sealing.
func (m *extentMap) unsealed(whole bool) (n int) {
	for e := range m.all() {
		if s := e.src; !s.stored() && (whole || !s.whole()) {
			n += int(e.len)
		}
	}
	return n
}

// whole tells whether a source is a blob that only waits to be sealed.
func (s *source) whole() bool { return s.frozen && len(s.data) == crypt.BlobMax }
