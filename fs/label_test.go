package fs_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// A file has a label from when a commit links something for it, however often it was read
// and written before: a stranger cannot tell such files by theirs.
func TestLabelsOfFilesThatGrow(t *testing.T) {
	store := fstest.NewMemory()
	v := newVault(t, store)
	const files = 20
	for i := range files {
		v.write(fmt.Sprint("f", i), "small")
	}
	v.commit()
	v.wipe() // their records have no labels
	for i := range files {
		v.write(fmt.Sprint("f", i), strings.Repeat("large", 20<<10))
	}
	v.commit()
	none := []byte(crypt.Label{}.String())
	blobs := 0
	for _, c := range store.CIDs() {
		b, err := store.Get(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		links, err := fstest.Links(c, b)
		if err != nil {
			t.Fatal(err)
		}
		blobs = max(blobs, len(links)-1) // of the page that has them all
		if len(links) > 0 && bytes.Contains(b, none) {
			t.Errorf("the node %s links something by a label of zeros", c)
		}
	}
	if blobs != files {
		t.Errorf("a page links %d files", blobs)
	}
}
