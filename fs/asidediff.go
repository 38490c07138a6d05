package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// DifferenceKind says how a path differs.
type DifferenceKind string

// The kinds of differences.
const (
	DifferenceNew     DifferenceKind = "new"     // the path is not in the base
	DifferenceChanged DifferenceKind = "changed" // what it holds, or its attributes
	DifferenceRenamed DifferenceKind = "renamed" // it was called Old; what is below a directory goes with it
	DifferenceRemoved DifferenceKind = "removed" // it is in the base only
)

// Difference is one path that this device has changed.
type Difference struct {
	Kind DifferenceKind `json:"kind"`
	Path string         `json:"path"` // from the top of the drive, without a slash in front
	Old  string         `json:"old,omitempty"`
	Attr Attr           `json:"-"` // in the device's tree; zero for what was removed
	// Content: the file, link or directory is one to write, and not only to tell of.
	Content bool `json:"-"`
}

// spot is a path in one of the two trees. A directory is held: its inode stays loaded until
// drop.
type spot struct {
	path string
	attr Attr
}

func (s spot) isDir() bool { return s.attr.Mode&ModeType == ModeDir }

// differ collects what differs between two trees. Inode numbers are never used again, so the
// same number is the same file wherever it lies; and each change of a file sets its time of
// change, so that the same number with the same times is unchanged.
type differ struct {
	ctx        context.Context
	mine, base *Tree
	prune      bool // two directories that are the same page are the same, with all below them

	out     []Difference
	dirs    []spot       // directories that are in mine only, or stand elsewhere in base
	files   []spot       // others of that kind
	removed map[Ino]spot // in base only, or elsewhere in mine
	names   []string     // more names of those, of files that have several
}

// Walk tells all differences, in the order of their paths. While fn runs, the inode of a
// Difference with Content is loaded, and can be read.
func (v *AsideView) Walk(ctx context.Context, fn func(Difference) error) error {
	d := &differ{ctx: ctx, mine: v.mine, base: v.base, removed: map[Ino]spot{}}
	top, err := v.mine.GetAttr(ctx, RootIno)
	if err != nil {
		return err
	}
	if v.base == nil {
		if err := d.all(spot{attr: top}); err != nil {
			return err
		}
	} else {
		// What a file with several names holds stands in a table of its own: the pages of the
		// directories do not show that it changed.
		d.prune = len(v.mine.links) == 0 && v.mine.top.inodes.CID == v.base.top.inodes.CID
		if err := d.pair(spot{attr: top}, spot{attr: top}); err != nil {
			return err
		}
	}
	if err := d.resolve(); err != nil {
		return err
	}
	slices.SortStableFunc(d.out, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	for _, x := range d.out {
		if err := v.show(ctx, x, fn); err != nil {
			return err
		}
	}
	return nil
}

func (v *AsideView) show(ctx context.Context, x Difference, fn func(Difference) error) error {
	if x.Kind == DifferenceRemoved {
		return fn(x)
	}
	at := RootIno
	for name := range strings.SplitSeq(x.Path, "/") {
		a, err := v.mine.Lookup(ctx, at, name)
		if err != nil {
			return fmt.Errorf("%s: %w", x.Path, err)
		}
		defer v.mine.Forget(a.Ino, 1)
		at, x.Attr = a.Ino, a
	}
	return fn(x)
}

// list returns what is in a directory that is loaded. The directories among it are held.
func (d *differ) list(t *Tree, dir spot) (map[string]spot, error) {
	l, err := t.OpenDir(d.ctx, dir.attr.Ino)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.path, err)
	}
	defer l.Close()
	var names []string
	err = l.Read(d.ctx, 0, func(e DirEntry, _ uint64) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.path, err)
	}
	out := make(map[string]spot, len(names))
	for _, n := range names {
		s := spot{path: n}
		if dir.path != "" {
			s.path = dir.path + "/" + n
		}
		if s.attr, err = t.Lookup(d.ctx, dir.attr.Ino, n); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
		if !s.isDir() {
			t.Forget(s.attr.Ino, 1)
		}
		out[n] = s
	}
	return out, nil
}

// drop lets go of a directory of list.
func drop(t *Tree, s spot) {
	if s.isDir() && s.attr.Ino != RootIno {
		t.Forget(s.attr.Ino, 1)
	}
}

// same tells, without looking into them, that two directories hold the same.
func (d *differ) same(mine, base Ino) bool {
	a, clean := d.mine.page(mine)
	b, _ := d.base.page(base)
	return d.prune && clean && a == b
}

// page is the page of a loaded directory, and whether nothing of it was changed since.
func (t *Tree) page(ino Ino) (CID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.inodes[ino]
	if in == nil || !in.isDir() {
		return CID{}, false
	}
	return in.base.CID, len(in.over) == 0 && len(in.frozen) == 0
}

// pair compares a directory with what it was.
func (d *differ) pair(mine, base spot) error {
	if err := d.ctx.Err(); err != nil || d.same(mine.attr.Ino, base.attr.Ino) {
		return err
	}
	have, err := d.list(d.mine, mine)
	if err != nil {
		return err
	}
	had, err := d.list(d.base, base)
	if err != nil {
		return err
	}
	for name, a := range have {
		b, ok := had[name]
		if !ok || a.attr.Ino != b.attr.Ino {
			if a.isDir() {
				d.dirs = append(d.dirs, a)
			} else {
				d.files = append(d.files, a)
			}
			continue
		}
		delete(had, name)
		if changed(&a.attr, &b.attr) {
			d.out = append(d.out, Difference{Kind: DifferenceChanged, Path: a.path, Content: !a.isDir()})
		}
		if a.isDir() {
			if err := d.pair(a, b); err != nil {
				return err
			}
			drop(d.mine, a)
			drop(d.base, b)
		}
	}
	for _, b := range had {
		d.miss(b)
	}
	return nil
}

// miss notes a path that the base alone has.
func (d *differ) miss(b spot) {
	if _, ok := d.removed[b.attr.Ino]; ok {
		d.names = append(d.names, b.path)
		return
	}
	d.removed[b.attr.Ino] = b
}

// changed tells whether a file is another version, or a directory has other attributes: its
// time of change is set by changes of its names, too.
func changed(a, b *Attr) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID {
		return true
	}
	if a.Mode&ModeType == ModeDir {
		return a.Ctime != b.Ctime && a.Mtime == b.Mtime
	}
	return a.Ctime != b.Ctime || a.Mtime != b.Mtime || a.Size != b.Size
}

// all takes a directory with all that is below it.
func (d *differ) all(dir spot) error {
	have, err := d.list(d.mine, dir)
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.isDir() {
			d.dirs = append(d.dirs, a)
		} else {
			d.files = append(d.files, a)
		}
	}
	return d.ctx.Err()
}

// resolve tells what was renamed from what is new, and finds what is below both.
func (d *differ) resolve() error {
	for len(d.dirs) > 0 {
		// Those that were renamed first: what is below them may explain others.
		i := slices.IndexFunc(d.dirs, func(a spot) bool { b, ok := d.removed[a.attr.Ino]; return ok && b.isDir() })
		renamed := i >= 0
		i = max(i, 0)
		a := d.dirs[i]
		d.dirs = slices.Delete(d.dirs, i, i+1)
		var err error
		if renamed {
			b := d.removed[a.attr.Ino]
			delete(d.removed, a.attr.Ino)
			d.out = append(d.out, Difference{Kind: DifferenceRenamed, Path: a.path, Old: b.path})
			err = d.pair(a, b)
			drop(d.base, b)
		} else {
			d.out = append(d.out, Difference{Kind: DifferenceNew, Path: a.path, Content: true})
			err = d.all(a)
		}
		if err != nil {
			return err
		}
		drop(d.mine, a)
	}
	if err := d.spread(); err != nil {
		return err
	}
	paths := map[string]bool{}
	for _, b := range d.removed {
		paths[b.path] = true
	}
	for _, p := range d.names {
		paths[p] = true
	}
	for _, a := range d.files {
		x := Difference{Kind: DifferenceNew, Path: a.path, Content: true}
		if b, ok := d.removed[a.attr.Ino]; ok {
			x.Kind, x.Old = DifferenceRenamed, b.path
			delete(d.removed, a.attr.Ino)
			delete(paths, b.path)
		} else if paths[a.path] { // saved as many programs do: a new file takes the name of the old one
			x.Kind = DifferenceChanged
		}
		d.out = append(d.out, x)
	}
	for _, x := range d.out {
		delete(paths, x.Path)
	}
	for p := range paths {
		d.out = append(d.out, Difference{Kind: DifferenceRemoved, Path: p})
	}
	return nil
}

// spread adds what was below the directories that are gone: it may stand elsewhere now.
func (d *differ) spread() error {
	var queue []spot
	for _, b := range d.removed {
		if b.isDir() {
			queue = append(queue, b)
		}
	}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		had, err := d.list(d.base, dir)
		if err != nil {
			return err
		}
		for _, b := range had {
			d.miss(b)
			if b.isDir() {
				queue = append(queue, b)
			}
		}
		drop(d.base, dir)
		if err := d.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
