package fs_test

import (
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs"
)

// A head that came from another device says that it contains more of this device's journal
// than this device has committed. What was acknowledged here and is in no commit is set
// aside then, and not taken for committed.
func TestForeignHeadDoesNotSwallowTheJournal(t *testing.T) {
	for name, all := range map[string]bool{"all that there is": true, "the last of all numbers": false} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			mkdir := func(name string) {
				t.Helper()
				if _, err := v.tree.Mkdir(ctx, fs.RootIno, name, 0o700, fs.Owner{}); err != nil {
					t.Fatal(err)
				}
			}
			mkdir("committed")
			v.commit()
			mkdir("acknowledged")
			id, position := fs.JournalOf(v.tree)
			v.tree.Abort()
			if !all {
				position = 0
			}
			if err := fs.ForgePosition(ctx, v.cfg, id, position); err != nil {
				t.Fatal(err)
			}
			v.open()
			if aside, err := filepath.Glob(v.cfg.JournalDir + ".aside-*"); err != nil || len(aside) != 1 {
				t.Errorf("set aside: %v, %v", aside, err)
			}
		})
	}
}
