package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// Every command of the tutorial is run, in order, as it stands.
func TestTutorial(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here: ", err)
	}
	need(t, "getfattr")
	text, err := os.ReadFile("../../contrib/tutorial/TUTORIAL.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		script.WriteString(block[1])
	}
	if n := strings.Count(script.String(), "ipfscloud "); n < 20 {
		t.Fatalf("the tutorial has %d commands", n)
	}
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "ipfscloud")); err != nil {
		t.Fatal(err)
	}
	nodes := filepath.Dir(fleettest.Binaries(t).IPFS)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	trace := "trap 'code=$?; if [ $code != 0 ]; then cd /; for h in \"$IPFSCLOUD_HOME\" \"${IPFSCLOUD_HOME%/second}\"; do export IPFSCLOUD_HOME=$h; " +
		"tail -20 $h/state/daemon.log; ipfscloud umount; ipfscloud logout; ipfscloud egress down; done; umount -l ${IPFSCLOUD_HOME%/second}/drive; rm -rf \"${IPFSCLOUD_HOME%/second}\"; fi >&2' EXIT\n"
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", trace+script.String())
	cmd.Env = append(os.Environ(), mainEnv+"=1", "HOME="+t.TempDir(), "PATH="+bin+":"+nodes+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Dear Ada,", "written just before", "numbers: OK", "held:", "http://h"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tutorial does not show %q:\n%s", want, out)
		}
	}
}
