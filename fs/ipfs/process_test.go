package ipfs

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/fstest"
)

// storeProcess puts and links commits in an embedded node until it is killed. It writes a
// line for each thing that was acknowledged.
func storeProcess(dir string) int {
	ctx := context.Background()
	e, err := OpenEmbedded(ctx, EmbeddedConfig{RepoDir: filepath.Join(dir, "repo"), SocketPath: filepath.Join(dir, "api.sock")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	have, err := e.Commits(ctx, "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for n := uint64(len(have)); ; n++ {
		blocks := fstest.Commit(4, 4096)
		if err := e.Put(ctx, blocks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for _, b := range blocks {
			fmt.Println("put", b.CID)
		}
		if err := e.Link(ctx, commitName(n), last(blocks), cidsOf(blocks)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("link", hex.EncodeToString([]byte{byte(n >> 8), byte(n)}), last(blocks))
	}
}

// TestEmbeddedProcessKilled kills a process with a node in it, while it writes, again and
// again, and looks for all it had acknowledged.
func TestEmbeddedProcessKilled(t *testing.T) {
	const kills = 5
	dir := shortDir(t)
	var acknowledged []string
	for kill := range kills {
		self, err := os.Executable()
		must(t, err)
		cmd := exec.CommandContext(testContext(t), self)
		cmd.Env = append(os.Environ(), runStore+"="+dir)
		var log strings.Builder
		cmd.Stderr = &log
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		seen := 0
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
			if seen++; seen == 20+kill { // at a different step each time
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // says that it was killed
		if seen < 20 {
			t.Fatalf("the process wrote %d lines: %s", seen, log.String())
		}
	}
	e := openTest(t, dir)
	if e.Recovered() {
		t.Error("a kill made the root of MFS unreadable")
	}
	for _, line := range acknowledged {
		f := strings.Fields(line)
		c, err := crypt.ParseCID(f[len(f)-1])
		must(t, err)
		if _, err := e.Get(testContext(t), c); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if f[0] != "link" {
			continue
		}
		b, err := hex.DecodeString(f[1])
		must(t, err)
		n := uint64(b[0])<<8 | uint64(b[1])
		if got, err := e.Resolve(testContext(t), commitName(n)); err != nil || got != c {
			t.Errorf("%s: resolves to %s, %v", line, got, err)
		}
	}
	repoGC(t, filepath.Join(dir, "api.sock"))
	for _, line := range acknowledged {
		f := strings.Fields(line)
		c, err := crypt.ParseCID(f[len(f)-1])
		must(t, err)
		if has, err := e.Has(testContext(t), c); err != nil || !has {
			t.Errorf("%s: gone after a collection: %v", line, err)
		}
	}
}
