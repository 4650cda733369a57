// Package deptest_test checks the module's rules: imports, linked packages and file sizes.
package deptest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/kms-auditor/kms-auditor/"
)

// goRun runs the go tool at the module's root, without cgo, like the build of the image.
func goRun(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = root, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// within reports whether a package is in one of the trees. A tree that ends in $ is a single package.
func within(pkg string, trees []string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return pkg+"$" == tree || pkg == tree || strings.HasPrefix(pkg, tree+"/") })
}

// own returns full import paths of packages of this module.
func own(names ...string) []string {
	for i, n := range names {
		names[i] = module + n
	}
	return names
}

func TestImportsGoOneWay(t *testing.T) {
	imports := map[string][]string{} // of this module's packages, without tests
	for line := range strings.Lines(goRun(t, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")) {
		names := strings.Fields(line)
		imports[names[0]] = names[1:]
	}
	var (
		helpers = own("internal/exactjson", "internal/footprint", "internal/httpx", "internal/sanitize")
		wiring  = own("internal/config", "internal/daemon", "internal/evidence", "internal/events", "internal/render", "internal/selftest", "internal/state", "internal/web")
		testing = own("internal/testenv", "internal/simtest", "e2e")
		tools   = []string{"github.com/prometheus", "go.uber.org/zap", "go.yaml.in/yaml", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3", "github.com/spf13/cobra"}
		above   = func(names ...string) []string { return slices.Concat(own(names...), wiring, testing, tools) }
	)
	for _, row := range []struct {
		sentence string
		of       []string
		never    []string
	}{
		{"nothing imports a command", own("audit", "ethrpc", "internal", "kmsapi", "metrics"), own("cmd")},
		{"the judge asks nobody, and waits for nobody", append(own("audit/control"), module+"audit$"), slices.Concat(above("audit/observe", "kmsapi", "ethrpc", "metrics"), []string{"net$", "net/http", "os", "context", "sync"})},
		{"the API's client does not know the chain, nor who uses it", own("kmsapi"), above("ethrpc", "audit", "metrics")},
		{"the chain's client does not know the API, nor who uses it", own("ethrpc"), above("kmsapi", "audit", "metrics")},
		{"the transport knows neither blocks nor contracts", own("ethrpc/transport"), own("ethrpc$", "ethrpc/block", "ethrpc/kms", "ethrpc/logs", "ethrpc/proof")},
		{"a block is a block, whatever is read there", own("ethrpc/block"), own("ethrpc$", "ethrpc/getters", "ethrpc/kms", "ethrpc/logs", "ethrpc/proof")},
		{"what there is to know of a contract asks nobody", own("ethrpc/kms"), append(own("ethrpc$", "ethrpc/block", "ethrpc/logs", "ethrpc/transport"), "net$", "net/http", "os", "context")},
		{"a contract's code asks nobody", own("ethrpc/getters"), append(own("ethrpc$", "ethrpc/block", "ethrpc/logs", "ethrpc/transport"), "net$", "net/http", "os")},
		{"logs are read, and proven by nobody", own("ethrpc/logs"), own("ethrpc$", "ethrpc/kms", "ethrpc/proof")},
		{"what L1 holds is told by a caller alone", own("ethrpc/anchor/l1"), append(own("ethrpc$", "ethrpc/block", "ethrpc/getters", "ethrpc/kms", "ethrpc/logs", "ethrpc/transport", "internal/httpx"), "net$", "net/http", "os")},
		{"a proof asks nobody", own("ethrpc/proof"), append(own("ethrpc$", "ethrpc/block", "ethrpc/kms", "ethrpc/logs", "ethrpc/transport", "internal/httpx"), "net$", "net/http", "os")},
		{"a light client asks nobody", own("ethrpc/anchor/consensus"), append(own("ethrpc$", "ethrpc/block", "ethrpc/transport", "internal/httpx"), "net$", "net/http", "os", "context")},
		{"a look knows neither metrics, logs, formats nor files", own("audit/observe"), append(above("metrics"), "os")},
		{"metrics render an audit, and decide nothing", own("metrics"), slices.Concat(own("audit/observe"), wiring, testing, []string{"go.uber.org/zap", "go.yaml.in/yaml", "os"})},
		{"a rendering knows the report alone", own("internal/render"), slices.Concat(own("audit/observe", "ethrpc", "metrics", "internal/daemon", "internal/config", "internal/state", "internal/web"), testing, tools)},
		{"what is remembered asks nobody", own("internal/state"), slices.Concat(own("audit/observe", "ethrpc", "metrics", "internal/daemon", "internal/events", "internal/evidence", "internal/config", "internal/web"), testing, tools)},
		{"events and evidence know neither metrics, logs nor the configuration", own("internal/events", "internal/evidence"), slices.Concat(own("metrics", "internal/config", "internal/daemon", "internal/web"), testing, tools)},
		{"a configuration knows no one who runs under it", own("internal/config"), own("audit/observe", "metrics", "internal/daemon", "internal/state", "internal/web")},
		{"the page shows, and does not audit", own("internal/web"), slices.Concat(own("audit/observe", "ethrpc", "metrics", "internal/daemon", "internal/config"), testing)},
		{"helpers know nobody", helpers, append(above("audit", "ethrpc", "kmsapi", "metrics"), "os")},
		{"a fake or a test chain knows nothing of what it tests", own("internal/testenv"), slices.Concat(own("audit", "ethrpc", "kmsapi", "metrics"), wiring)},
	} {
		held := false
		for pkg := range imports {
			if !within(pkg, row.of) {
				continue
			}
			held = true
			for _, chain := range reach(imports, pkg) {
				if within(chain[len(chain)-1], row.never) {
					t.Errorf("%s, but %s", row.sentence, strings.Join(chain, " imports "))
				}
			}
		}
		if !held {
			t.Errorf("%s: no such package", row.sentence)
		}
	}
}

// reach returns an import chain for every package that pkg reaches through packages of this module.
func reach(imports map[string][]string, pkg string) [][]string {
	seen := map[string]bool{pkg: true}
	ways := [][]string{{pkg}}
	for i := 0; i < len(ways); i++ {
		way := ways[i]
		for _, next := range imports[way[len(way)-1]] {
			if !seen[next] {
				seen[next] = true
				ways = append(ways, append(slices.Clone(way), next))
			}
		}
	}
	return ways[1:]
}

func TestProgramLinksNoTests(t *testing.T) {
	linked := strings.Fields(goRun(t, "list", "-deps", "./cmd/kms-auditor"))
	if !slices.Contains(linked, module+"audit") {
		t.Fatalf("audit is not among the %d linked packages", len(linked))
	}
	never := append(own("internal/testenv", "internal/simtest", "cmd/demo", "e2e"),
		"github.com/ethereum/go-ethereum/ethclient/simulated", "github.com/ethereum/go-ethereum/node",
		"testing", "net/http/httptest", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal",
		"github.com/santhosh-tekuri/jsonschema", "go.uber.org/goleak", "pgregory.net/rapid")
	for _, pkg := range linked {
		if within(pkg, never) {
			t.Errorf("the program links %s", pkg)
		}
	}
}

func TestProgramIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("links the program")
	}
	bin := filepath.Join(t.TempDir(), "kms-auditor")
	goRun(t, "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./cmd/kms-auditor")
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the stripped program has %.1f MB", float64(info.Size())/1e6)
	if info.Size() >= 25e6 {
		t.Errorf("the program has %d bytes, want under 25 MB", info.Size())
	}
}

// TestHexHasOneParser refuses common.HexToHash and the like, which accept invalid hex.
func TestHexHasOneParser(t *testing.T) {
	eachFile(t, func(fset *token.FileSet, path string, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "HexTo") {
				t.Errorf("%s: %s accepts invalid hex, use internal/sanitize", fset.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
	})
}

// TestFilesAreShort checks that no Go file has more than 500 lines, tests included.
func TestFilesAreShort(t *testing.T) {
	eachFile(t, func(fset *token.FileSet, path string, file *ast.File) {
		if n := fset.File(file.FileStart).LineCount(); n > 500 {
			t.Errorf("%s has %d lines", path, n)
		}
	})
}

// TestFunctionsToFillInAreExplained checks that every function field of an exported struct has a comment that says when it is called.
func TestFunctionsToFillInAreExplained(t *testing.T) {
	explained := []string{"audit", "audit/observe", "ethrpc", "ethrpc/logs", "internal/daemon"}
	eachFile(t, func(fset *token.FileSet, path string, file *ast.File) {
		if dir, _ := filepath.Rel(root, filepath.Dir(path)); !slices.Contains(explained, dir) || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					if _, isFunc := f.Type.(*ast.FuncType); isFunc && f.Doc == nil {
						t.Errorf("%s: %s has a function field without a comment above it", fset.Position(f.Pos()), spec.Name)
					}
				}
			}
			return true
		})
	})
}

// eachFile reads every Go file of the repository.
func eachFile(t *testing.T, each func(*token.FileSet, string, *ast.File)) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || slices.Contains([]string{"node_modules", "testdata"}, d.Name())) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		files++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err == nil {
			each(fset, path, file)
		}
		return err
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files were read (%v)", files, err)
	}
}
