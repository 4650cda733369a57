// Package page holds the parts of Markdown pages that come from the code. A test compares them; with -write it writes them.
package page

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var write = flag.Bool("write", false, "write the generated parts of the pages")

// Check compares the part of a page that stands between two markers, lines of their own, with want. The markers are
// <!-- NAME, from the code by go generate --> and <!-- end of NAME -->.
func Check(t testing.TB, path, name, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+", from the code by go generate -->\n", "<!-- end of "+name+" -->\n"
	before, rest, begun := strings.Cut(string(b), begin)
	got, after, ended := strings.Cut(rest, end)
	want = "\n" + want + "\n"
	switch {
	case !begun || !ended:
		t.Fatalf("%s has no markers for %s", path, name)
	case got == want:
	case !*write:
		t.Errorf("%s differs from the code in its %s: run go generate ./...", path, name)
	default:
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Table is a Markdown table. The first row is its head.
func Table(rows ...[]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.ReplaceAll(strings.Join(row, "\x00"), "|", `\|`) + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	return strings.ReplaceAll(b.String(), "\x00", " | ")
}
