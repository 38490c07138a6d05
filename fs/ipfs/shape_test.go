package ipfs

import (
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

func TestSizes(t *testing.T) {
	ctx := testContext(t)
	e := openTest(t, shortDir(t))
	var blocks []fs.Block
	for range 300 {
		blocks = append(blocks, fstest.RawBlock(fstest.Random(3000)), fstest.RawBlock(fstest.Random(4096)),
			fstest.RawBlock(fstest.Random(4097)))
	}
	must(t, e.Put(ctx, blocks))
	got, err := e.Sizes(ctx)
	must(t, err)
	count := map[int64]int64{}
	for _, c := range got {
		count[c.Size] = c.Count
	}
	// An estimate: directories hold a block or two each.
	if n := count[4096]; n < 200 || n > 1200 {
		t.Errorf("600 blocks of up to 4 KiB are estimated as %d", n)
	}
	if n := count[8192]; n < 50 || n > 800 {
		t.Errorf("300 blocks of just over 4 KiB are estimated as %d", n)
	}
}
