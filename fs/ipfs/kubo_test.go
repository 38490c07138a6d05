package ipfs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/config"
	serialize "github.com/ipfs/kubo/config/serialize"
)

// The test binary is also the real ipfs program, and a process that holds a store, when
// one of these is in its environment.
const (
	runKubo  = "IPFSCLOUD_TEST_KUBO"
	runStore = "IPFSCLOUD_TEST_STORE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(runKubo) != "":
		os.Exit(kubo.Start(kubo.BuildDefaultEnv))
	case os.Getenv(runStore) != "":
		os.Exit(storeProcess(os.Getenv(runStore)))
	}
	os.Exit(m.Run())
}

// daemon is a real Kubo in a process of its own.
type daemon struct {
	dir    string // holds repo and socket
	url    string
	socket string // "" when it listens on TCP
	online bool
	cmd    *exec.Cmd
}

func ipfs(t *testing.T, repo string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), runKubo+"=1", "IPFS_PATH="+repo)
	return cmd
}

// newDaemon makes a repo for Kubo and starts it, on a unix socket or, with a secret, on a
// port of loopback that asks for it.
func newDaemon(t *testing.T, secret string) *daemon {
	t.Helper()
	return newDaemonIn(t, secret, nil)
}

// newDaemonIn is newDaemon with a network.
func newDaemonIn(t *testing.T, secret string, network *Network) *daemon {
	t.Helper()
	d := &daemon{dir: shortDir(t), online: network != nil}
	d.url = "/unix" + filepath.Join(d.dir, "kubo.sock")
	d.socket = filepath.Join(d.dir, "kubo.sock")
	addr := d.url
	if secret != "" {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		port := lis.Addr().(*net.TCPAddr).Port
		must(t, lis.Close())
		d.socket, d.url = "", fmt.Sprintf("http://127.0.0.1:%d", port)
		addr = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)
	}
	out, err := ipfs(t, d.repo(), "init", "--empty-repo").CombinedOutput()
	if err != nil {
		t.Fatalf("ipfs init: %v\n%s", err, out)
	}
	file := filepath.Join(d.repo(), "config")
	conf, err := serialize.Load(file)
	must(t, err)
	harden(conf, settings{addr, network})
	if secret != "" {
		conf.API.Authorizations = map[string]*config.RPCAuthScope{
			"test": {AuthSecret: secret, AllowedPaths: []string{"/api/v0"}},
		}
	}
	must(t, serialize.WriteConfigFile(file, conf))
	d.start(t)
	return d
}

func (d *daemon) repo() string { return filepath.Join(d.dir, "repo") }

func (d *daemon) start(t *testing.T) {
	t.Helper()
	if d.socket != "" { // Kubo does not take the place of a socket that a killed one left
		if err := os.Remove(d.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	args := []string{"daemon"}
	if !d.online {
		args = append(args, "--offline")
	}
	d.cmd = ipfs(t, d.repo(), args...)
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	var log strings.Builder
	d.cmd.Stderr = &log
	must(t, d.cmd.Start())
	cmd := d.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead
		_ = cmd.Wait()
	})
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Daemon is ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			_ = cmd.Wait()
			t.Fatalf("the daemon ended: %s", log.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("the daemon is not ready after a minute")
	}
}

// kill is kill -9.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	must(t, d.cmd.Process.Kill())
	_ = d.cmd.Wait() // says that it was killed
}

// filesLs lists an MFS directory through the RPC of a node.
func filesLs(t *testing.T, socket, path string) []string {
	t.Helper()
	status, body := post(t, socket, "files/ls", "arg="+path)
	var answer struct{ Entries []struct{ Name string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatalf("files ls %s: %d %s", path, status, body)
	}
	var names []string
	for _, e := range answer.Entries {
		names = append(names, e.Name)
	}
	return names
}
