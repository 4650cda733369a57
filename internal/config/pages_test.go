package config_test

import (
	"errors"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

// otherKeys are words of the pages that look like keys, and whose they are.
var otherKeys = map[string]string{
	"control.code": "report", "block.trust": "report", "trust": "report", "completeness": "report", "assurance": "report",
	"contracts.not_covered": "policy diff", "contracts.new": "policy diff", "contracts.fields": "policy diff",
	"persistence.enabled": "Helm", "once.enabled": "Helm", "ok": "log",
}

// otherFiles are the first keys of YAML in the pages that is no configuration.
var otherFiles = []string{"global", "permissions", "shards"}

// TestThePagesNameKeysThatExist, in running text and in blocks of YAML.
func TestThePagesNameKeysThatExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.NewReplacer("[]", "").Replace
	isKey := func(name string) bool {
		return slices.ContainsFunc(config.Keys, func(key string) bool { return strings.HasSuffix("."+bare(key), "."+name) })
	}
	word := regexp.MustCompile("`([a-z_0-9]+(?:\\[\\])?(?:\\.[a-z_0-9]+(?:\\[\\])?)+|[a-z_]+(?:: [^`]*))`")
	file := regexp.MustCompile(`\.(json|md|mod|sum|txt|ya?ml)$`)
	words, blocks := 0, 0
	used := map[string]bool{}
	for _, path := range append(pages, "../../README.md", "../../SECURITY.md") {
		text := readFile(t, path)
		for _, m := range word.FindAllStringSubmatch(text, -1) {
			name, _, _ := strings.Cut(bare(m[1]), ":")
			used[name] = true
			switch {
			case isKey(name):
				words++
			case otherKeys[name] == "" && !file.MatchString(name):
				t.Errorf("%s: there is no key %s", path, m[0])
			}
		}
		for _, block := range regexp.MustCompile(`(?m)(?:^ {4}.*\n|^\n)+`).FindAllString(text, -1) {
			for _, part := range regexp.MustCompile(`(?m)^ {4}(?:\$|kms-auditor) .*$`).Split(block, -1) {
				var root yaml.Node
				if yaml.Unmarshal([]byte(part), &root) != nil || len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
					continue
				}
				first := root.Content[0].Content[0].Value
				if slices.Contains(otherFiles, first) || strings.Contains(first, " ") {
					used[first] = true
					continue
				}
				blocks++
				wrong := errors.New(first)
				for _, key := range config.Keys {
					if prefix, ok := strings.CutSuffix("."+key, "."+first); ok && wrong != nil {
						wrong = unknownKeys(root.Content[0], strings.TrimPrefix(prefix+".", "."))
					}
				}
				if wrong != nil {
					t.Errorf("%s: there is no key %v in\n%s", path, wrong, part)
				}
			}
		}
	}
	if words < 100 || blocks < 6 {
		t.Errorf("only %d keys and %d blocks were found", words, blocks)
	}
	for _, name := range slices.AppendSeq(otherFiles, maps.Keys(otherKeys)) {
		if !used[name] {
			t.Errorf("no page names %s any more", name)
		}
	}
}

// unknownKeys is an error that names a key of a mapping that a configuration does not have there.
func unknownKeys(n *yaml.Node, prefix string) error {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := unknownKeys(item, strings.TrimSuffix(prefix, ".")+"[]."); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			path := prefix + n.Content[i].Value
			if !slices.Contains(config.Keys, path) {
				return errors.New(path)
			}
			if strings.HasSuffix(path, ".headers") {
				continue // names of the operator's choice
			}
			if err := unknownKeys(n.Content[i+1], path+"."); err != nil {
				return err
			}
		}
	}
	return nil
}
