package fs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

// The kernel caches listings: it may ask a directory that was just opened for what comes
// after a cookie of another one. Names committed, frozen and new, in every mixture.
func TestCookiesHoldForOtherReaders(t *testing.T) {
	v := newVault(t, nil)
	const n = 1500
	for i := range n {
		if _, err := v.tree.Mknod(ctx, fs.RootIno, fmt.Sprintf("name%04d", i*7919%n), fs.ModeRegular|0o600, 0, fs.Owner{}); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			v.commit()
		}
	}
	list := func(d *fs.Dir, from uint64, most int) (names []string, next uint64) {
		next = from
		err := d.Read(ctx, from, func(e fs.DirEntry, after uint64) bool {
			if len(names) == most {
				return false
			}
			names, next = append(names, e.Name), after
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return names, next
	}
	open := func() *fs.Dir {
		d, err := v.tree.OpenDir(ctx, fs.RootIno)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	all, _ := list(open(), 0, n+10)
	if len(all) != n+2 {
		t.Fatalf("%d names", len(all))
	}
	for _, cut := range []int{1, 2, 3, 511, 512, 513, 1024, n, n + 1, n + 2} {
		first, cookie := list(open(), 0, cut)
		rest, _ := list(open(), cookie, n+10)
		if len(first) != cut || len(rest) != n+2-cut {
			t.Fatalf("%d and then %d names", len(first), len(rest))
		}
		for i, name := range append(first, rest...) {
			if name != all[i] {
				t.Fatalf("cut at %d: name %d is %s, not %s", cut, i, name, all[i])
			}
		}
	}
	if rest, _ := list(open(), 1<<40, 10); len(rest) != 0 {
		t.Fatalf("beyond the end: %v", rest)
	}
}

// A whiteout is there after the death of the process, and after a commit.
func TestWhiteoutSurvives(t *testing.T) {
	v := newVault(t, nil)
	if _, err := v.tree.Mkdir(ctx, fs.RootIno, "old", 0o700, fs.Owner{}); err != nil {
		t.Fatal(err)
	}
	if err := v.tree.Rename(ctx, fs.RootIno, "old", fs.RootIno, "new", fs.RenameExchange|fs.RenameWhiteout); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("an exchange with a whiteout: %v", err)
	}
	if err := v.tree.Rename(ctx, fs.RootIno, "old", fs.RootIno, "new", fs.RenameWhiteout); err != nil {
		t.Fatal(err)
	}
	for _, again := range []func() *fs.Tree{v.kill, v.wipe} {
		tree := again()
		a, err := tree.Lookup(ctx, fs.RootIno, "old")
		if err != nil || a.Mode != fs.ModeChar || a.Rdev != 0 {
			t.Errorf("the whiteout is %+v, %v", a, err)
		}
		if a, err := tree.Lookup(ctx, fs.RootIno, "new"); err != nil || a.Mode&fs.ModeType != fs.ModeDir {
			t.Errorf("the directory is %+v, %v", a, err)
		}
		if root, err := tree.GetAttr(ctx, fs.RootIno); err != nil || root.Nlink != 3 {
			t.Errorf("the root is %+v, %v", root, err)
		}
	}
}
