//go:build e2e

package e2e_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

var exits = map[audit.Verdict]int{audit.Consistent: 0, audit.Drift: 1, audit.Unknown: 3}

// verifies fails the test unless kms-auditor verify, without a network, derives the report from its evidence, exits like the audit,
// and says whether something is unproven.
func verifies(t testing.TB, path string, want *audit.Report) {
	t.Helper()
	exit, out, errs := runAuditorIn(t, offline(), nil, "verify", "-o", "json", path)
	if exit != exits[want.Verdict] {
		t.Errorf("verify exits with %d, the audit's verdict is %s\n%s", exit, want.Verdict, errs)
		return
	}
	if diff := gocmp.Diff(inErrorOrder(want), inErrorOrder(decodeReport(t, out))); diff != "" {
		t.Errorf("verify derives another report (-reported +derived):\n%s", diff)
	}
	said := strings.Contains(errs, ", which are not proven; the first is 0x")
	if proven, believed := assured(want); believed && !said || proven && !believed && said {
		t.Errorf("verify says %q, but answers are proven: %v, believed: %v", errs, proven, believed)
	}
	fitsEvidenceSchema(t, path)
}

// inErrorOrder sorts a report's errors, since sources fail in any order.
func inErrorOrder(r *audit.Report) *audit.Report {
	for _, c := range r.Chains {
		slices.SortFunc(c.Errors, func(a, b audit.SourceError) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return r
}

// assured reports whether any answer in the report is proven, and whether any is believed.
func assured(r *audit.Report) (proven, believed bool) {
	for _, c := range r.Chains {
		for _, target := range c.Targets {
			for _, e := range target.Entries {
				proven = proven || e.Assurance == audit.Proven
				believed = believed || e.Assurance == audit.Single || e.Assurance == audit.Agreed
			}
		}
	}
	return proven, believed
}

func fitsEvidenceSchema(t testing.TB, path string) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../docs/evidence.schema.json")
	must(t, err)
	line, _, _ := bytes.Cut(unpacked(t, path), []byte("\n"))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	must(t, err)
	if err := schema.Validate(doc); err != nil {
		t.Errorf("the evidence does not fit its schema: %v", err)
	}
}

func unpacked(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if !strings.HasSuffix(path, ".gz") {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	must(t, err)
	b, err = io.ReadAll(z)
	must(t, err)
	return b
}

func decodeEvidence(t testing.TB, path string) *evidence.File {
	t.Helper()
	f, err := evidence.Decode(bytes.NewReader(unpacked(t, path)))
	must(t, err)
	return f
}

// TestOfflineIsOffline checks that offline really cuts the network.
func TestOfflineIsOffline(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	config := writeConfig(t, s.settings)
	exit, _, errs := runAuditorIn(t, offline(), nil, "audit", "--once", "-c", config)
	if exit != 3 || !strings.Contains(errs, "network is unreachable") {
		t.Errorf("an audit without a network exits with %d\n%s", exit, errs)
	}
	if exit, _, errs := runAuditor(t, "audit", "--once", "-c", config); exit != 0 {
		t.Errorf("the same audit with a network exits with %d\n%s", exit, errs)
	}
}
