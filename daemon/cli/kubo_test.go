package cli

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet/fleettest"
)

// kubo is a node of the user's own: the real ipfs program in a process of its own.
type kubo struct {
	t       *testing.T
	program string
	repo    string
	port    int
	online  bool
	cmd     *exec.Cmd
}

func newKubo(t *testing.T) *kubo {
	t.Helper()
	k := &kubo{t: t, program: fleettest.Binaries(t).IPFS, repo: filepath.Join(t.TempDir(), "repo"), port: freePort(t)}
	k.output(k.program, "init", "--empty-repo", "--profile", "test")
	k.output(k.program, "config", "Addresses.API", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", k.port))
	k.output(k.program, "config", "Addresses.Gateway", "/ip4/127.0.0.1/tcp/0")
	k.output(k.program, "config", "--json", "Addresses.Swarm", "[]")
	t.Cleanup(k.kill)
	return k
}

// freePort is one on which nobody listens, now and for a while: the kernel gives it to
// nobody who asks for any, for it lies below the range that those are taken from.
func freePort(t *testing.T) int {
	t.Helper()
	const first, last = 10000, 20000
	for range 200 {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no port of loopback is free")
	return 0
}

func (k *kubo) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+k.repo, "IPFS_TELEMETRY=off")
	return cmd
}

func (k *kubo) output(name string, args ...string) []byte {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := k.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("%s %v: %v: %s", filepath.Base(name), args, err, out)
	}
	return out
}

// start runs the node until kill, and waits until it says that it is ready.
func (k *kubo) start() {
	k.t.Helper()
	args := []string{"daemon"}
	if !k.online {
		args = append(args, "--offline")
	}
	k.cmd = k.command(context.Background(), k.program, args...)
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	var said []byte
	b := make([]byte, 4096)
	for !bytes.Contains(said, []byte("Daemon is ready")) {
		n, err := out.Read(b)
		said = append(said, b[:n]...)
		if err != nil {
			k.t.Fatalf("the node ended: %v: %s", err, said)
		}
	}
}

func (k *kubo) kill() {
	if k.cmd != nil && k.cmd.ProcessState == nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
	}
}

func (k *kubo) url() string { return fmt.Sprintf("http://127.0.0.1:%d", k.port) }

// The user's own node is killed again and again while files are written: writing goes on,
// status tells what waits and why, and when the node is back everything gets there.
func TestExternalKuboKilled(t *testing.T) {
	t.Parallel()
	k := newKubo(t)
	k.start()
	d := newDrive(t, "--ipfs", k.url())
	if s := d.status(); s.Store.Kind != "rpc" {
		t.Fatalf("%+v", s.Store)
	}
	ms := newManifests(t, d)
	want := map[string][]byte{}
	for loop := range 3 {
		write := func(when string) {
			for i := range 30 {
				name := fmt.Sprintf("loop%d-%s-%d", loop, when, i)
				b := bytes.Repeat([]byte(name), 1+i*1000)
				if err := os.WriteFile(d.on(name), b, 0o600); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				want[name] = b
			}
		}
		write("before")
		d.ok("sync")
		write("queued")
		k.kill()
		write("after")
		d.fails(ExitUnavailable, "sync")
		s := d.status()
		if s.Pending.Ops == 0 || s.LastError == "" {
			t.Fatalf("the node is gone, and status says %+v", s)
		}
		k.start()
		d.ok("sync")
		if s := d.status(); s.Pending.Ops != 0 || s.LastError != "" {
			t.Fatalf("the node is back, and status says %+v", s)
		}
	}
	for _, m := range ms {
		m.check(t)
	}
	d.umount()
	for _, dir := range []string{d.home.Journal, d.home.State, d.home.Staging, d.home.Cache, d.keptState()} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	d.mount("--ipfs", k.url())
	for name, b := range want {
		if got, err := os.ReadFile(d.on(name)); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	// A node that collects garbage takes nothing that the drive needs.
	d.umount()
	k.output(k.program, "repo", "gc", "-q")
	if err := os.RemoveAll(d.home.Cache); err != nil {
		t.Fatal(err)
	}
	d.mount("--ipfs", k.url())
	for name, b := range want {
		if got, err := os.ReadFile(d.on(name)); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("after repo gc, %s: %d bytes, %v", name, len(got), err)
		}
	}
}
