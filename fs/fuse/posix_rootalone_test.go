package fuse

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Unchecked, root alone is let in and the kernel checks no permissions, which root would
// pass: each case that is root's alone has the results that it has with the checks.
func TestPOSIXRootAlone(t *testing.T) {
	needRoot(t)
	g := drive(t, "unchecked")
	var own []testCase
	for _, c := range loadCases(t, "testdata/posix/*.txt") {
		if !slices.ContainsFunc(c.lines, func(l line) bool { return l.user != "root" }) {
			own = append(own, c)
		}
	}
	if n := runCases(t, g, own); n < 700 {
		t.Errorf("%d cases, and there should be 700 at least", n)
	}
}

// What the kernel's checks keep root from doing too, execution of what nobody may execute,
// is kept from it without them too; and they are there unless asked for otherwise.
func TestRootAlone(t *testing.T) {
	needRoot(t)
	for options, checks := range map[string]bool{"unchecked": false, "": true, "allow_other": true} {
		m := mountTree(t, options)
		script, plain, dir := filepath.Join(m.dir, "script"), filepath.Join(m.dir, "plain"), filepath.Join(m.dir, "dir")
		for path, mode := range map[string]os.FileMode{script: 0o100, plain: 0o666} {
			if err := os.WriteFile(path, []byte("#!/bin/sh\necho yes\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(dir, 0); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			what      string
			got, want error
		}{
			{"access to write what nobody may", unix.Access(script, unix.R_OK|unix.W_OK), nil},
			{"access to execute", unix.Access(script, unix.X_OK), nil},
			{"access to execute what nobody may", unix.Access(plain, unix.X_OK), unix.EACCES},
			{"access to search a directory without bits", unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK), nil},
			{"access to what is not there", unix.Access(script+"x", unix.F_OK), unix.ENOENT},
			{"executing what nobody may", exec.Command(plain).Run(), unix.EACCES},
		} {
			if !errors.Is(x.got, x.want) {
				t.Errorf("with %q, %s: %v, want %v", options, x.what, x.got, x.want)
			}
		}
		cmd := exec.Command(script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "yes\n" {
			t.Errorf("with %q, a script with one bit says %q, %v", options, out, err)
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(mounts)) {
			if strings.Contains(l, " "+m.dir+" ") && strings.Contains(l, "default_permissions") != checks {
				t.Errorf("with %q: %s", options, l)
			}
		}
	}
}

// Others are never let in unchecked.
func TestUncheckedAlone(t *testing.T) {
	for _, list := range []string{"unchecked,allow_other", "acl,unchecked"} {
		var o Options
		if err := ParseOptions(list, &o); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.TempDir(), o); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", list, err)
		}
	}
}
