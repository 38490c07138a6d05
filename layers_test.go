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

// layers is the architecture. A package that is not listed here may not exist.
func layers() map[string]layer {
	return map[string]layer{
		"":                        {ours: []string{"daemon/cli"}},
		"auth":                    {ours: []string{"auth/claim", "auth/did", "auth/did/webvh", "auth/login"}, fenced: []string{"aries"}, inTests: []string{"auth/did/jcs", "auth/did/proof"}},
		"auth/login":              {ours: []string{"auth/claim", "auth/did", "auth/did/webvh"}},
		"auth/claim":              {ours: []string{"auth/did"}, fenced: []string{"aries"}},
		"auth/did":                {fenced: []string{"aries"}, inTests: []string{"auth/did/didtest", "auth/did/webvh"}},
		"auth/did/jcs":            {},
		"auth/did/proof":          {ours: []string{"auth/did", "auth/did/jcs"}},
		"auth/did/didtest":        {ours: []string{"auth/did"}},
		"auth/did/webvh":          {ours: []string{"auth/did", "auth/did/jcs", "auth/did/proof"}, inTests: []string{"auth/did/didtest"}},
		"fs":                      {ours: []string{"fs/crypt", "fs/deadline", "fs/journal"}, inTests: []string{"fs", "fs/fstest"}},
		"fs/crypt":                {},
		"fs/deadline":             {},
		"fs/journal":              {},
		"fs/ipfs":                 {ours: []string{"fs", "fs/crypt"}, fenced: []string{"ipfs"}, inTests: []string{"fs/fstest"}},
		"fs/fuse":                 {ours: []string{"fs", "fs/deadline"}, fenced: []string{"go-fuse"}, inTests: []string{"fs/fstest"}},
		"fs/fstest":               {ours: []string{"fs", "fs/crypt"}},
		"cluster":                 {inTests: []string{"cluster/fleet", "cluster/fleet/fleettest"}},
		"cluster/fleet":           {inTests: []string{"cluster/fleet", "cluster/fleet/fleettest"}},
		"cluster/fleet/fleettest": {ours: []string{"cluster/fleet"}},
		"daemon": {
			ours: []string{"auth", "auth/claim", "auth/did", "auth/did/webvh", "auth/login", "cluster", "cluster/fleet", "fs", "fs/crypt", "fs/journal", "fs/ipfs", "fs/fuse",
				"daemon/horizon", "daemon/grafia"},
			inTests: []string{"fs/fstest"},
		},
		"daemon/horizon":     {inTests: []string{"daemon/browsertest"}},
		"daemon/browsertest": {},
		"daemon/grafia":      {},
		"daemon/cli":         {ours: []string{"daemon", "auth"}, inTests: []string{"cluster/fleet", "cluster/fleet/fleettest", "daemon/browsertest"}},
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

func ends(s *ast.SelectorExpr) bool {
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return false
	}
	return x.Name == "os" && s.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(s.Sel.Name, "Fatal")
}
