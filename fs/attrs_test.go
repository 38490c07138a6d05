package fs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A write by an ordinary user takes setuid and setgid away, and costs a change only then.
func TestKillPriv(t *testing.T) {
	v := newVault(t, fstest.NewMemory())
	for _, x := range []struct{ before, after uint32 }{
		{0o644, 0o644}, {0o4755, 0o755}, {0o2755, 0o755}, {0o6711, 0o711},
		{0o2644, 0o2644}, // not executable by the group: a mark of mandatory locks
	} {
		a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|x.before, 0, fs.Owner{})
		if err != nil {
			t.Fatal(err)
		}
		changes := v.tree.Status().PendingOps
		a, err = v.tree.SetAttr(ctx, a.Ino, fs.SetAttr{KillPriv: true})
		if err != nil || a.Mode != fs.ModeRegular|x.after {
			t.Errorf("%o becomes %o, %v; want %o", x.before, a.Mode, err, x.after)
		}
		if n := v.tree.Status().PendingOps - changes; x.before == x.after && n > 0 {
			t.Errorf("%o: %d changes are logged", x.before, n)
		}
		// One who is not of the group takes setgid away in any case.
		if a, err = v.tree.SetAttr(ctx, a.Ino, fs.SetAttr{KillPriv: true, KillSetgid: true}); err != nil || a.Mode&0o6000 != 0 {
			t.Errorf("%o becomes %o, %v", x.before, a.Mode, err)
		}
		if err := v.tree.Unlink(ctx, fs.RootIno, "f"); err != nil {
			t.Fatal(err)
		}
	}
}

// An inode has as many names as there may be, and then no more.
func TestTooManyLinks(t *testing.T) {
	v := newVault(t, nil)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "file", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < fs.LinkMax; i++ {
		if _, err := v.tree.Link(ctx, a.Ino, fs.RootIno, fmt.Sprint("name", i)); err != nil {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if _, err := v.tree.Link(ctx, a.Ino, fs.RootIno, "more"); !errors.Is(err, fs.ErrTooManyLinks) {
		t.Errorf("one name more: %v", err)
	}
	if err := v.tree.Unlink(ctx, fs.RootIno, "file"); err != nil {
		t.Fatal(err)
	}
	if a, err = v.tree.Link(ctx, a.Ino, fs.RootIno, "more"); err != nil || a.Nlink != fs.LinkMax {
		t.Errorf("after one is gone: %d names, %v", a.Nlink, err)
	}
}

// df counts what the files of the drive take, not how large they say they are.
func TestUsageOfSparseFiles(t *testing.T) {
	v := newVault(t, fstest.NewMemory())
	a, err := v.tree.Mknod(ctx, fs.RootIno, "sparse", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		t.Fatal(err)
	}
	size, data := uint64(100<<40), make([]byte, 3<<20)
	if _, err := v.tree.SetAttr(ctx, a.Ino, fs.SetAttr{Size: &size}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.tree.Write(ctx, a.Ino, 50<<40, data); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before a commit", "after it"} {
		s, err := v.tree.StatFS(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if used := s.Total - s.Free; used < 3<<20 || used > 8<<20 {
			t.Errorf("%s 3 MiB in a file of 100 TiB take %d bytes", when, used)
		}
		v.commit()
	}
}
