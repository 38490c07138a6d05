package fleet_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit has systemd's own tools read the unit of a real node.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here: the unit is not checked")
	}
	unit, err := os.ReadFile("../../packaging/egress/ipfscloud-egress.service")
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "ipfscloud"), []byte("#!/bin/sh\n"), 0o700)) //nolint:gosec // a program
	path := filepath.Join(dir, "ipfscloud-egress.service")
	must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "@BINDIR@", dir)), 0o600))
	for _, args := range [][]string{
		{"verify", "--man=no", path},
		// 0 is all closed, 100 all open.
		{"security", "--offline=yes", "--threshold=20", path},
	} {
		out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
		// It is content with what it does not know, and says so.
		if args[0] == "verify" && strings.Contains(string(out), path) {
			t.Errorf("systemd-analyze verify: %s", out)
		}
	}
}

// TestSocketLibrary tests the part of the cluster service that is ours: how it speaks to
// its Kubo. It is a module of its own, which the tests of this one do not reach.
func TestSocketLibrary(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "./...")
	cmd.Dir = "../../packaging/egress/httpunix"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
