package main

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openers are the calls that open, make or change a file by its path and follow a symbolic
// link at its end, or make a socket whose mode is anybody's guess. os.Remove, os.Rename,
// os.Stat and os.ReadDir are not among them: they write through no link, and where they are
// used the directory has been walked.
func openers() map[string][]string {
	return map[string][]string{
		"os": {"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "CreateTemp", "MkdirTemp", "ReadFile", "WriteFile", "Mkdir", "MkdirAll",
			"Chmod", "Chown", "Truncate", "CopyFS", "DirFS"},
		"ioutil":  {"ReadFile", "WriteFile", "TempFile", "TempDir"},
		"unix":    {"Open", "Openat", "Openat2", "Creat", "Mkdir", "Mkdirat", "Chmod", "Fchmodat", "Chown", "Fchownat", "Truncate", "Mknod", "Mknodat"},
		"syscall": {"Open", "Openat", "Creat", "Mkdir", "Mkdirat", "Chmod", "Fchmodat", "Chown", "Fchownat", "Truncate", "Mknod", "Mknodat"},
		"net":     {"ListenUnix", "ListenUnixgram", "ListenPacket"},
	}
}

// openersAllowed are the files outside of fs/safefile that may call them, with the calls and
// the reason.
func openersAllowed() map[string]struct {
	calls  []string
	reason string
} {
	type allowed = struct {
		calls  []string
		reason string
	}
	return map[string]allowed{
		// What a person names on a command line, to be read and verified. It holds no secret and
		// goes nowhere; it may well belong to somebody else, or be a pipe.
		"daemon/cli/device.go":        {[]string{"os.ReadFile"}, "the request or answer of another device"},
		"daemon/cli/identity.go":      {[]string{"os.ReadFile"}, "a log to resolve"},
		"daemon/cli/identityclaim.go": {[]string{"os.Open"}, "a claim"},
		"daemon/identitysource.go":    {[]string{"os.ReadFile"}, "a log to recover from"},

		"daemon/asideexport.go": {[]string{"os.Mkdir", "os.OpenRoot"}, "a directory that the owner names, for files in the clear; a Root follows no link out of it"},
		"daemon/cli/outfile.go": {[]string{"os.Open"}, "a directory, to sync it"},
		"daemon/cli/demo.go":    {[]string{"os.MkdirTemp", "os.WriteFile", "os.MkdirAll", "os.ReadFile"}, "in a directory that it has just made with a random name, for itself alone"},
		"daemon/cli/man.go":     {[]string{"os.MkdirAll", "os.WriteFile"}, "for packages, when they are built"},

		"fs/fuse/mount.go":     {[]string{"os.Open", "os.WriteFile", "unix.Open"}, "/proc, /sys, /dev/fuse, and the mountpoint, to see that it is empty"},
		"fs/fuse/loop.go":      {[]string{"unix.Open"}, "/dev/fuse"},
		"fs/fuse/polling.go":   {[]string{"os.ReadFile", "os.OpenFile"}, "/sys and /dev"},
		"fs/fuse/ringloop.go":  {[]string{"os.ReadFile"}, "/sys"},
		"fs/fuse/rawpriv.go":   {[]string{"os.ReadFile"}, "/proc"},
		"fs/fuse/interrupt.go": {[]string{"os.ReadFile"}, "/proc"},

		"auth/peercred/tcp.go":  {[]string{"os.Open"}, "/proc"},
		"cluster/listener.go":   {[]string{"os.Open"}, "/proc"},
		"daemon/cli/horizon.go": {[]string{"os.ReadFile"}, "/proc"},

		// Blocks in the repo, by names that flatfs makes of their CIDs. CheckTree has seen all
		// directories, and a block that is read is verified.
		"fs/ipfs/getpart.go": {[]string{"os.Open", "unix.Openat2"}, "a block of the repo"},
		"fs/ipfs/putfile.go": {[]string{"os.Mkdir"}, "a directory of flatfs, as flatfs makes it"},

		"cluster/fleet/fleet.go":  {[]string{"os.MkdirTemp"}, "a directory for sockets with a random name, for this user alone"},
		"daemon/browsertest":      {nil, "only for tests"},
		"cluster/fleet/fleettest": {nil, "only for tests"},
		"contrib":                 {nil, "benchmarks and examples"},
		"packaging":               {nil, "only for tests and for building packages"},
	}
}

// TestFilesAreOpenedInOnePlace: a path is only a name, and fs/safefile is where it is seen to
// that nobody else decides what it leads to. A new call elsewhere fails here: use fs/safefile,
// or add it to the list with a reason.
func TestFilesAreOpenedInOnePlace(t *testing.T) {
	allowed, seen := openersAllowed(), map[string]bool{}
	for _, p := range packages(t) {
		if p.name() == "fs/safefile" {
			continue
		}
		inspect(t, &p, func(at token.Position, n ast.Node) {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return
			}
			call := opener(s)
			if call == "" {
				return
			}
			for _, name := range []string{filepath.Join(p.name(), filepath.Base(at.Filename)), p.name(), strings.SplitN(p.name(), "/", 2)[0]} {
				if a, ok := allowed[name]; ok && (a.calls == nil || slices.Contains(a.calls, call)) {
					seen[name+" "+call] = true
					return
				}
			}
			t.Errorf("%s: %s: open files with fs/safefile", at, call)
		})
	}
	for name, a := range allowed {
		for _, call := range a.calls {
			if !seen[name+" "+call] {
				t.Errorf("%s calls %s no more: take it off the list", name, call)
			}
		}
	}
}

// opener is the call that a selector names, if it is one of them.
func opener(s *ast.SelectorExpr) string {
	x, ok := s.X.(*ast.Ident)
	if !ok || !slices.Contains(openers()[x.Name], s.Sel.Name) {
		return ""
	}
	return x.Name + "." + s.Sel.Name
}

// The list itself must catch what it is for.
func TestOpenersCatch(t *testing.T) {
	for _, c := range []string{"os.WriteFile", "os.Chmod", "unix.Open", "net.ListenUnix"} {
		pkg, name, _ := strings.Cut(c, ".")
		if opener(&ast.SelectorExpr{X: ast.NewIdent(pkg), Sel: ast.NewIdent(name)}) != c {
			t.Errorf("%s may be called anywhere", c)
		}
	}
}
