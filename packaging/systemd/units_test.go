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
	for unit, exposure := range map[string]string{ // in tenths
		"system/ipfscloud.service": "45", "system/ipfscloud@.service": "45", "user/ipfscloud.service": "",
		"system/ipfscloud-horizon.socket": "", "../egress/ipfscloud-egress.service": "13",
	} {
		b, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(bin, filepath.Base(unit))
		text := strings.ReplaceAll(string(b), "@BINDIR@", bin)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no"}
		if strings.HasPrefix(unit, "user/") {
			args = append(args, "--user")
		}
		verify := exec.Command("systemd-analyze", append(args, strings.Replace(path, "@.", "@one.", 1))...)
		verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(unit)) {
			t.Errorf("verify %s: %v\n%s", unit, err, out)
		}
		if exposure == "" {
			continue
		}
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure, path).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more open than %s: %v\n%s", unit, exposure, err, out)
		}
	}
}
