package cli

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// A device that only reads gets the addresses of the Egress's nodes and no password: it
// reads the drive, follows it by newer answers, and has nothing to drop a copy with.
func TestReaderHasNoEgressPassword(t *testing.T) {
	t.Parallel()
	f := fleettest.Up(t, fleet.Config{Peers: 1, TLS: true})
	a, b := newHome(t), newHome(t)
	a.use(f)
	a.init()
	a.login()
	a.mount()
	a.sh("echo first > file; head -c 300000 /dev/urandom > blob; sync -f file")
	a.ok("sync", "--durability", "egress:1")
	request := b.asksToJoin()
	b.joins(a.approve(request, "--read-only"))
	b.login()
	b.mount()
	if got, want := sums(t, b.mnt), sums(t, a.mnt); got != want {
		t.Errorf("the reader has\n%s\nthe owner\n%s", got, want)
	}
	b.umount()
	// The same request, answered again.
	a.sh("echo second > file; sync -f file")
	a.ok("sync", "--durability", "egress:1")
	b.joins(a.approve(request, "--read-only"))
	b.mount()
	if got := b.sh("cat file"); got != "second\n" {
		t.Errorf("with a newer answer the reader has %q", got)
	}
	b.umount()
	for what, secret := range map[string]string{"password": f.Info().Password, "address of the API": f.Endpoints()[0]} {
		if where := holding(t, b.home.State, secret); where != "" {
			t.Errorf("the %s is in the reader's %s", what, where)
		}
	}
	b.says(ExitNotFound, "egress use", "egress", "peers")
	a.umount()
}

// holding is a file below a directory that has a text, or "".
func holding(t *testing.T, dir, text string) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			where = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
