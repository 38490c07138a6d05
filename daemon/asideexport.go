package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// AsideExport tells what an export wrote.
type AsideExport struct {
	Name        string          `json:"name"`
	Dir         string          `json:"dir"`
	Compared    string          `json:"compared_with"`
	Files       int             `json:"files"` // files and links that were written
	Bytes       int64           `json:"bytes"`
	Differences []fs.Difference `json:"differences"`
	// Skipped are paths, or attributes of them, that a directory of this machine cannot have.
	Skipped []string `json:"skipped,omitempty"`
}

const (
	exportFiles = "files"       // holds what is new or changed, under the paths that it has in the drive
	exportList  = "CHANGES.txt" // says what is new, changed, renamed and removed
	exportPiece = 1 << 20
)

// exportAside writes what a view has into a directory that does not exist yet, or is empty.
// Without a directory it only tells what it would write.
func exportAside(ctx context.Context, v *fs.AsideView, dir string) (*AsideExport, error) {
	if dir == "" {
		out := &AsideExport{Name: v.Aside.Name, Compared: v.Base}
		return out, v.Walk(ctx, func(d fs.Difference) error { out.Differences = append(out.Differences, d); return nil })
	}
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("the directory to export to, %q, is no absolute path: %w", dir, fs.ErrInvalid)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("the directory to export to: %w", exportError(err))
	}
	// A Root follows no link out of the directory: names in the drive may be anybody's.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the directory to export to: %w", exportError(err))
	}
	defer root.Close()
	if there, err := iofs.ReadDir(root.FS(), "."); err != nil {
		return nil, fmt.Errorf("the directory to export to: %w", err)
	} else if len(there) > 0 {
		return nil, fmt.Errorf("%s is not empty; say a directory that does not exist yet: %w", dir, fs.ErrExist)
	}
	x := &exporter{ctx: ctx, v: v, root: root, out: AsideExport{Name: v.Aside.Name, Dir: dir, Compared: v.Base}}
	if err := root.Mkdir(exportFiles, 0o700); err != nil {
		return nil, err
	}
	if err := v.Walk(ctx, x.take); err != nil {
		return nil, fmt.Errorf("exporting to %s, which is not complete: %w", dir, err)
	}
	if err := x.finish(); err != nil {
		return nil, fmt.Errorf("exporting to %s, which is not complete: %w", dir, err)
	}
	return &x.out, v.MarkExported()
}

// exportError gives what the system says a meaning that has an exit code.
func exportError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	return fmt.Errorf("%w: %w", fs.ErrInvalid, err)
}

type exporter struct {
	ctx  context.Context
	v    *fs.AsideView
	root *os.Root
	out  AsideExport
	dirs []fs.Difference // whose attributes come last: what is made in them would change their times
	buf  []byte
}

func (x *exporter) skip(p, why string) { x.out.Skipped = append(x.out.Skipped, quotePath(p)+": "+why) }

// take writes one path.
func (x *exporter) take(d fs.Difference) error {
	x.out.Differences = append(x.out.Differences, d)
	if !d.Content {
		return nil
	}
	to := path.Join(exportFiles, d.Path)
	if err := x.root.MkdirAll(path.Dir(to), 0o700); err != nil {
		return err
	}
	var err error
	switch d.Attr.Mode & fs.ModeType {
	case fs.ModeDir:
		x.dirs = append(x.dirs, d)
		if err := x.root.Mkdir(to, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	case fs.ModeRegular:
		err = x.file(d, to)
	case fs.ModeSymlink:
		err = x.link(d, to)
	default:
		x.skip(d.Path, "a pipe, socket or device is not written")
		return nil
	}
	x.out.Files++
	return err
}

func (x *exporter) link(d fs.Difference, to string) error {
	target, err := x.v.Readlink(x.ctx, d.Attr.Ino)
	if err != nil {
		return err
	}
	return x.root.Symlink(target, to)
}

func (x *exporter) file(d fs.Difference, to string) error {
	f, err := x.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if x.buf == nil {
		x.buf = make([]byte, exportPiece)
	}
	for off := uint64(0); off < d.Attr.Size; {
		n, err := x.v.Read(x.ctx, d.Attr.Ino, off, x.buf)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
		if n == 0 {
			return fmt.Errorf("%s ends at %d of %d bytes: %w", d.Path, off, d.Attr.Size, io.ErrUnexpectedEOF)
		}
		if !zeros(x.buf[:n]) { // a hole stays one
			if _, err := f.WriteAt(x.buf[:n], int64(off)); err != nil {
				return err
			}
		}
		off += uint64(n)
		x.out.Bytes += int64(n)
	}
	if err := f.Truncate(int64(d.Attr.Size)); err != nil {
		return err
	}
	attrs, err := x.v.Xattrs(x.ctx, d.Attr.Ino)
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
			x.skip(d.Path, "the attribute "+quotePath(name)+": "+err.Error())
		}
	}
	if os.Geteuid() == 0 { // as an ordinary user all is his own
		if err := f.Chown(int(d.Attr.UID), int(d.Attr.GID)); err != nil {
			x.skip(d.Path, "its owner: "+err.Error())
		}
	}
	if err := f.Chmod(os.FileMode(d.Attr.Mode & 0o777)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return x.root.Chtimes(to, time.Unix(0, d.Attr.Atime), time.Unix(0, d.Attr.Mtime))
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finish writes the list, the attributes of directories, and returns when all of it survives a
// power cut: the owner may discard what was set aside at once.
func (x *exporter) finish() error {
	sort.Slice(x.dirs, func(i, k int) bool { return x.dirs[i].Path > x.dirs[k].Path }) // the inner ones first
	for _, d := range x.dirs {
		to := path.Join(exportFiles, d.Path)
		err := x.root.Chmod(to, os.FileMode(d.Attr.Mode&0o777))
		if err == nil {
			err = x.root.Chtimes(to, time.Unix(0, d.Attr.Atime), time.Unix(0, d.Attr.Mtime))
		}
		if err != nil {
			return err
		}
	}
	if err := x.root.WriteFile(exportList, []byte(x.list()), 0o600); err != nil {
		return err
	}
	d, err := x.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// list is the text of the list.
func (x *exporter) list() string {
	var b strings.Builder
	fmt.Fprintf(&b, "What this device had and the drive has not. What is new or changed lies under %s/, whole.\n", exportFiles)
	fmt.Fprintf(&b, "Because: %s\nCompared with: %s.\n\n", quotePath(x.v.Aside.Because), x.out.Compared)
	for _, d := range x.out.Differences {
		if d.Kind == fs.DifferenceRenamed {
			fmt.Fprintf(&b, "%-8s %s -> %s\n", d.Kind, quotePath(d.Old), quotePath(d.Path))
			continue
		}
		fmt.Fprintf(&b, "%-8s %s\n", d.Kind, quotePath(d.Path))
	}
	for _, s := range x.out.Skipped {
		fmt.Fprintf(&b, "skipped  %s\n", s)
	}
	return b.String()
}

// quotePath shows a path on one line: as it is if that can be printed, else quoted.
func quotePath(p string) string {
	if q := strconv.Quote(p); q != `"`+p+`"` {
		return q
	}
	return p
}
