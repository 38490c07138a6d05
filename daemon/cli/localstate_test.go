package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each piece of a drive's local state is removed, emptied or damaged: a mount says what is
// missing and what was in it, and changes nothing. With the flag, or the mount option, it
// goes on, says it as an alert, and the next mount has nothing to say. What is asked for again
// is not worth a word.
func TestLocalStateIsTold(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	d.sh("echo kept > kept")
	d.ok("snapshot", "create", "first")
	d.ok("sync", "--durability", "ipfs")
	d.umount()
	state := func(name string) string { return filepath.Join(d.home.State, name) }
	remove := os.RemoveAll
	empty := func(name string) error { return os.WriteFile(name, nil, 0o600) }
	cut := func(name string) error { return os.Truncate(name, 20) }
	for _, x := range []struct {
		name  string
		path  string
		spoil func(string) error
		told  string // "": nothing is lost
		flags []string
	}{
		{"heads.json", state("heads.json"), remove, "heads.json is missing", []string{"--accept-missing-state"}},
		{"heads.json, empty", state("heads.json"), empty, "heads.json is empty", []string{"-o", "accept_missing_state"}},
		{"heads.json, cut", state("heads.json"), cut, "heads.json is damaged", []string{"-o", "noatime,accept_missing_state"}},
		{"the journal", d.home.Journal, remove, "journal", []string{"--accept-missing-state", "-o", "noatime"}},
		{"snapshots.json", state("snapshots.json"), remove, "snapshots.json is missing", []string{"--accept-missing-state"}},
		{"egress.json", state("egress.json"), func(name string) error {
			d.ok("egress", "use", "--unchecked", "http://127.0.0.1:9")
			return remove(name)
		}, "egress.json is missing", []string{"--accept-missing-state"}},
		{"vault", state("vault"), remove, "vault is missing", []string{"--accept-missing-state"}},
		{"the state directory", d.home.State, remove, "heads.json is missing", []string{"--accept-missing-state"}},
		{"pins.json", state("pins.json"), remove, "", nil},
		{"the cache", d.home.Cache, remove, "", nil},
		{"the staging", d.home.Staging, remove, "", nil},
	} {
		if err := x.spoil(x.path); err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		if x.told != "" {
			_, problem, code := d.run("mount", "-d", d.mnt)
			if code != ExitIntegrity || !strings.Contains(problem, x.told) || !strings.Contains(problem, "--accept-missing-state") {
				t.Fatalf("%s: exit code %d: %s", x.name, code, problem)
			}
			t.Log(problem)
			if _, problem, code := d.run("up", d.mnt); code != ExitIntegrity || !strings.Contains(problem, x.told) {
				t.Fatalf("%s: up: exit code %d: %s", x.name, code, problem)
			}
		}
		d.mount(x.flags...)
		if got := d.sh("cat kept"); strings.TrimSpace(got) != "kept" {
			t.Errorf("%s: %q", x.name, got)
		}
		alerts := strings.Join(d.status().Alerts, "\n")
		if x.told != "" && !strings.Contains(alerts, x.told) {
			t.Errorf("%s: alerts %q", x.name, alerts)
		}
		if x.told == "" && strings.Contains(alerts, "missing") {
			t.Errorf("%s: alerts %q", x.name, alerts)
		}
		d.umount()
	}
	d.mount()
	if alerts := d.status().Alerts; strings.Contains(strings.Join(alerts, "\n"), "missing") {
		t.Errorf("it is told again: %q", alerts)
	}
}
