package fs

import "context"

// Place is a name in a directory.
type Place struct {
	Parent Ino
	Name   string
}

// Loaded is the number of inodes in memory. The kernel's references keep them there: who
// wants fewer must ask the kernel to forget some, for example those of Idle.
func (t *Tree) Loaded() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inodes)
}

// Idle returns up to n places of inodes that only the kernel's references keep in memory:
// nothing of them waits for a commit. Directories are not among them: one that is some
// process's working directory would lose its path. They are picked at random, which for a
// cache is nearly as good as by age and needs no bookkeeping.
func (t *Tree) Idle(n int) []Place {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Place, 0, min(n, len(t.inodes)))
	for _, in := range t.inodes {
		if len(out) == n {
			break
		}
		if in.parent != nil && !in.isDir() && in.holders == 0 {
			out = append(out, Place{in.parent.attr.Ino, in.name})
		}
	}
	return out
}

// InodeLimit is how many inodes the memory limit has room for.
func (t *Tree) InodeLimit() int { return int(t.cfg.MemoryLimit / bytesPerInode) }

// bytesPerInode is about what a loaded inode takes, with its part of the maps.
const bytesPerInode = 1 << 10

// Restrain keeps the number of loaded inodes within the memory limit: whenever ask says
// so, it lets forget drop what is idle. It returns when ctx ends.
func (t *Tree) Restrain(ctx context.Context, ask <-chan struct{}, forget func(Place) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
		}
		if over := t.Loaded() - t.InodeLimit(); over > 0 {
			// A little more than needed, so that the next time is not at once.
			for _, p := range t.Idle(over + t.InodeLimit()/8) {
				if ctx.Err() != nil {
					return
				}
				if err := forget(p); err != nil {
					t.cfg.Log.Warn("asking the kernel to forget a name", "error", err)
					break
				}
			}
		}
	}
}
