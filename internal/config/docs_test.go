package config_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/testenv/page"
)

//go:generate go test -run TestTheTableOfKeys . -write

// documented is keys of config.example.yaml that share a comment.
type documented struct {
	keys, values []string
	meaning      string
}

// commentedKeys reads the comments of config.example.yaml. A key that is commented out is a key too.
func commentedKeys(t *testing.T, example string) (all []*documented) {
	t.Helper()
	type level struct {
		column int
		path   string
	}
	var parents []level
	keyOf := func(line string) (path, value string) {
		m := regexp.MustCompile(`^( *(?:- )?)([a-z0-9_]+):(?: +(.*))?$`).FindStringSubmatch(line)
		if m == nil {
			return "", ""
		}
		for len(parents) > 0 && parents[len(parents)-1].column >= len(m[1]) {
			parents = parents[:len(parents)-1]
		}
		candidates := []string{m[2]}
		if n := len(parents); n > 0 {
			candidates = []string{parents[n-1].path + "." + m[2], parents[n-1].path + "[]." + m[2]}
		}
		for _, path := range candidates {
			if slices.Contains(config.Keys, path) {
				parents = append(parents, level{len(m[1]), path})
				return path, m[3]
			}
		}
		return "", ""
	}
	var prose []string
	var last *documented // of the line before, where that is a key
	rows := map[string]*documented{}
	for line := range strings.Lines(example) {
		line = strings.TrimRight(line, "\n")
		path, value := keyOf(line)
		for range 2 { // a key inside what is commented out may be commented out once more
			if at := strings.IndexFunc(line, func(r rune) bool { return r != ' ' }); path == "" && at >= 0 && line[at] == '#' {
				line = line[:at] + strings.TrimPrefix(line[at+1:], " ")
				path, value = keyOf(line)
			}
		}
		meaning := strings.Join(prose, " ")
		switch {
		case path == "" && strings.TrimSpace(line) == "":
			prose, last = nil, nil
			continue
		case path == "":
			prose, last = append(prose, strings.TrimSpace(line)), nil
			continue
		case rows[path] != nil && meaning != "":
			rows[path].meaning += " " + meaning
		case rows[path] == nil && meaning == "" && last != nil:
			rows[path] = last
			last.keys, last.values = append(last.keys, path), append(last.values, value)
		case rows[path] == nil:
			rows[path] = &documented{[]string{path}, []string{value}, meaning}
			all = append(all, rows[path])
		}
		prose, last = nil, rows[path]
	}
	return all
}

// without removes a key from every mapping that has it, and reports whether all that could have it did.
func without(n *yaml.Node, path string) (had, all bool) {
	key, rest, deeper := strings.Cut(path, ".")
	all = true
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, item := range n.Content {
			h, a := without(item, path)
			had, all = had || h, all && a
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			switch {
			case n.Content[i].Value != strings.TrimSuffix(key, "[]"):
			case deeper:
				return without(n.Content[i+1], rest)
			default:
				n.Content = slices.Delete(n.Content, i, i+2)
				return true, true
			}
		}
		return false, deeper
	}
	return had, all
}

// parseWithout parses a configuration without a key.
func parseWithout(t *testing.T, text, path string, env config.Env) (cfg *config.Config, had, all bool, err error) {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	had, all = without(&root, path)
	left, err := yaml.Marshal(&root)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err = config.Parse(left, env)
	return cfg, had, all, err
}

// TestTheTableOfKeys has the meaning of each key from config.example.yaml, and from the program whether it has to be given, or
// that the value of the example is what applies where it is left out.
func TestTheTableOfKeys(t *testing.T) {
	example, full, env := readFile(t, "../../config.example.yaml"), readFile(t, "testdata/full.yaml"), fullEnv(t)
	defaultOf := func(path, value string) string {
		cfg, had, _, err := parseWithout(t, example, path, config.Env{})
		if had && err == nil && value != "" && cmp.Equal(config.Default(), cfg, same) {
			return "`" + value + "`"
		}
		inList := regexp.MustCompile(`\[\]\.\w+$`).MatchString(path)
		if _, had, all, err := parseWithout(t, full, path, env); inList && had && all && err != nil {
			return "required"
		}
		return ""
	}
	rows := [][]string{{"key", "default", "meaning"}}
	undocumented := slices.Clone(config.Keys)
	for _, d := range commentedKeys(t, example) {
		if d.meaning == "" {
			t.Errorf("config.example.yaml says nothing of %q", d.keys)
		}
		keys, defaults := []string{"`" + d.keys[0] + "`"}, []string{}
		for i, path := range d.keys {
			undocumented = slices.DeleteFunc(undocumented, func(k string) bool { return k == path })
			if i > 0 {
				keys = append(keys, "`"+path[strings.LastIndex(path, ".")+1:]+"`")
			}
			if d := defaultOf(path, d.values[i]); d != "" && !slices.Contains(defaults, d) {
				defaults = append(defaults, d)
			}
		}
		rows = append(rows, []string{strings.Join(keys, ", "), strings.Join(defaults, ", "), d.meaning})
	}
	if len(undocumented) > 0 {
		t.Errorf("config.example.yaml has no %q", undocumented)
	}
	page.Check(t, "../../docs/configuration.md", "keys", page.Table(rows...))
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
