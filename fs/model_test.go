package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

// node is an inode of the model: the simplest tree that does the same.
type node struct {
	mode   uint32
	data   []byte
	target string
	names  map[string]*node
	xattrs map[string]string
	nlink  int
}

func (n *node) dir() bool { return n.names != nil }

type pair struct {
	n   *node
	ino fs.Ino
	at  string
}

// model drives a tree and the model with the same random changes.
type model struct {
	t    *testing.T
	v    *vault
	r    *rand.Rand
	root *node
}

// all lists every name, with the inode numbers that lookups give.
func (m *model) all() []pair {
	out := []pair{{m.root, fs.RootIno, ""}}
	var walk func(p pair)
	walk = func(p pair) {
		for _, name := range sortedNames(p.n.names) {
			a, err := m.v.tree.Lookup(ctx, p.ino, name)
			if err != nil {
				m.t.Fatalf("lookup of %s/%s: %v", p.at, name, err)
			}
			c := pair{p.n.names[name], a.Ino, p.at + "/" + name}
			out = append(out, c)
			if c.n.dir() {
				walk(c)
			}
		}
	}
	walk(out[0])
	return out
}

func sortedNames(m map[string]*node) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (m *model) release(all []pair) {
	for _, p := range all[1:] {
		m.v.tree.Forget(p.ino, 1)
	}
}

// step makes one random change.
func (m *model) step() {
	t, all := m.v.tree, m.all()
	defer m.release(all)
	pick := func(ok func(pair) bool) (pair, bool) {
		for range 20 {
			if p := all[m.r.IntN(len(all))]; ok(p) {
				return p, true
			}
		}
		return pair{}, false
	}
	isDir := func(p pair) bool { return p.n.dir() }
	isFile := func(p pair) bool { return p.n.mode&fs.ModeType == fs.ModeRegular }
	name := func() string { return fmt.Sprintf("n%02d", m.r.IntN(30)) }
	must := func(err error, what string) {
		if err != nil {
			m.t.Fatalf("%s: %v", what, err)
		}
	}
	d, _ := pick(isDir)
	if d.n == nil {
		d = all[0]
	}
	switch k := m.r.IntN(20); k {
	case 0, 1, 2: // create
		n := name()
		a, err := t.Mknod(ctx, d.ino, n, fs.ModeRegular|0o644, 0, fs.Owner{})
		if d.n.names[n] != nil {
			m.wantErr(err, fs.ErrExist, "create")
			return
		}
		must(err, "create")
		t.Forget(a.Ino, 1)
		d.n.names[n] = &node{mode: fs.ModeRegular | 0o644, nlink: 1}
	case 3: // mkdir
		n := name()
		a, err := t.Mkdir(ctx, d.ino, n, 0o755, fs.Owner{})
		if d.n.names[n] != nil {
			m.wantErr(err, fs.ErrExist, "mkdir")
			return
		}
		must(err, "mkdir")
		t.Forget(a.Ino, 1)
		d.n.names[n] = &node{mode: fs.ModeDir | 0o755, names: map[string]*node{}, nlink: 1}
	case 4: // symlink
		n := name()
		if d.n.names[n] != nil {
			return
		}
		a, err := t.Symlink(ctx, d.ino, n, "to/"+n, fs.Owner{})
		must(err, "symlink")
		t.Forget(a.Ino, 1)
		d.n.names[n] = &node{mode: fs.ModeSymlink | 0o777, target: "to/" + n, nlink: 1}
	case 5: // link
		f, ok := pick(func(p pair) bool { return !p.n.dir() })
		n := name()
		if !ok || d.n.names[n] != nil {
			return
		}
		_, err := t.Link(ctx, f.ino, d.ino, n)
		must(err, "link")
		t.Forget(f.ino, 1)
		f.n.nlink++
		d.n.names[n] = f.n
	case 6, 7: // remove
		names := sortedNames(d.n.names)
		if len(names) == 0 {
			return
		}
		n := names[m.r.IntN(len(names))]
		c := d.n.names[n]
		if c.dir() {
			err := t.Rmdir(ctx, d.ino, n)
			if len(c.names) > 0 {
				m.wantErr(err, fs.ErrNotEmpty, "rmdir")
				return
			}
			must(err, "rmdir")
		} else {
			must(t.Unlink(ctx, d.ino, n), "unlink")
			c.nlink--
		}
		delete(d.n.names, n)
	case 8, 9: // rename
		m.rename(d, all)
	case 10: // truncate
		f, ok := pick(isFile)
		if !ok {
			return
		}
		size := uint64(m.r.IntN(3 << 20 >> m.r.IntN(20)))
		_, err := t.SetAttr(ctx, f.ino, fs.SetAttr{Size: &size})
		must(err, "truncate")
		f.n.data = resize(f.n.data, int(size))
	case 11: // chmod and times
		mode, when := uint32(m.r.IntN(0o7777))&^0o2000, m.r.Int64()
		p, _ := pick(func(p pair) bool { return p.at != "" })
		if p.n == nil {
			return
		}
		_, err := t.SetAttr(ctx, p.ino, fs.SetAttr{Mode: &mode, Mtime: &when})
		must(err, "chmod")
		p.n.mode = p.n.mode&fs.ModeType | mode
	case 12: // xattr
		p := all[m.r.IntN(len(all))]
		k, val := "user."+name(), fmt.Sprint(m.r.IntN(1000))
		if p.n.xattrs == nil {
			p.n.xattrs = map[string]string{}
		}
		if _, ok := p.n.xattrs[k]; ok {
			must(t.RemoveXattr(ctx, p.ino, k), "removexattr")
			delete(p.n.xattrs, k)
		} else {
			must(t.SetXattr(ctx, p.ino, k, []byte(val), 0), "setxattr")
			p.n.xattrs[k] = val
		}
	case 13: // punch or zero
		f, ok := pick(isFile)
		if !ok || len(f.n.data) == 0 {
			return
		}
		off := m.r.IntN(len(f.n.data))
		n := 1 + m.r.IntN(200000)
		mode := uint32(fs.FallocPunchHole | fs.FallocKeepSize)
		if m.r.IntN(2) == 0 {
			mode = fs.FallocZeroRange
			f.n.data = resize(f.n.data, max(len(f.n.data), off+n))
		}
		must(t.Fallocate(ctx, f.ino, uint64(off), uint64(n), mode), "fallocate")
		clear(f.n.data[off:min(len(f.n.data), off+n)])
	case 14: // copy
		a, ok := pick(isFile)
		b, ok2 := pick(isFile)
		if !ok || !ok2 || a.n == b.n || len(a.n.data) == 0 {
			return
		}
		from, to := m.r.IntN(len(a.n.data)), m.r.IntN(len(b.n.data)+1)
		n := 1 + m.r.IntN(1<<20)
		got, err := t.CopyRange(ctx, a.ino, uint64(from), b.ino, uint64(to), uint64(n))
		must(err, "copy")
		n = min(n, len(a.n.data)-from)
		if got != uint64(n) {
			m.t.Fatalf("copied %d, want %d", got, n)
		}
		b.n.data = resize(b.n.data, max(len(b.n.data), to+n))
		copy(b.n.data[to:], a.n.data[from:from+n])
	default: // write
		f, ok := pick(isFile)
		if !ok {
			return
		}
		if m.r.IntN(6) == 0 && len(f.n.data) < 4<<20 { // from front to back, in large pieces
			const piece = 64 << 10
			off := (len(f.n.data) + piece - 1) / piece * piece
			if m.r.IntN(4) == 0 {
				off = 0
			}
			f.n.data = resize(f.n.data, max(off, len(f.n.data)))
			size := uint64(len(f.n.data))
			_, err := t.SetAttr(ctx, f.ino, fs.SetAttr{Size: &size})
			must(err, "truncate")
			for range 1 + m.r.IntN(12) {
				p := make([]byte, piece*(1+m.r.IntN(4)))
				for i := 0; i < len(p); i += 1 + m.r.IntN(9) {
					p[i] = byte(m.r.Uint32())
				}
				n, err := t.Write(ctx, f.ino, uint64(off), p)
				must(err, "write")
				if n != len(p) {
					m.t.Fatalf("wrote %d of %d", n, len(p))
				}
				f.n.data = resize(f.n.data, max(len(f.n.data), off+len(p)))
				copy(f.n.data[off:], p)
				off += len(p)
			}
			return
		}
		off := m.r.IntN(len(f.n.data) + 1)
		if m.r.IntN(4) == 0 {
			off += m.r.IntN(100000)
		}
		if m.r.IntN(2) == 0 {
			off = len(f.n.data)
		}
		p := make([]byte, 1+m.r.IntN(1<<m.r.IntN(20)))
		for i := range p {
			p[i] = byte(m.r.Uint32())
		}
		n, err := t.Write(ctx, f.ino, uint64(off), p)
		must(err, "write")
		if n != len(p) {
			m.t.Fatalf("wrote %d of %d", n, len(p))
		}
		f.n.data = resize(f.n.data, max(len(f.n.data), off+len(p)))
		copy(f.n.data[off:], p)
	}
}

func resize(b []byte, n int) []byte {
	if n <= len(b) {
		return b[:n:n]
	}
	return append(b, make([]byte, n-len(b))...)
}

func (m *model) wantErr(err, want error, what string) {
	if !errors.Is(err, want) {
		m.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (m *model) rename(from pair, all []pair) {
	to := all[m.r.IntN(len(all))]
	names := sortedNames(from.n.names)
	if !to.n.dir() || len(names) == 0 {
		return
	}
	n, n2 := names[m.r.IntN(len(names))], fmt.Sprintf("n%02d", m.r.IntN(30))
	flags := uint32(m.r.IntN(3))
	a, b := from.n.names[n], to.n.names[n2]
	err := m.v.tree.Rename(ctx, from.ino, n, to.ino, n2, flags)
	var contains func(d, x *node) bool
	contains = func(d, x *node) bool {
		if d == x {
			return true
		}
		for _, c := range d.names {
			if c.dir() && contains(c, x) {
				return true
			}
		}
		return false
	}
	switch {
	case a.dir() && contains(a, to.n):
		m.wantErr(err, fs.ErrInvalid, "rename into itself")
	case flags == fs.RenameExchange && b == nil:
		m.wantErr(err, fs.ErrNotFound, "exchange with nothing")
	case flags == fs.RenameExchange && b.dir() && contains(b, from.n):
		m.wantErr(err, fs.ErrInvalid, "exchange into itself")
	case flags == fs.RenameNoReplace && b != nil:
		m.wantErr(err, fs.ErrExist, "rename, no replace")
	case flags != fs.RenameExchange && b != nil && a != b && a.dir() && !b.dir():
		m.wantErr(err, fs.ErrNotDir, "directory over file")
	case flags != fs.RenameExchange && b != nil && a != b && !a.dir() && b.dir():
		m.wantErr(err, fs.ErrIsDir, "file over directory")
	case flags != fs.RenameExchange && b != nil && a != b && len(b.names) > 0:
		m.wantErr(err, fs.ErrNotEmpty, "rename over a full directory")
	case err != nil:
		m.t.Fatalf("rename %s/%s to %s/%s: %v", from.at, n, to.at, n2, err)
	case flags == fs.RenameExchange:
		from.n.names[n], to.n.names[n2] = b, a
	case a == b:
	default:
		if b != nil {
			b.nlink--
		}
		delete(from.n.names, n)
		to.n.names[n2] = a
	}
}

// check compares everything.
func (m *model) check() {
	m.t.Helper()
	t, all := m.v.tree, m.all()
	defer m.release(all)
	for _, p := range all {
		a, err := t.GetAttr(ctx, p.ino)
		if err != nil {
			m.t.Fatal(err)
		}
		if p.at != "" && a.Mode != p.n.mode {
			m.t.Fatalf("%s has mode %o, want %o", p.at, a.Mode, p.n.mode)
		}
		names, err := t.ListXattr(ctx, p.ino)
		if err != nil || len(names) != len(p.n.xattrs) {
			m.t.Fatalf("%s has attributes %v, want %v: %v", p.at, names, p.n.xattrs, err)
		}
		for _, k := range names {
			if b, err := t.GetXattr(ctx, p.ino, k); err != nil || string(b) != p.n.xattrs[k] {
				m.t.Fatalf("%s: attribute %s is %q, %v", p.at, k, b, err)
			}
		}
		switch {
		case p.n.dir():
			m.checkDir(p, a)
		case p.n.mode&fs.ModeType == fs.ModeSymlink:
			if s, err := t.Readlink(ctx, p.ino); err != nil || s != p.n.target {
				m.t.Fatalf("%s leads to %q, %v", p.at, s, err)
			}
		default:
			if int(a.Nlink) != p.n.nlink {
				m.t.Fatalf("%s has %d links, want %d", p.at, a.Nlink, p.n.nlink)
			}
			m.checkFile(p, a)
		}
	}
	if s, err := t.StatFS(ctx); err != nil || int(s.Files) != m.inodes() {
		m.t.Fatalf("%d inodes, want %d, %v", s.Files, m.inodes(), err)
	}
}

func (m *model) inodes() int {
	seen := map[*node]bool{}
	var walk func(*node)
	walk = func(n *node) {
		seen[n] = true
		for _, c := range n.names {
			walk(c)
		}
	}
	walk(m.root)
	return len(seen)
}

func (m *model) checkDir(p pair, a fs.Attr) {
	d, err := m.v.tree.OpenDir(ctx, p.ino)
	if err != nil {
		m.t.Fatal(err)
	}
	defer d.Close()
	var got []string
	for cookie, more := uint64(0), true; more; { // in small steps, as the kernel asks
		more = false
		err := d.Read(ctx, cookie, func(e fs.DirEntry, next uint64) bool {
			got = append(got, e.Name)
			cookie, more = next, true
			return len(got)%7 != 0
		})
		if err != nil {
			m.t.Fatal(err)
		}
		if more && len(got)%7 == 0 { // the last one did not fit: it comes again
			got = got[:len(got)-1]
			cookie--
			if m.r.IntN(3) > 0 {
				got = append(got, "")
				got = got[:len(got)-1]
			}
			// take it now
			err := d.Read(ctx, cookie, func(e fs.DirEntry, next uint64) bool {
				got = append(got, e.Name)
				cookie = next
				return false
			})
			if err != nil {
				m.t.Fatal(err)
			}
		}
	}
	want := append([]string{".", ".."}, sortedNames(p.n.names)...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.t.Fatalf("%s lists %v, want %v", p.at, got, want)
	}
	subdirs := 0
	for _, c := range p.n.names {
		if c.dir() {
			subdirs++
		}
	}
	if int(a.Nlink) != 2+subdirs {
		m.t.Fatalf("directory %s has %d links, want %d", p.at, a.Nlink, 2+subdirs)
	}
}

func (m *model) checkFile(p pair, a fs.Attr) {
	t := m.v.tree
	if a.Size != uint64(len(p.n.data)) {
		m.t.Fatalf("%s has %d bytes, want %d", p.at, a.Size, len(p.n.data))
	}
	b := make([]byte, len(p.n.data)+10)
	n, err := t.Read(ctx, p.ino, 0, b)
	if err != nil || n != len(p.n.data) || !bytes.Equal(b[:n], p.n.data) {
		for i := range p.n.data {
			if i >= n || b[i] != p.n.data[i] {
				m.t.Fatalf("%s differs at %d of %d: %v", p.at, i, len(p.n.data), err)
			}
		}
		m.t.Fatalf("%s: %d bytes, %v", p.at, n, err)
	}
	// What SEEK_DATA and SEEK_HOLE call a hole must read as zeros.
	for at := uint64(0); at < a.Size; {
		data, err := t.Seek(ctx, p.ino, at, fs.SeekData)
		if errors.Is(err, fs.ErrNoSeek) {
			data = a.Size
		} else if err != nil {
			m.t.Fatal(err)
		}
		if len(bytes.Trim(p.n.data[at:data], "\x00")) > 0 {
			m.t.Fatalf("%s: a hole at %d holds data", p.at, at)
		}
		if data == a.Size {
			break
		}
		if at, err = t.Seek(ctx, p.ino, data, fs.SeekHole); err != nil {
			m.t.Fatal(err)
		}
	}
}

func TestTreeAgainstModel(t *testing.T) {
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	seeds := uint64(6)
	if os.Getenv("IPFSCLOUD_SOAK") != "" {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := &model{t: t, v: newVault(t, nil), r: rand.New(rand.NewPCG(seed, 7)),
				root: &node{mode: fs.ModeDir, names: map[string]*node{}}}
			for i := range steps {
				m.step()
				switch m.r.IntN(60) {
				case 0:
					m.v.commit()
				case 1:
					m.v.kill()
					m.check()
				case 2:
					m.v.wipe()
					m.check()
				case 3:
					m.check()
				}
				if t.Failed() {
					t.Fatalf("at step %d", i)
				}
			}
			m.v.commit()
			m.check()
			if s := m.v.tree.Status(); len(s.Alerts) > 0 || s.LastError != "" {
				t.Fatalf("alerts %s, error %s", strings.Join(s.Alerts, "; "), s.LastError)
			}
		})
	}
}
