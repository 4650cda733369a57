package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra/doc"
)

var man = flag.String("man", "", "keep the manual pages in this `DIR`")

// TestTheManual writes a page for each command. A release keeps them; the program does without what makes them. Their date is
// that of SOURCE_DATE_EPOCH, else today's.
func TestTheManual(t *testing.T) {
	t.Setenv("KMS_AUDITOR_CONFIG", "")
	dir, date := *man, ""
	if dir == "" {
		dir, date = t.TempDir(), "Nov 2026"
		t.Setenv("SOURCE_DATE_EPOCH", "1793534400")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Manual: "kms-auditor"}, dir); err != nil {
		t.Fatal(err)
	}
	for name, parts := range map[string][]string{
		"kms-auditor.1":              {"kms-auditor-audit(1)"},
		"kms-auditor-audit.1":        {"allow-unverifiable", "0 consistent, 1 drift", date},
		"kms-auditor-kms-on-chain.1": {"getKmsOnChainDetail"},
	} {
		page, err := os.ReadFile(filepath.Join(dir, name))
		for _, part := range parts {
			if err != nil || !strings.Contains(strings.ReplaceAll(string(page), `\-`, "-"), part) {
				t.Errorf("%s (%v) has no %q", name, err, part)
			}
		}
	}
}
