package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// The codes are an interface: they are written down here a second time.
func TestExitCodes(t *testing.T) {
	wants := []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("something else"), 1}, {auth.ErrExist, 1}, {auth.ErrConfirmed, 1},
		{errUsage, 2}, {daemon.ErrConfig, 2}, {auth.ErrInvalid, 2}, {auth.ErrPhrase, 2}, {daemon.ErrInvalid, 2}, {daemon.ErrExists, 2},
		{daemon.ErrDID, 2}, {daemon.ErrDIDLog, 6}, {daemon.ErrDIDMethod, 2}, {daemon.ErrDIDCannot, 2}, {auth.ErrNoName, 2}, {daemon.ErrNoNetwork, 2},
		{auth.ErrNoIdentity, 3}, {daemon.ErrMountpointMissing, 3}, {daemon.ErrNotRunning, 3}, {daemon.ErrNotFound, 3},
		{daemon.ErrNoEgress, 3}, {daemon.ErrNoFleet, 3}, {daemon.ErrFleetBinaries, 3}, {daemon.ErrFleetDown, 3},
		{daemon.ErrFleetBusy, 8}, {daemon.ErrFleetConfig, 2}, {daemon.ErrFleetToken, 2}, {daemon.ErrFleetStart, 5},
		{daemon.ErrDIDNotFound, 3}, {auth.ErrAwaits, 3}, {auth.ErrNoService, 3}, {daemon.ErrIdentityNotFound, 3}, {daemon.ErrNoSource, 3}, {daemon.ErrEgressRefused, 4},
		{auth.ErrPassphrase, 4}, {auth.ErrRefused, 4}, {auth.ErrDevice, 4}, {auth.ErrDeactivated, 4}, {auth.ErrNoSession, 4}, {daemon.ErrNotRecipient, 4},
		{auth.ErrUnavailable, 5}, {daemon.ErrUnavailable, 5}, {daemon.ErrDIDUnavailable, 5}, {context.DeadlineExceeded, 5},
		{auth.ErrKeystore, 6}, {auth.ErrLog, 6}, {daemon.ErrTooOld, 6}, {auth.ErrRollback, 6}, {daemon.ErrRollback, 6}, {daemon.ErrFork, 6}, {daemon.ErrIntegrity, 6},
		{daemon.ErrMountpointNotDir, 7}, {daemon.ErrMountpointNotEmpty, 7}, {daemon.ErrMount, 7},
		{auth.ErrHeld, 8}, {auth.ErrBusy, 8}, {daemon.ErrMountpointBusy, 8}, {daemon.ErrBusy, 8},
		{daemon.ErrSiteRefused, 4}, {daemon.ErrClaim, 6}, {daemon.ErrClaimForm, 2}, {daemon.ErrNoClaim, 3}, {daemon.ErrClaimOrigin, 5},
		{auth.ErrCode, 4}, {auth.ErrScope, 4}, {auth.ErrEnrols, 4}, {auth.ErrNotRecipient, 4}, {auth.ErrNoDevice, 3},
		{daemon.ErrNoPost, 3}, {daemon.ErrNoVault, 3}, {daemon.ErrOtherWriter, 8}, {daemon.ErrUnsafe, 2}, {daemon.ErrStateMissing, 6},
		{childError{"a background process said so", 6}, 6},
	}
	for _, w := range wants {
		err := w.err
		if err != nil {
			err = fmt.Errorf("opening: %w", errors.Join(fmt.Errorf("part: %w", err), nil))
		}
		if code, _ := exitCode(err); code != w.code {
			t.Errorf("%v: exit %d, want %d", w.err, code, w.code)
		}
	}
	for _, e := range exits { // no line without its test
		if !slices.ContainsFunc(wants, func(w struct {
			err  error
			code int
		}) bool {
			return w.err == e.err && w.code == e.code
		}) {
			t.Errorf("the line %q (%d) of the table is not tested", e.err, e.code)
		}
	}
	for code := ExitOK; code <= ExitBusy; code++ {
		if !slices.ContainsFunc(exitTexts, func(x struct {
			code int
			text string
		}) bool {
			return x.code == code && x.text != ""
		}) {
			t.Errorf("the manual does not tell of exit code %d", code)
		}
	}
}

func TestOneClearLine(t *testing.T) {
	err := errors.Join(fmt.Errorf("login: %w", auth.ErrNoSession), errors.New("and more"))
	if got, want := explain(err), "login: not logged in; and more (log in with `ipfscloud login`)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Help, manual and README tell of the same commands.
func TestEveryCommandIsDescribed(t *testing.T) {
	dir := t.TempDir()
	if err := (&manCommand{dir: dir}).run(t.Context(), &env{}); err != nil {
		t.Fatal(err)
	}
	main, err := os.ReadFile(filepath.Join(dir, "ipfscloud.1"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries() {
		page, err := os.ReadFile(filepath.Join(dir, "ipfscloud-"+e.name+".1"))
		if e.hidden {
			if err == nil {
				t.Errorf("%s is hidden and has a page", e.name)
			}
			continue
		}
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(main), e.name) || e.short == "" {
			t.Errorf("%s is not in ipfscloud.1", e.name)
		}
		if e.name != "version" && !strings.Contains(string(readme), e.name) {
			t.Errorf("%s is not in the README", e.name)
		}
		for _, o := range e.options() {
			if !strings.Contains(string(page), roff(o.name())) || strings.HasPrefix(o.text, "internal") {
				t.Errorf("%s: option %s is not in its page", e.name, o.name())
			}
		}
	}
	for _, name := range []string{"ipfscloud.1", "ipfscloud-mount.1", "mount.ipfscloud.8"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(b), ".TH ") || strings.Contains(string(b), "ready-fd") {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, args := range [][]string{{"-d", "-o", "ro", "/mnt"}, {"/mnt", "-d", "-o", "ro"}, {"-d", "/mnt", "-o=ro"}, {"-d", "--o", "ro", "--", "/mnt"}} {
		c := &mountCommand{}
		rest, err := parseCommand(c, "mount", args)
		if err != nil || len(rest) != 1 || rest[0] != "/mnt" || !c.detach || c.drive.options != "ro" {
			t.Errorf("%q: %+v, %q, %v", args, c, rest, err)
		}
	}
	c := &mountCommand{}
	if rest, err := parseCommand(c, "mount", []string{"--", "-d"}); err != nil || c.detach || rest[0] != "-d" {
		t.Errorf("after --: %+v, %q, %v", c, rest, err)
	}
}

func TestHelper(t *testing.T) {
	var h helper
	err := h.parse([]string{"/some/home", "/mnt", "-n", "-o", "rw,noatime,durability=ipfs,passfile=/p,ipfs=/s,x-systemd.automount,X-mount.mkdir,user=ada,comment=x,config=/c,cache_dir=/d,drive=work", "-r"})
	if err != nil {
		t.Fatal(err)
	}
	m := h.mount
	if h.source != "/some/home" || m.mountpoint != "/mnt" || m.drive.options != "fsname=/some/home,rw,noatime,ro" ||
		m.drive.configFile != "/c" || m.drive.cacheDir != "/d" || h.drive != "work" ||
		m.drive.durability != "ipfs" || m.drive.ipfs != "/s" || m.pass.file != "/p" || !m.detach {
		t.Errorf("%+v", h)
	}
	if err := h.parse([]string{"/mnt"}); !errors.Is(err, errUsage) {
		t.Errorf("one argument: %v", err)
	}
}
