package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cluster-labs/ipfscloud"

// layer is what a package may import: of this module, and of the libraries that are
// fenced in. Tests of a package may import more.
type layer struct {
	ours    []string
	fenced  []string
	inTests []string
}

// layers is the architecture. A package that is not listed here may not exist. fs/safefile is
// the one package of fs that auth and cluster import too: all open their files by it, and it
// knows none of them by name.
func layers() map[string]layer {
	return map[string]layer{
		"":     {ours: []string{"daemon/cli"}},
		"auth": {ours: []string{"fs/safefile", "auth/claim", "auth/did", "auth/did/webvh", "auth/login", "auth/peercred"}, fenced: []string{"aries"}, inTests: []string{"auth/did/jcs", "auth/did/proof"}},
		// A leaf that every layer may use, so that no socket has a check of its own.
		"auth/peercred":           {ours: []string{"fs/safefile"}},
		"auth/login":              {ours: []string{"fs/safefile", "auth/claim", "auth/did", "auth/did/webvh"}, inTests: []string{"auth/did/fetch"}},
		"auth/claim":              {ours: []string{"auth/did", "auth/did/fetch"}, fenced: []string{"aries"}},
		"auth/did":                {ours: []string{"auth/did/fetch"}, fenced: []string{"aries"}, inTests: []string{"auth/did/didtest", "auth/did/webvh"}},
		"auth/did/fetch":          {},
		"auth/did/jcs":            {},
		"auth/did/proof":          {ours: []string{"auth/did", "auth/did/jcs"}},
		"auth/did/didtest":        {ours: []string{"auth/did"}},
		"auth/did/webvh":          {ours: []string{"auth/did", "auth/did/fetch", "auth/did/jcs", "auth/did/proof"}, inTests: []string{"auth/did/didtest"}},
		"fs":                      {ours: []string{"fs/safefile", "fs/crypt", "fs/deadline", "fs/journal"}, inTests: []string{"fs", "fs/fstest"}},
		"fs/crypt":                {},
		"fs/deadline":             {},
		"fs/safefile":             {},
		"fs/journal":              {ours: []string{"fs/safefile"}},
		"fs/ipfs":                 {ours: []string{"fs/safefile", "auth/peercred", "fs", "fs/crypt"}, fenced: []string{"ipfs"}, inTests: []string{"fs/fstest"}},
		"fs/fuse":                 {ours: []string{"fs/safefile", "fs", "fs/deadline"}, fenced: []string{"go-fuse"}, inTests: []string{"fs/fstest"}},
		"fs/fstest":               {ours: []string{"fs", "fs/crypt"}},
		"cluster":                 {ours: []string{"fs/safefile"}, inTests: []string{"cluster/fleet", "cluster/fleet/fleettest"}},
		"cluster/fleet":           {ours: []string{"fs/safefile", "auth/peercred"}, inTests: []string{"cluster/fleet", "cluster/fleet/fleettest"}},
		"cluster/fleet/fleettest": {ours: []string{"cluster/fleet"}},
		"daemon": {
			ours: []string{"fs/safefile", "auth", "auth/claim", "auth/did", "auth/did/fetch", "auth/did/webvh", "auth/login", "auth/peercred", "cluster", "cluster/fleet", "fs", "fs/crypt", "fs/journal", "fs/ipfs", "fs/fuse",
				"daemon/horizon", "daemon/grafia"},
			inTests: []string{"fs/fstest"},
		},
		"daemon/horizon":     {ours: []string{"auth/peercred", "daemon/printable"}, inTests: []string{"daemon/browsertest"}},
		"daemon/browsertest": {},
		"daemon/grafia":      {},
		"daemon/printable":   {},
		"daemon/cli":         {ours: []string{"fs/safefile", "daemon", "daemon/printable", "auth"}, inTests: []string{"cluster", "cluster/fleet", "cluster/fleet/fleettest", "daemon/browsertest"}},
		"contrib/bench":      {},
		"packaging/systemd":  {inTests: []string{"cluster/fleet/fleettest"}},
		"packaging":          {inTests: []string{"cluster/fleet", "cluster/fleet/fleettest"}},
		"contrib/login-demo": {ours: []string{"auth/login"}},
	}
}

// fences are libraries that only some packages may know.
func fences() map[string][]string {
	return map[string][]string{
		"aries":   {"github.com/hyperledger/aries-framework-go"},
		"go-fuse": {"github.com/hanwen/go-fuse"},
		"ipfs":    {"github.com/ipfs/kubo", "github.com/ipfs/boxo", "github.com/ipfs/", "github.com/libp2p/"},
	}
}

// listed is what `go list -json` tells of a package.
type listed struct {
	Dir, ImportPath                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

func (p *listed) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,Imports,TestImports,XTestImports", "./...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal("go list: ", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal("go list: ", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list shows %d packages only", len(all))
	}
	return all
}

// wrong returns what is wrong with one import of a package, or "".
func wrong(pkg string, l layer, path string, test bool) string {
	if own, ok := strings.CutPrefix(path, module); ok {
		own = strings.TrimPrefix(own, "/")
		if slices.Contains(l.ours, own) || test && (own == pkg || slices.Contains(l.inTests, own)) {
			return ""
		}
		return fmt.Sprintf("imports %s, which its layer may not", own)
	}
	for fence, prefixes := range fences() {
		for _, p := range prefixes {
			if strings.HasPrefix(path, p) && !slices.Contains(l.fenced, fence) {
				return fmt.Sprintf("imports %s, which is fenced in (%s)", path, fence)
			}
		}
	}
	return ""
}

func TestLayers(t *testing.T) {
	table := layers()
	for _, p := range packages(t) {
		name := p.name()
		l, ok := table[name]
		if !ok {
			t.Errorf("package %s is in no layer: add it to the table, or move it", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			if w := wrong(name, l, path, false); w != "" {
				t.Errorf("%s %s", p.ImportPath, w)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if w := wrong(name, l, path, true); w != "" {
				t.Errorf("a test of %s %s", p.ImportPath, w)
			}
		}
	}
}

// The table itself must catch what it is for.
func TestLayersCatch(t *testing.T) {
	for _, c := range []struct{ pkg, path string }{
		{"auth", module + "/fs"},
		{"fs", module + "/auth"},
		{"fs", module + "/fs/fuse"},
		{"fs", module + "/daemon"},
		{"daemon/cli", module + "/fs"},
		{"daemon", module + "/daemon/cli"},
		{"daemon", "github.com/hanwen/go-fuse/v2/fuse"},
		{"fs/fuse", "github.com/ipfs/kubo/core"},
		{"daemon", "github.com/ipfs/boxo/mfs"},
		{"fs", "github.com/hyperledger/aries-framework-go/pkg/vdr"},
	} {
		if wrong(c.pkg, layers()[c.pkg], c.path, false) == "" {
			t.Errorf("%s may import %s", c.pkg, c.path)
		}
	}
}

// Stores move sealed blocks: of fs/crypt they may know the names of blocks, never a key.
func TestStoresKnowNoKeys(t *testing.T) {
	names := []string{"CID", "CIDFromBytes", "Codec", "DagPB", "ParseCID", "Raw", "Sum"}
	for _, p := range packages(t) {
		if n := p.name(); n != "fs/ipfs" && n != "fs/fstest" {
			continue
		}
		inspect(t, &p, func(at token.Position, n ast.Node) {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "crypt" && !slices.Contains(names, s.Sel.Name) {
				t.Errorf("%s: crypt.%s is not for a store", at, s.Sel.Name)
			}
		})
	}
}

// inspect walks the files of a package, without its tests.
func inspect(t *testing.T, p *listed, fn func(token.Position, ast.Node)) {
	t.Helper()
	for _, file := range p.GoFiles {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if n != nil {
				fn(set.Position(n.Pos()), n)
			}
			return true
		})
	}
}

// Only main ends the process, and nothing runs before it: no os.Exit, no log.Fatal, no
// init function anywhere else.
func TestOneExit(t *testing.T) {
	for _, p := range packages(t) {
		inspect(t, &p, func(at token.Position, n ast.Node) {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: an init function", at)
				}
			case *ast.SelectorExpr:
				if ends(n) && p.name() != "" {
					t.Errorf("%s: ends the process below main", at)
				}
			}
		})
	}
}

// Only auth/peercred opens unix sockets and reads the credentials of peers, so no socket
// can be served without the check of who calls. A listener that is given a network by name
// at run time would get around this; there is none.
func TestSocketsCheckWhoCalls(t *testing.T) {
	for _, p := range packages(t) {
		if n := p.name(); n == "auth/peercred" || n == "fs/safefile" { // which makes the socket for it
			continue
		}
		inspect(t, &p, func(at token.Position, n ast.Node) {
			switch n := n.(type) {
			case *ast.CallExpr:
				if len(n.Args) == 0 {
					return
				}
				s, ok := n.Fun.(*ast.SelectorExpr)
				lit, text := n.Args[min(1, len(n.Args)-1)].(*ast.BasicLit) // ListenConfig.Listen has a context first
				if first, ok := n.Args[0].(*ast.BasicLit); ok {
					lit, text = first, true
				}
				if ok && text && s.Sel.Name == "Listen" && strings.HasPrefix(lit.Value, `"unix`) {
					t.Errorf("%s: listens on a unix socket; peercred.Listen does, and checks who calls", at)
				}
			case *ast.SelectorExpr:
				switch n.Sel.Name {
				case "ListenUnix", "ListenUnixgram", "SO_PEERCRED", "GetsockoptUcred":
					t.Errorf("%s: %s is for auth/peercred alone", at, n.Sel.Name)
				}
			}
		})
	}
}

// What fetches for strangers goes through auth/did/fetch: in auth nobody uses a transport
// of net/http that would connect anywhere.
func TestAuthFetchesByOneTransport(t *testing.T) {
	for _, p := range packages(t) {
		if n := p.name(); n == "auth/did/fetch" || n != "auth" && !strings.HasPrefix(n, "auth/") {
			continue
		}
		inspect(t, &p, func(at token.Position, n ast.Node) {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "http" {
				switch s.Sel.Name {
				case "DefaultTransport", "DefaultClient", "Transport", "Get", "Head", "Post", "PostForm":
					t.Errorf("%s: http.%s connects anywhere; fetch.New() does not", at, s.Sel.Name)
				}
			}
		})
	}
}

// What commands say goes through one filter: nothing else writes to standard output or
// standard error, and what a terminal obeys stands in one file. cli.Run opens them; main of
// the demonstration of a login is no part of the program.
func TestOneWayOut(t *testing.T) {
	opened := 0
	for _, p := range packages(t) {
		if p.name() == "contrib/login-demo" {
			continue
		}
		inspect(t, &p, func(at token.Position, n ast.Node) {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				switch {
				case !prints(n):
				case p.name() == "daemon/cli" && filepath.Base(at.Filename) == "cli.go" && opened < 2:
					opened++
				default:
					t.Errorf("%s: writes past the filter", at)
				}
			case *ast.BasicLit:
				if strings.HasPrefix(p.name(), "daemon") && n.Kind == token.STRING && filepath.Base(at.Filename) != "output.go" && strings.Contains(n.Value, `\x1b`) {
					t.Errorf("%s: a sequence for a terminal", at)
				}
			}
		})
	}
	if opened != 2 {
		t.Errorf("standard output and standard error are opened %d times", opened)
	}
}

func prints(s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch x.Name {
	case "os":
		return s.Sel.Name == "Stdout" || s.Sel.Name == "Stderr"
	case "fmt":
		return strings.HasPrefix(s.Sel.Name, "Print")
	case "log":
		return strings.HasPrefix(s.Sel.Name, "Print") || strings.HasPrefix(s.Sel.Name, "Panic")
	}
	return false
}

func ends(s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return false
	}
	return x.Name == "os" && s.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(s.Sel.Name, "Fatal")
}
