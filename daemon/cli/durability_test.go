package cli

import (
	"os"
	"testing"
)

// With durability ipfs, what fsync returned for is committed in the node: it is there when
// the daemon is killed and journal, state and staging are gone.
func TestFsyncIsACommit(t *testing.T) {
	t.Parallel()
	d := newDrive(t, "--durability", "ipfs")
	if s := d.status(); s.Durability != "ipfs" {
		t.Fatalf("durability is %s", s.Durability)
	}
	for i, name := range []string{"one", "two", "three"} {
		f, err := os.Create(d.on(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(name); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		d.kill()
		for _, dir := range []string{d.home.Journal, d.home.State, d.home.Staging, d.keptState()} {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		d.mount("--durability", "ipfs")
		for _, n := range []string{"one", "two", "three"}[:i+1] {
			if b, err := os.ReadFile(d.on(n)); err != nil || string(b) != n {
				t.Fatalf("%s after loop %d: %q, %v", n, i, b, err)
			}
		}
	}
}

// `ipfscloud sync` commits, on any mount; `--durability local` only syncs the journal.
func TestSyncCommand(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	before := d.status().Commit.Sequence
	if err := os.WriteFile(d.on("f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok("sync", "--durability", "local")
	d.ok("sync", d.on("f"))
	s := d.status()
	if s.Commit.Sequence <= before || s.Pending.Ops != 0 {
		t.Fatalf("after sync: %+v", s)
	}
	d.fails(ExitNotFound, "sync", "/proc")
	d.fails(ExitUsage, "sync", "--durability", "egress:2")
}
