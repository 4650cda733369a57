package render_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
)

func TestFindingsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	var kinds []audit.Kind
	for _, m := range regexp.MustCompile(`(?m)^## ([a-z]+(?:_[a-z]+)+)$`).FindAllStringSubmatch(page, -1) {
		kinds = append(kinds, audit.Kind(m[1]))
	}
	if diff := cmp.Diff(audit.Kinds, kinds); diff != "" {
		t.Errorf("headings (-kinds +page):\n%s", diff)
	}
	for _, k := range audit.Kinds {
		if row := "| [`" + string(k) + "`](#" + string(k) + ") | " + string(k.Severity()) + " |"; !strings.Contains(page, row) {
			t.Errorf("the table has no row %s", row)
		}
		_, section, _ := strings.Cut(page, "\n## "+string(k)+"\n")
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
