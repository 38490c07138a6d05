package ipfs

import (
	"context"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func benchmarkPut(b *testing.B, size, batch int) {
	e := openTest(b, shortDir(b))
	ctx := context.Background()
	b.SetBytes(int64(size * batch))
	for b.Loop() {
		b.StopTimer()
		blocks := make([]fs.Block, batch)
		for i := range blocks {
			blocks[i] = fs.Block{Data: fstest.Random(size)}
		}
		b.StartTimer()
		for i := range blocks {
			blocks[i] = fstest.RawBlock(blocks[i].Data) // hashed, as by the tree
		}
		must(b, e.Put(ctx, blocks))
		must(b, e.Sync(ctx))
	}
}

func BenchmarkEmbeddedPutSync1MiB(b *testing.B)     { benchmarkPut(b, 1<<20, 1) }
func BenchmarkEmbeddedPutSync16x1MiB(b *testing.B)  { benchmarkPut(b, 1<<20, 16) }
func BenchmarkEmbeddedPutSync256x4KiB(b *testing.B) { benchmarkPut(b, 4096, 256) }

func BenchmarkEmbeddedPut1MiB(b *testing.B) {
	e := openTest(b, shortDir(b))
	data := fstest.Random(1 << 20)
	b.SetBytes(1 << 20)
	for n := 0; b.Loop(); n++ {
		data[0], data[1], data[2] = byte(n), byte(n>>8), byte(n>>16)
		must(b, e.Put(context.Background(), []fs.Block{fstest.RawBlock(data)}))
	}
}

func BenchmarkEmbeddedGet1MiB(b *testing.B) {
	e := openTest(b, shortDir(b))
	block := fstest.RawBlock(fstest.Random(1 << 20))
	must(b, e.Put(context.Background(), []fs.Block{block}))
	b.SetBytes(1 << 20)
	for b.Loop() {
		_, err := e.Get(context.Background(), block.CID)
		must(b, err)
	}
}

func BenchmarkEmbeddedLink(b *testing.B) {
	e := openTest(b, shortDir(b))
	ctx := context.Background()
	for n := uint64(0); b.Loop(); n++ {
		b.StopTimer()
		blocks := fstest.Commit(8, 4096)
		must(b, e.Put(ctx, blocks))
		b.StartTimer()
		must(b, e.Link(ctx, commitName(n), last(blocks), cidsOf(blocks)))
		b.StopTimer()
		if n > 4 { // as the tree does, so that the directory stays small
			must(b, e.Unlink(ctx, commitName(n-4)))
		}
		b.StartTimer()
	}
}
