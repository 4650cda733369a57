package render_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/page"
)

//go:generate go test -run TestTheTableOfFindings . -write

func TestTheTableOfFindings(t *testing.T) {
	rows := [][]string{{"kind", "severity", "makes the contract", "when"}}
	for _, k := range audit.Kinds {
		makes := "nothing"
		if k.Makes() != audit.Consistent {
			makes = k.Makes().String()
		}
		rows = append(rows, []string{fmt.Sprintf("[`%s`](#%[1]s)", k), string(k.Severity()), makes, k.Meaning()})
	}
	page.Check(t, "../../docs/findings.md", "findings", page.Table(rows...))
}

func TestFindingsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	var kinds []audit.Kind
	for _, m := range regexp.MustCompile(`(?m)^## ([a-z]+(?:_[a-z]+)+)$`).FindAllStringSubmatch(text, -1) {
		kinds = append(kinds, audit.Kind(m[1]))
	}
	if diff := cmp.Diff(audit.Kinds, kinds); diff != "" {
		t.Errorf("headings (-kinds +page):\n%s", diff)
	}
	for _, k := range audit.Kinds {
		_, section, _ := strings.Cut(text, "\n## "+string(k)+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, part := range []string{"**Meaning.**", "**Why it matters.**", "**First steps.**", "**Harmless when**", "**To silence it.**"} {
			if n := strings.Count(section, part); n != 1 {
				t.Errorf("%s has %d parts %s", k, n, part)
			}
		}
		_, silence, _ := strings.Cut(section, "**To silence it.**")
		if accept, cannot := strings.Contains(silence, "(#living-with-a-finding)"), strings.Contains(silence, "cannot be accepted"); accept != k.Acceptable() || cannot == accept {
			t.Errorf("%s is acceptable: %t, but to silence it:%s", k, k.Acceptable(), silence)
		}
	}
}

func TestFindingsPageExplainsEveryReason(t *testing.T) {
	b, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "## Entries without a finding\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var explained []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		explained = append(explained, m[1])
	}
	if diff := cmp.Diff(sorted(constants(t)["Reason"]), sorted(explained)); diff != "" {
		t.Errorf("reasons (-code +page):\n%s", diff)
	}
}
