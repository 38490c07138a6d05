package fleet

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cluster peer on loopback is silent on the machine's other networks: it asks no router
// for a port (SSDP, NAT-PMP), and looks for nobody by mDNS. It runs in a network of its own,
// where every packet is seen.
func TestServiceIsSilent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network of one's own wants root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip program: ", err)
	}
	dir, service := t.TempDir(), filepath.Join("..", "..", "bin", "ipfs-cluster-service")
	service, err := filepath.Abs(service)
	must(t, err)
	if _, err := os.Stat(service); err != nil {
		t.Fatal("build it with `make egress`: ", err)
	}
	must(t, makePeer(t.Context(), service, dir))
	timing := Local()
	must(t, settlePeer(dir, &peerSettings{
		name: "quiet", cluster: "quiet", secret: strings.Repeat("ab", 32), listen: "/ip4/127.0.0.1/tcp/9096", announce: "/ip4/127.0.0.1/tcp/9096",
		api: "/ip4/127.0.0.1/tcp/9094", socket: filepath.Join(dir, "none.sock"), credentials: &credentials{Username: "a", Password: "b"},
		timing: &timing, trusted: []string{"*"},
	}))
	done := make(chan error, 1)
	var seen []string
	go func() {
		runtime.LockOSThread() // and never unlocked: the network goes with the thread
		var err error
		seen, err = watchAlone(dir, service)
		done <- err
	}()
	must(t, <-done)
	if len(seen) > 0 {
		t.Errorf("it sent: %s", strings.Join(seen, "; "))
	}
}

// watchAlone runs the service in a network of its own until its API listens and some seconds
// more, and tells the packets to others. The first try to reach a router comes at once.
func watchAlone(dir, service string) (seen []string, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("a network of its own: %w", err)
	}
	for _, args := range []string{"link set lo up", "link add wire0 type veth peer name wire1", "addr add 192.0.2.2/24 dev wire0",
		"link set wire0 up", "link set wire1 up", "route add default via 192.0.2.1 dev wire0"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return nil, fmt.Errorf("watching packets: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return nil, err
	}
	cmd := exec.Command(service, "--config", filepath.Join(dir, clusterDir), "daemon")
	cmd.Env = environment(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // started by this thread, and in its network
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer cmd.Wait()         //nolint:errcheck // it is killed
	defer cmd.Process.Kill() //nolint:errcheck // as above
	var until time.Time
	buf := make([]byte, 2048)
	for begun := time.Now(); until.IsZero() || time.Now().Before(until); {
		if until.IsZero() && listens(9094) {
			until = time.Now().Add(4 * time.Second)
		}
		if until.IsZero() && time.Since(begun) > time.Minute {
			return seen, fmt.Errorf("the service does not listen within a minute")
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // none in a tenth of a second
		}
		if what := stranger(buf[:n]); what != "" {
			seen = append(seen, what)
		}
	}
	return seen, nil
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// listens says whether somebody in this thread's network listens at a TCP port.
func listens(port int) bool {
	b, err := os.ReadFile("/proc/thread-self/net/tcp")
	return err == nil && strings.Contains(string(b), fmt.Sprintf(":%04X 00000000:0000 0A", port))
}

// stranger describes an IPv4 packet over UDP to somebody else than this machine.
func stranger(p []byte) string {
	if len(p) < 28 || p[0]>>4 != 4 || p[9] != unix.IPPROTO_UDP {
		return ""
	}
	to, header := net.IP(p[16:20]), int(p[0]&15)*4
	if to.IsLoopback() || len(p) < header+4 {
		return ""
	}
	return fmt.Sprintf("UDP to %s:%d", to, binary.BigEndian.Uint16(p[header+2:]))
}
