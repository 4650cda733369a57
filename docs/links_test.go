package docs_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	code    = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`|^ {4}.*?$")
	noWord  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// pages are the Markdown pages for people who use the program.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range append(names, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	return out
}

// anchors are what links may name of a page.
func anchors(page string) map[string]bool {
	out := map[string]bool{"": true}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		text := link.ReplaceAllString(strings.NewReplacer("`", "", "[", "").Replace(m[1]), "")
		out[strings.ReplaceAll(noWord.ReplaceAllString(strings.ToLower(text), ""), " ", "-")] = true
	}
	return out
}

// TestEveryLinkLeadsSomewhere: each file that a page links to is there, and each heading.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	all := pages(t)
	for name, text := range all {
		links := link.FindAllStringSubmatch(code.ReplaceAllStringFunc(text, func(s string) string {
			if strings.HasPrefix(s, "`") && !strings.HasPrefix(s, "```") {
				return s // a link's text may be code
			}
			return ""
		}), -1)
		for _, m := range links {
			u, err := url.Parse(m[1])
			if err != nil || u.Scheme != "" {
				continue
			}
			to := name
			if u.Path != "" {
				to = strings.TrimPrefix(filepath.Join("../docs", filepath.Dir(name), u.Path), "../docs/")
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
			if page, known := all[to]; known && !anchors(page)[u.Fragment] {
				t.Errorf("%s links to %s, and that page has no such heading", name, m[1])
			}
		}
	}
}

// TestNoTableStandsTwice: a row that two pages have would have to be changed in both.
func TestNoTableStandsTwice(t *testing.T) {
	first := map[string]string{}
	for name, text := range pages(t) {
		for line := range strings.SplitSeq(text, "\n") {
			row := strings.TrimSpace(line)
			if !strings.HasPrefix(row, "| ") || len(row) < 60 {
				continue
			}
			if other := first[row]; other != "" && other != name {
				t.Errorf("%s and %s have the row %s", other, name, row)
			}
			first[row] = name
		}
	}
}
