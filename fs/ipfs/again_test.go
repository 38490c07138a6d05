package ipfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// A block that is put again keeps its file, which may be on the disk long since, unless the
// file is damaged.
func TestPutAgain(t *testing.T) {
	dir := shortDir(t)
	e := openTest(t, dir)
	var blocks []fs.Block
	for _, text := range []string{"a block", "another one", "a third"} {
		b := []byte(text)
		blocks = append(blocks, fs.Block{CID: crypt.Sum(crypt.Raw, b), Data: b})
	}
	for _, put := range [][]fs.Block{blocks[:1], blocks[1:]} { // alone, and in a batch
		must(t, e.Put(testContext(t), put))
		path := blockFile(t, filepath.Join(dir, "repo"), put[0].CID)
		before, err := os.Stat(path)
		must(t, err)
		must(t, e.Put(testContext(t), put))
		after, err := os.Stat(path)
		must(t, err)
		if !os.SameFile(before, after) {
			t.Errorf("%s was written again", put[0].CID)
		}
		flip(t, path)
		if _, err := e.Get(testContext(t), put[0].CID); err == nil {
			t.Fatal("a damaged block is served")
		}
		must(t, e.Put(testContext(t), put))
		if _, err := e.Get(testContext(t), put[0].CID); err != nil {
			t.Errorf("a damaged block is not mended: %v", err)
		}
	}
}
