package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/cluster-labs/ipfscloud/fs"
)

func (r *raw) OpenDir(c <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	d, err := r.tree.OpenDir(request{c}, fs.Ino(in.NodeId))
	if err != nil {
		return r.fail(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	r.dirs[r.next] = &openDir{dir: d}
	out.Fh = r.next
	out.OpenFlags = gofuse.FOPEN_CACHE_DIR | gofuse.FOPEN_KEEP_CACHE
	return gofuse.OK
}

func (r *raw) openDir(fh uint64) *openDir {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dirs[fh]
}

func (r *raw) ReleaseDir(in *gofuse.ReleaseIn) {
	r.mu.Lock()
	d := r.dirs[in.Fh]
	delete(r.dirs, in.Fh)
	r.mu.Unlock()
	if d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dir.Close()
	}
}

func (r *raw) ReadDir(c <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return r.readDir(c, in, func(e fs.DirEntry, next uint64) bool {
		return out.AddDirEntry(gofuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Mode, Off: next})
	})
}

// ReadDirPlus gives attributes too, and takes a reference on each inode it tells of.
func (r *raw) ReadDirPlus(c <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return r.readDir(c, in, func(e fs.DirEntry, next uint64) bool {
		o := out.AddDirLookupEntry(gofuse.DirEntry{Name: e.Name, Ino: uint64(e.Ino), Mode: e.Mode, Off: next})
		if o == nil {
			return false
		}
		*o = gofuse.EntryOut{} // node 0: the kernel asks when it needs to know
		if e.Name == "." || e.Name == ".." {
			return true
		}
		if a, err := r.tree.Lookup(request{c}, fs.Ino(in.NodeId), e.Name); err == nil {
			r.entry(&a, o)
		}
		return true
	})
}

func (r *raw) readDir(c <-chan struct{}, in *gofuse.ReadIn, add func(fs.DirEntry, uint64) bool) gofuse.Status {
	d := r.openDir(in.Fh)
	if d == nil {
		return gofuse.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.fail(d.dir.Read(request{c}, in.Offset, add))
}
