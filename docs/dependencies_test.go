package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is a module of the module cache.
type module struct{ path, version, dir string }

func goList(t *testing.T, args ...string) (out []module) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64") // as it is released
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
			out = append(out, module{f[0], f[1], f[2]})
		}
	}
	slices.SortFunc(out, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return slices.Compact(out)
}

// licences are words of licences, the more special before what they contain.
var licences = []struct{ name, words string }{
	{"AGPL", "GNU AFFERO"}, {"LGPL-3.0", "GNU LESSER GENERAL PUBLIC LICENSE"}, {"MPL-2.0", "Mozilla Public License"}, {"Apache-2.0", "Apache License"},
	{"MIT", "Permission is hereby granted, free of charge"}, {"BSD", "Redistribution and use in source and binary forms"}, {"ISC", "Permission to use, copy, modify"},
}

// licence reads what the module's own files say.
func licence(t *testing.T, m module) string {
	t.Helper()
	var text, names []string
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if regexp.MustCompile(`^(LICEN[SC]E|COPYING)`).MatchString(e.Name()) {
			b, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, string(b))
		}
	}
	for _, l := range licences {
		if strings.Contains(strings.Join(text, "\n"), l.words) {
			names = append(names, l.name)
		}
	}
	return strings.Join(names, ", ")
}

// rows are the rows of the table under a heading of docs/dependencies.md, by their first cell.
func rows(t *testing.T, heading string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(b), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no heading %s", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	out := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		out[m[1]] = strings.Split(m[2], " | ")
	}
	return out
}

func TestEveryLinkedModuleIsListed(t *testing.T) {
	listed, linked := rows(t, "Linked into the binary"), goList(t, "-deps", "../cmd/kms-auditor")
	if len(linked) < 20 {
		t.Fatalf("go list names %d modules alone", len(linked))
	}
	for _, m := range linked {
		want := []string{m.version, licence(t, m)}
		if want[1] == "" {
			want[1] = "MIT, as its sources say" // no file tells
		}
		if !slices.Equal(listed[m.path], want) {
			t.Errorf("the table has %q, want\n| `%s` | %s |", listed[m.path], m.path, strings.Join(want, " | "))
		}
		delete(listed, m.path)
	}
	for path := range listed {
		t.Errorf("%s is listed and not linked", path)
	}
}

func TestEveryDirectDependencyHasAReason(t *testing.T) {
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	listed := rows(t, "Required by go.mod")
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`).FindAllStringSubmatch(string(gomod), -1) {
		row := listed[m[1]]
		if len(row) != 2 || row[0] != m[2] || len(row[1]) < 20 {
			t.Errorf("the table has %q for %s %s, want its version and a reason", row, m[1], m[2])
		}
		delete(listed, m[1])
	}
	for path := range listed {
		t.Errorf("%s is listed and not required", path)
	}
}
