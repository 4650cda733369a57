//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/kms-auditor/kms-auditor/audit"
)

// TestEvidenceOutlivesItsRelease verifies this release's evidence with other releases.
func TestEvidenceOutlivesItsRelease(t *testing.T) {
	t.Parallel()
	s := newStage(t, "geth")
	truth := s.truth()
	leaveOut(image058)(s, &truth)
	must(t, s.api.put(truth))
	file := filepath.Join(t.TempDir(), "evidence.json.gz")
	exit, _, errs := runAuditorWith(t, s.env, "audit", "--once", "-c", s.config(t, row{settings: scanned}), "--evidence", file)
	if exit != 1 {
		t.Fatalf("the audit exits with %d, want drift\n%s", exit, errs)
	}
	query := filepath.Join("..", "ethrpc", "kms", "kms.go")
	entry, doc := filepath.Join("..", "audit", "entry.go"), filepath.Join("..", "audit", "doc.go")
	control := "return slices.Concat(ControlCalls, "
	more := edit{query, control, control + "AppCalls([]common.Address{{}}), "}
	harmless := edit{entry, "e.Verdict, e.Kind = Mismatch, UnlistedChainAllowed", "e.Verdict = Match"}
	newer := edit{doc, fmt.Sprintf("const Rules = %d", audit.Rules), fmt.Sprintf("const Rules = %d", audit.Rules+1)}
	for _, release := range []struct {
		sentence string
		reworded bool
		edits    []edit
		exit     int
		says     []string
	}{
		{"this one", false, nil, 1, []string{"Checked:", "Trusted, because the evidence cannot prove it:", "gives the same verdicts, findings and entries"}},
		{"one with every sentence reworded, that reads one thing more", true, []edit{more}, 1, []string{"gives the same verdicts, findings and entries"}},
		{"one for which an image that the API hides is not drift", false, []edit{harmless}, 4,
			[]string{"the evidence does not hold", "entry os_image 0x" + image058, "mismatch unlisted_chain_allowed, but the evidence gives"}},
		{"one that says so", false, []edit{harmless, newer}, 1,
			[]string{fmt.Sprintf("By the rules of %d: drift; by today's (%d): consistent", audit.Rules, audit.Rules+1), "entry os_image 0x" + image058}},
	} {
		t.Run(release.sentence, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), rebuilt(t, release.reworded, release.edits...), "verify", file)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &errs, offline()
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != release.exit {
				t.Errorf("verify exits with %d, want %d (%v)\n%s%s", cmd.ProcessState.ExitCode(), release.exit, err, &errs, &out)
			}
			for _, words := range release.says {
				if !strings.Contains(errs.String(), words) {
					t.Errorf("verify does not print %q:\n%s", words, &errs)
				}
			}
			if release.reworded != strings.Contains(out.String(), anew) {
				t.Errorf("the sentences of the report:\n%s", &out)
			}
		})
	}
}

// edit is a change of one file.
type edit struct{ path, old, new string }

// rebuilt builds a kms-auditor with edits and, if reworded, with every message of the judge changed.
func rebuilt(t *testing.T, reworded bool, edits ...edit) string {
	t.Helper()
	sources := map[string]string{}
	for _, e := range edits {
		sources[e.path] = readFile(t, e.path)
	}
	if reworded {
		all, err := filepath.Glob("../audit/*.go")
		must(t, err)
		for _, path := range all {
			if !strings.HasSuffix(path, "_test.go") {
				sources[path] = reword(t, readFile(t, path))
			}
		}
	}
	for _, e := range edits {
		changed := strings.Replace(sources[e.path], e.old, e.new, 1)
		if changed == sources[e.path] {
			t.Fatalf("%s has no %q", e.path, e.old)
		}
		sources[e.path] = changed
	}
	dir, replace := t.TempDir(), map[string]string{}
	for path, source := range sources {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(path)))
		must(t, os.WriteFile(to, []byte(source), 0o600))
		path, err := filepath.Abs(path)
		must(t, err)
		replace[path] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	must(t, err)
	list, to := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "kms-auditor")
	must(t, os.WriteFile(list, overlay, 0o600))
	if out, err := exec.Command("go", "build", "-overlay", list, "-o", to, "../cmd/kms-auditor").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return to
}

const anew = " (in other words)"

// reword adds words to every string of several words.
func reword(t *testing.T, source string) string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", source, parser.SkipObjectResolution)
	must(t, err)
	var texts []*ast.BasicLit
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			n.Tag = nil
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.Contains(n.Value, " ") && strings.ContainsFunc(n.Value, unicode.IsLetter) {
				texts = append(texts, n)
			}
		}
		return true
	})
	for i := len(texts) - 1; i >= 0; i-- {
		text, err := strconv.Unquote(texts[i].Value)
		must(t, err)
		source = source[:files.Position(texts[i].Pos()).Offset] + strconv.Quote(text+anew) + source[files.Position(texts[i].End()).Offset:]
	}
	return source
}
