package ipfs

import (
	"bufio"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN; without a flush of the journal it is what a power
// cut is to the file system.
const (
	ext4Shutdown   = 0x8004587d
	withoutJournal = 2
)

func shutDown(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	flags := uint32(withoutJournal)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags)))
	if errno != 0 {
		t.Fatalf("shut down ext4: %v", errno)
	}
}

func command(t *testing.T, name string, args ...string) error {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Logf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return err
}

// TestEmbeddedPowerCut lets a node write to an ext4 of its own and takes that away in
// between. All commits that Link had acknowledged must be there whole, and the node must
// start without mending anything.
func TestEmbeddedPowerCut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed")
	}
	dir := shortDir(t)
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	must(t, os.Mkdir(disk, 0o700))
	f, err := os.Create(image)
	must(t, err)
	must(t, f.Truncate(256<<20))
	must(t, f.Close())
	must(t, command(t, "mkfs.ext4", "-q", image))
	mount := func() {
		t.Helper()
		must(t, command(t, "mount", "-o", "loop", image, disk))
	}
	if command(t, "mount", "-o", "loop", image, disk) != nil {
		t.Skip("this system mounts no loop devices")
	}
	mounted := true
	t.Cleanup(func() {
		if mounted {
			must(t, command(t, "umount", disk))
		}
	})

	// The first cut comes when the repo has just been made.
	linesBefore := []int{1, 40, 43, 46, 2}
	var acknowledged [][]string // the CIDs of a commit, its sequence first
	for cut, limit := range linesBefore {
		self, err := os.Executable()
		must(t, err)
		cmd := exec.CommandContext(testContext(t), self)
		cmd.Env = append(os.Environ(), runStore+"="+disk)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		var commit []string
		for seen := 0; seen < limit && lines.Scan(); seen++ {
			fields := strings.Fields(lines.Text())
			commit = append(commit, fields[len(fields)-1])
			if fields[0] == "link" {
				acknowledged = append(acknowledged, append([]string{fields[1]}, commit...))
				commit = nil
			}
		}
		shutDown(t, disk)
		_ = cmd.Process.Kill() // it may have ended with an error
		_ = cmd.Wait()
		must(t, command(t, "umount", disk))
		mounted = false
		mount()
		mounted = true

		e := openTest(t, disk)
		if e.Recovered() {
			t.Errorf("cut %d: the root of MFS was unreadable", cut)
		}
		for _, commit := range acknowledged {
			b, err := hex.DecodeString(commit[0])
			must(t, err)
			want, err := crypt.ParseCID(commit[len(commit)-1])
			must(t, err)
			got, err := e.Resolve(testContext(t), commitName(uint64(b[0])<<8|uint64(b[1])))
			if err != nil || got != want {
				t.Errorf("cut %d: commit %s is %s, %v", cut, commit[0], got, err)
			}
			for _, text := range commit[1:] {
				c, err := crypt.ParseCID(text)
				must(t, err)
				if _, err := e.Get(testContext(t), c); err != nil {
					t.Errorf("cut %d: commit %s: %v", cut, commit[0], err)
				}
			}
		}
		must(t, e.Close())
	}
	if len(acknowledged) < len(linesBefore) {
		t.Fatalf("only %d commits were at risk", len(acknowledged))
	}
}
