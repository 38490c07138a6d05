package fs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

// BenchmarkRandomWrite overwrites 4 KiB here and there in a committed file of 128 MiB.
func BenchmarkRandomWrite(b *testing.B) {
	v := newVault(b, nil)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for i := range 128 {
		if _, err := v.tree.Write(ctx, a.Ino, uint64(i)<<20, block); err != nil {
			b.Fatal(err)
		}
	}
	v.commit()
	r := rand.New(rand.NewPCG(1, 2))
	b.SetBytes(4096)
	for b.Loop() {
		if _, err := v.tree.Write(ctx, a.Ino, uint64(r.IntN(128<<8))<<12, block[:4096]); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	v.commit()
}

// BenchmarkSequentialWrite appends 128 KiB at a time.
func BenchmarkSequentialWrite(b *testing.B) {
	v := newVault(b, nil)
	a, err := v.tree.Mknod(ctx, fs.RootIno, "f", fs.ModeRegular|0o600, 0, fs.Owner{})
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 128<<10)
	b.SetBytes(int64(len(block)))
	off := uint64(0)
	for b.Loop() {
		if _, err := v.tree.Write(ctx, a.Ino, off, block); err != nil {
			b.Fatal(err)
		}
		if off += uint64(len(block)); off == 1<<30 {
			off = 0
		}
	}
	b.StopTimer()
	v.commit()
}

// BenchmarkCreate makes small files in directories of a thousand.
func BenchmarkCreate(b *testing.B) {
	v := newVault(b, nil)
	dir, i := fs.Ino(0), 0
	for b.Loop() {
		if i%1000 == 0 {
			a, err := v.tree.Mkdir(ctx, fs.RootIno, fmt.Sprint("d", i), 0o700, fs.Owner{})
			if err != nil {
				b.Fatal(err)
			}
			dir = a.Ino
		}
		a, err := v.tree.Mknod(ctx, dir, fmt.Sprint("f", i), fs.ModeRegular|0o600, 0, fs.Owner{})
		if err == nil {
			_, err = v.tree.Write(ctx, a.Ino, 0, []byte("content of a small file"))
		}
		if err != nil {
			b.Fatal(err)
		}
		v.tree.Forget(a.Ino, 1)
		i++
	}
	b.StopTimer()
	v.commit()
}
