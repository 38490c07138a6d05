package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// disk is an ext4 file system in a file, from which the power can be taken.
type disk struct {
	t          *testing.T
	image, dir string
}

func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	needRoot(t)
	need(t, "mkfs.ext4", "mount", "xfs_io")
	top, err := os.MkdirTemp("", "ic-")
	if err != nil {
		t.Fatal(err)
	}
	k := &disk{t: t, image: filepath.Join(top, "image"), dir: filepath.Join(top, "disk")}
	t.Cleanup(func() {
		_ = exec.Command("umount", k.dir).Run()
		if err := os.RemoveAll(top); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	if err := errors.Join(os.Mkdir(k.dir, 0o755), os.WriteFile(k.image, nil, 0o600), os.Truncate(k.image, size)); err != nil {
		t.Fatal(err)
	}
	k.command("mkfs.ext4", "-q", "-m", "0", k.image)
	if out, err := exec.Command("mount", "-o", "loop", k.image, k.dir).CombinedOutput(); err != nil {
		t.Skipf("this system mounts no loop devices: %v: %s", err, out)
	}
	return k
}

func (k *disk) command(name string, args ...string) {
	k.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// cut takes the power: what the disk was not told to keep is lost, the journal of ext4
// included. restore brings it back.
func (k *disk) cut() { k.command("xfs_io", "-x", "-c", "shutdown", k.dir) }

func (k *disk) restore() {
	k.t.Helper()
	k.command("umount", k.dir)
	k.command("mount", "-o", "loop", k.image, k.dir)
}

// agentPID is the process that holds the session.
func (d *drive) agentPID() int {
	d.t.Helper()
	var w auth.WhoAmI
	if err := json.Unmarshal([]byte(d.ok("whoami", "--json")), &w); err != nil {
		d.t.Fatal(err)
	}
	return w.PID
}

// The power is cut under a working drive, also while a commit runs. What fsync returned
// for is there, and the node starts.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	cuts, size := 5, int64(512<<20)
	if soak() {
		cuts, size = 50, 4<<30 // each leaves some 12 MiB
	}
	k := newDisk(t, size)
	d := driveOn(t, k)
	r := rand.New(rand.NewPCG(3, 4))
	synced := map[string][]byte{}
	for cut := range cuts {
		d.login()
		d.mount()
		for name, want := range synced {
			if got, err := os.ReadFile(d.on(name)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("cut %d: %s was synced and has %d bytes, want %d: %v%s", cut, name, len(got), len(want), err, d.log())
			}
		}
		if s := d.status(); len(s.Alerts) > 0 {
			t.Fatalf("cut %d: %v", cut, s.Alerts)
		}
		daemonPID, agentPID := d.status().PID, d.agentPID()
		var commits sync.WaitGroup
		if cut%2 == 1 { // a commit runs into the cut
			commits.Go(func() {
				c, err := daemon.Connect(t.Context(), d.home)
				for err == nil {
					err = c.Sync(t.Context(), "ipfs")
				}
			})
		}
		for i := range 60 + r.IntN(60) {
			name, b := fmt.Sprintf("cut%d-%d", cut, i), make([]byte, 1+r.IntN(1<<r.IntN(19)))
			if i%5 == 0 { // whole packages of a blob, which do not pass through the journal
				b = make([]byte, (1+r.IntN(24))<<16)
			}
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			if err := writeSynced(d.on(name), b, i%3 != 0); err != nil {
				t.Fatal(err, d.log())
			}
			if i%3 != 0 {
				synced[name] = b
			}
			if i%10 == 9 { // a synced name goes, and its directory is synced
				victim := fmt.Sprintf("cut%d-%d", cut, i-2)
				if err := errors.Join(os.Remove(d.on(victim)), syncPath(d.mnt)); err != nil {
					t.Fatal(err)
				}
				delete(synced, victim)
			}
		}
		k.cut()
		killWait(t, daemonPID)
		killWait(t, agentPID)
		commits.Wait()
		if err := syscall.Unmount(d.mnt, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		k.restore()
	}
	d.login()
	d.mount()
	for name, want := range synced {
		if got, err := os.ReadFile(d.on(name)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	d.umount()
	d.ok("logout")
}

// driveOn makes a drive on a disk.
func driveOn(t *testing.T, k *disk) *drive {
	t.Helper()
	home := filepath.Join(k.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	d := homeAt(t, home)
	outside, err := os.MkdirTemp("", "ic-") // the mountpoint must not lie on the dying disk
	if err != nil {
		t.Fatal(err)
	}
	d.mnt = outside
	t.Cleanup(func() {
		_ = syscall.Unmount(outside, syscall.MNT_DETACH)
		_ = os.Remove(outside)
	})
	d.init()
	return d
}

// The daemon is killed, and what had been written is synced by the next one: a power cut then
// takes none of it.
func TestPowerCutAfterKillAndSync(t *testing.T) {
	t.Parallel()
	k := newDisk(t, 512<<20)
	d := driveOn(t, k)
	r := rand.New(rand.NewPCG(5, 6))
	want := map[string][]byte{}
	for round := range 3 {
		d.login()
		d.mount()
		for i, size := range []int{50, 5000, 1 << 20, 3<<20 + 77} {
			name, b := fmt.Sprintf("round%d-%d", round, i), make([]byte, size)
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			if err := writeSynced(d.on(name), b, false); err != nil {
				t.Fatal(err)
			}
			want[name] = b
		}
		killWait(t, d.status().PID)
		if err := syscall.Unmount(d.mnt, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		d.mount()
		pid, agent := d.status().PID, d.agentPID()
		for name := range want {
			if err := syncPath(d.on(name)); err != nil {
				t.Fatal(err)
			}
		}
		k.cut()
		killWait(t, pid)
		killWait(t, agent)
		if err := syscall.Unmount(d.mnt, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		k.restore()
	}
	d.login()
	d.mount()
	for name, b := range want {
		if got, err := os.ReadFile(d.on(name)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(b), err)
		}
	}
	d.umount()
	d.ok("logout")
}

func writeSynced(path string, b []byte, wait bool) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil || !wait {
		return err
	}
	return f.Sync()
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
