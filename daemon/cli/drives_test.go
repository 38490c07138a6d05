package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// Two drives of one user at the same time, from one configuration file, which the
// environment overrules, and a flag that.
func TestTwoDrives(t *testing.T) {
	t.Parallel()
	first := newHome(t)
	work := &drive{t: t, dir: first.dir, mnt: first.path("work"), home: daemon.HomeAt(first.path("drives/work"))}
	t.Cleanup(work.stopAll)
	first.env = []string{"IPFSCLOUD_DURABILITY=local"}
	work.env = append(first.env, daemon.DriveEnv+"=work")
	first.write(first.path("config.toml"), "durability = \"egress:1\"\nmountpoint = \""+first.mnt+"\"\n[drive.work]\nmountpoint = \""+work.mnt+"\"\n")
	if err := os.Mkdir(work.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	first.init()
	first.ok("--drive", "work", "init", "--passfile", first.path("pass"), "--phrase-out", first.path("work-phrase"))
	first.ok("mount", "-d", "--passfile", first.path("pass"))
	first.ok("--drive=work", "mount", "-d", "--passfile", first.path("pass"), "--durability", "ipfs")
	for _, d := range []*drive{first, work} {
		if err := os.WriteFile(d.on("file"), []byte(d.mnt), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := first.status(), work.status()
	if a.DID == b.DID || a.PID == b.PID || a.Mountpoint != first.mnt || b.Mountpoint != work.mnt {
		t.Errorf("they are not two: %+v\n%+v", a, b)
	}
	if a.Durability != "local" || b.Durability != "ipfs" {
		t.Errorf("fsync waits for %s, where the environment says local, and for %s, where a flag says ipfs", a.Durability, b.Durability)
	}
	first.ok("umount", "--flush")
	if got, err := os.ReadFile(work.on("file")); err != nil || string(got) != work.mnt {
		t.Errorf("with the first unmounted, the other has %q, %v", got, err)
	}
	first.fails(ExitUsage, "--drive", "../up", "status")
	first.fails(ExitUsage, "--drive")
	first.fails(ExitNotFound, "--drive", "other", "status")
	first.fails(ExitUsage, "--drive", "other", "mount", "-d") // where?
	work.ok("umount", "--flush")
	first.ok("--drive", "work", "destroy", "--yes")
	if _, err := os.Stat(first.home.Keystore); err != nil {
		t.Error("one drive was destroyed, and another with it: ", err)
	}
	if left, err := filepath.Glob(first.path("drives/work/keystore")); err != nil || len(left) > 0 {
		t.Errorf("what was destroyed is there: %v, %v", left, err)
	}
}
