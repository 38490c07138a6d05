package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The embedded node's repo of an older program is brought up to date by a mount. That of a
// newer one is left alone, and said to be so: to try again does not help.
func TestRepoOfAnotherVersion(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	d.write(d.on("file"), "text")
	d.umount()
	path := filepath.Join(d.home.IPFS, "version")
	current := string(mustRead(t, path))
	d.write(path, "16\n")
	d.mount()
	if b, err := os.ReadFile(d.on("file")); err != nil || string(b) != "text" {
		t.Errorf("after the upgrade: %q, %v", b, err)
	}
	if got := string(mustRead(t, path)); strings.TrimSpace(got) != strings.TrimSpace(current) {
		t.Errorf("after the upgrade the repo has version %s, before it had %s", got, current)
	}
	d.write(d.on("more"), "more")
	d.umount()
	d.write(path, "1000\n")
	d.says(ExitFailure, "made by a newer program", "mount", "-d", d.mnt)
	d.says(ExitFailure, "made by a newer program", "mount", d.mnt)
	d.write(path, current)
	d.mount()
	if b, err := os.ReadFile(d.on("more")); err != nil || string(b) != "more" {
		t.Errorf("%q, %v", b, err)
	}
	d.umount()
}
