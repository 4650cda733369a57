//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// row is one audit: what is wrong in the world, and what the auditor must report. By default the API is right and every source
// works.
type row struct {
	sentence string

	claim     func(*stage, *fakeapi.Chain) // changes the API's claim
	later     func(*stage, *fakeapi.Chain) // changes the claim from the second answer on; optional
	kms       func(*stage, *[]fakeapi.KMS) // changes what the API lists
	settings  func(*stage, *settings)      // changes the configuration
	text      func(string) string          // changes the configuration's text
	api       fakeapi.Fault
	rpc       rpcfault.Fault
	before    act
	meanwhile event
	after     act    // undoes what before and meanwhile did to the chain
	only      string // the only node that can do this; both if empty
	version   string // the only API version that can, for inBothVersions; both if empty

	exit    int
	finds   []string // every finding: severity, kind and subject
	fails   []string // every failed source: stage, source, and parts of the message between "…"
	entries []string // entries that do not match: verdict, reason and id; unchecked if nil
	says    string   // part of a target's reason, or of stderr if the exit code is 2
	prints  string   // part of the text report; unchecked if empty
	rests   string   // assurance and completeness of every target; unchecked if empty

	keyInData bool // the API's answer contains the key, so no evidence is kept
}

// event happens during an audit, just before the nth call of a method reaches the node. Each pin calls eth_chainId once, and each
// read of a contract calls eth_getCode once.
type event struct {
	method string
	nth    int
	do     act
}

// act changes the world.
type act func(context.Context, *stage) error

// plays are groups of rows, each for one stage: a node keeps the state of 128 blocks, and rows add blocks.
var plays = [][]row{
	slices.Concat(truths, drifts, doubts, mistakes, apiFaults, providerFaults, overcome, passes, proofs, lies, scans, agreements),
	inBothVersions(crosses, controls, policies, accepts),
}

var rows = slices.Concat(plays...)

var verdicts = map[int]audit.Verdict{0: audit.Consistent, 1: audit.Drift, 3: audit.Unknown}

func TestAudit(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../docs/report.schema.json")
	must(t, err)
	for name := range nodes {
		for _, play := range plays {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, name)
				for _, r := range play {
					if r.only == "" || r.only == name {
						t.Run(r.sentence, func(t *testing.T) { r.run(t, s, schema) })
					}
				}
			})
		}
	}
}

// run audits and checks all outputs. It returns the path of the evidence, or "" if no evidence was written.
func (r row) run(t *testing.T, s *stage, schema *jsonschema.Schema) string {
	if r.after != nil {
		defer func() { must(t, r.after(t.Context(), s)) }()
	}
	if r.before != nil {
		must(t, r.before(t.Context(), s))
	}
	r.set(t, s)
	config := s.config(t, r)
	path, kept := filepath.Join(t.TempDir(), "report.json"), filepath.Join(t.TempDir(), "evidence.json")
	exit, stdout, stderr := runAuditorWith(t, s.env, "audit", "--once", "-o", "text", "-o", "json="+path, "--evidence", kept, "-c", config)
	if exit != r.exit {
		t.Errorf("exit code %d, want %d", exit, r.exit)
	}
	file, err := os.ReadFile(path)
	s.secrets.absent(t, "stdout", stdout)
	s.secrets.absent(t, "stderr", stderr)
	s.secrets.absent(t, "the JSON report", string(file))
	if !strings.Contains(stdout, r.prints) {
		t.Errorf("the text report lacks %q", r.prints)
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", stdout, stderr)
	}
	if r.exit == 2 {
		if err == nil || stdout != "" || !strings.Contains(stderr, r.says) || !strings.Contains(stderr, fmt.Sprintf("configuration %q", config)) {
			t.Errorf("a bad configuration gives %q on stdout, a report: %v, and %q on stderr; want %q", stdout, err == nil, stderr, r.says)
		}
		return ""
	}
	must(t, err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(file)))
	must(t, err)
	if err := schema.Validate(doc); err != nil {
		t.Errorf("the report does not fit its schema: %v", err)
	}
	report := decodeReport(t, string(file))
	r.check(t, s, report)
	if r.keyInData {
		if _, err := os.Stat(kept); err == nil || !strings.Contains(stderr, "contains the API key, so it cannot be stored") {
			t.Errorf("evidence with the API key in it is kept: %v\n%s", err == nil, stderr)
		}
		return ""
	}
	s.secrets.absentFrom(t, kept)
	verifies(t, kept, report)
	return kept
}

// set sets up what is wrong.
func (r row) set(t *testing.T, s *stage) {
	truth := s.truth()
	if r.claim != nil {
		r.claim(s, &truth)
	}
	list := s.listed()
	if r.kms != nil {
		r.kms(s, &list)
	}
	must(t, s.api.put(truth))
	must(t, s.api.list(list))
	must(t, s.api.heal())
	if r.later != nil {
		other := s.truth()
		r.later(s, &other)
		contracts, err := json.Marshal(other.Contracts)
		must(t, err)
		r.api = fakeapi.Fault{Name: fakeapi.Replaced, After: 1, Path: "contracts", Value: contracts}
	}
	if r.api.Name != "" {
		must(t, s.api.fail(r.api))
	}
	s.node.proxy.Set(r.rpc)
	if r.meanwhile.do == nil {
		s.node.proxy.Watch(nil)
		return
	}
	var mu sync.Mutex
	left := r.meanwhile.nth
	s.node.proxy.Watch(func(c rpcfault.Call) {
		mu.Lock()
		defer mu.Unlock()
		if c.Method != r.meanwhile.method {
			return
		}
		if left--; left == 0 {
			if err := r.meanwhile.do(t.Context(), s); err != nil {
				t.Error(err) // Fatal is for the test's own goroutine
			}
		}
	})
	t.Cleanup(func() {
		s.node.proxy.Watch(nil)
		mu.Lock()
		defer mu.Unlock()
		if left > 0 {
			t.Errorf("the event did not happen: %d more calls of %s were expected", left, r.meanwhile.method)
		}
	})
}

func (r row) check(t *testing.T, s *stage, got *audit.Report) {
	t.Helper()
	if want := verdicts[r.exit]; got.Verdict != want {
		t.Errorf("verdict %s with exit code %d", got.Verdict, r.exit)
	}
	var finds, entries, fails, reasons []string
	for _, c := range got.Chains {
		for _, e := range c.Errors {
			fails = append(fails, fmt.Sprintf("%s %s: %s", e.Stage, e.Source, e.Message))
		}
		for _, target := range c.Targets {
			reasons = append(reasons, target.Reasons...)
			if got := fmt.Sprintf("%s %s", target.Assurance, target.Completeness); r.rests != "" && got != r.rests {
				t.Errorf("assurance and completeness %q, want %q", got, r.rests)
			}
			for _, f := range target.Findings {
				finds = append(finds, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", f.Severity, f.Kind, f.List, s.name(f.ID, target.Contract))))
			}
			for _, e := range target.Entries {
				if e.Verdict != audit.Match {
					entries = append(entries, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Verdict, e.Reason, e.List, s.name(e.ID, ""))))
				}
			}
		}
	}
	if diff := cmp.Diff(r.finds, finds); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(r.entries, entries); diff != "" && r.entries != nil {
		t.Errorf("entries that do not match (-want +got):\n%s", diff)
	}
	if !slices.EqualFunc(r.fails, fails, inOrder) {
		t.Errorf("failed sources:\n%s\nwant:\n%s", strings.Join(fails, "\n"), strings.Join(r.fails, "\n"))
	}
	if all := strings.Join(reasons, "\n"); !strings.Contains(all, r.says) {
		t.Errorf("reasons:\n%s\nwant: %s", all, r.says)
	}
}

// inOrder reports whether got contains the parts of want, separated by "…", in order.
func inOrder(want, got string) bool {
	for part := range strings.SplitSeq(want, "…") {
		_, rest, found := strings.Cut(got, strings.TrimSpace(part))
		if !found {
			return false
		}
		got = rest
	}
	return true
}
