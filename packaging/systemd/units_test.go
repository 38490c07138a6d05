package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The units say what systemd understands, and are as closed as they claim.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("units cannot be checked: ", err)
	}
	bin := t.TempDir()
	program := filepath.Join(bin, "ipfscloud")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	units := []struct {
		path     string
		exposure string // the most, in tenths; "" for what is not a service of the system
	}{
		{"system/ipfscloud.service", "40"},
		{"system/ipfscloud@.service", "40"},
		{"system/ipfscloud-horizon.socket", ""},
		{"../egress/ipfscloud-egress.service", "13"},
		{"user/ipfscloud.service", ""},
	}
	// Units name one another: all are there before one is looked at.
	installed := func(unit string) string {
		return filepath.Join(bin, filepath.Base(filepath.Dir(unit)), filepath.Base(unit))
	}
	for _, u := range units {
		b, err := os.ReadFile(u.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(installed(u.path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(installed(u.path), []byte(strings.ReplaceAll(string(b), "@BINDIR@", bin)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range units {
		path := installed(u.path)
		args := []string{"verify", "--man=no"}
		if strings.HasPrefix(u.path, "user/") {
			args = append(args, "--user")
		}
		verify := exec.Command("systemd-analyze", append(args, strings.Replace(path, "@.", "@one.", 1))...)
		verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(u.path)) {
			t.Errorf("verify %s: %v\n%s", u.path, err, out)
		}
		if u.exposure == "" {
			continue
		}
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+u.exposure, path).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more open than %s: %v\n%s", u.path, u.exposure, err, out)
		}
	}
}
