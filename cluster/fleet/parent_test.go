package fleet_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// parentEnv makes the test program a supervisor, of the fleet in the directory it names.
const parentEnv = "FLEET_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		os.Exit(supervise(dir))
	}
	os.Exit(m.Run())
}

func supervise(dir string) int {
	b, err := fleet.FindBinaries(os.Getenv("FLEET_TEST_BIN"))
	if err == nil {
		var f *fleet.Fleet
		if f, err = fleet.Up(context.Background(), fleet.Config{Dir: dir, Peers: 1, Binaries: b}); err == nil {
			ipfs, peer := f.Nodes()[0].PIDs()
			fmt.Println("up", ipfs, peer)
			err = f.Run(context.Background())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestParentDies kills a supervisor: its children die with it, and the next one finds all
// in order. The directory's name is longer than a socket's path may be.
func TestParentDies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	t.Setenv("TMPDIR", t.TempDir())
	b := fleettest.Binaries(t)
	self, err := os.Executable()
	must(t, err)
	start := func() (*exec.Cmd, []int) {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), parentEnv+"="+dir, "FLEET_TEST_BIN="+filepath.Dir(b.IPFS))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended long ago
		pids := make([]int, 2)
		line, err := bufio.NewReader(out).ReadString('\n')
		must(t, err)
		if _, err := fmt.Sscanf(line, "up %d %d", &pids[0], &pids[1]); err != nil {
			t.Fatalf("it says %q: %v", line, err)
		}
		return cmd, pids
	}
	cmd, pids := start()
	i, err := fleet.Load(dir)
	if err != nil || !i.Running || i.PID != cmd.Process.Pid {
		t.Errorf("seen from another process: %+v, %v", i, err)
	}
	// What is acknowledged at this moment is there after it.
	const cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
	var p pin
	must(t, newAPI(t, i).call(http.MethodPost, i.Endpoints[0].URL+"/pins/"+cid, &p))
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	within(t, 10*time.Second, "the children are gone", func() error {
		for _, pid := range pids {
			if alive(pid) {
				return errNotYet
			}
		}
		return nil
	})
	if i, err := fleet.Load(dir); err != nil || i.Running || i.PID != 0 {
		t.Errorf("after its end: %+v, %v", i, err)
	}

	cmd, _ = start()
	i, err = fleet.Load(dir)
	must(t, err)
	if err := newAPI(t, i).call(http.MethodGet, i.Endpoints[0].URL+"/allocations/"+cid, &p); err != nil {
		t.Errorf("a pin that was acknowledged before the kill: %v", err)
	}
	must(t, fleet.Shutdown(t.Context(), dir))
	if err := cmd.Wait(); err != nil {
		t.Errorf("a supervisor that was asked to stop: %v", err)
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind among temporary files: %v, %v", left, err)
	}
}
