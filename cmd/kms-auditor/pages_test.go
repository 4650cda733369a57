package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

// pages are the Markdown pages for people who use the program.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d pages (%v)", len(names), err)
	}
	out := map[string]string{}
	for _, name := range append(names, "../../README.md", "../../SECURITY.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(name)] = string(b)
	}
	return out
}

// TestEveryCommandOfThePagesIsOne, with every flag, in code blocks and in running text.
func TestEveryCommandOfThePagesIsOne(t *testing.T) {
	line := regexp.MustCompile("(?m)^ {4}(?:\\$ )?kms-auditor (.*)$|`kms-auditor ([^`\n]*)`")
	found := 0
	for name, text := range pages(t) {
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(regexp.MustCompile(`\s+(#|;|\||>|…|-o json=/dev).*$`).ReplaceAllString(m[1]+m[2], ""))
			for i := range words {
				words[i] = strings.TrimRight(words[i], ",.…")
			}
			root := newRoot()
			root.InitDefaultCompletionCmd()
			command, args, err := root.Find(words)
			if err != nil || !command.Runnable() && len(args) > 0 {
				t.Errorf("%s: %q is no command: %v", name, m[0], err)
				continue
			}
			found++
			if code := regexp.MustCompile(`# .*\bexits? (?:with )?(\d)`).FindStringSubmatch(m[1]); code != nil && !slices.Contains(regexp.MustCompile(`\b\d\b`).FindAllString(exitCodes(command), -1), code[1]) {
				t.Errorf("%s: %q, but the help of %s does not name that code", name, m[0], command.CommandPath())
			}
			for _, a := range args {
				flag, _, _ := strings.Cut(strings.TrimLeft(strings.Trim(a, "[]"), "-"), "=")
				if strings.HasPrefix(strings.Trim(a, "[]"), "-") && !has(command, flag) {
					t.Errorf("%s: %q: %s has no flag %s", name, m[0], command.CommandPath(), a)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d commands were found", found)
	}
}

// TestEveryFlagOfThePagesIsOne, where running text names it without its command.
func TestEveryFlagOfThePagesIsOne(t *testing.T) {
	known := map[string]bool{"help": true, "read-only": true, "only": true, "still": true} // docker's, and of e2e/mutants
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { known[f.Name], known[f.Shorthand] = true, true })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	found := 0
	for name, text := range pages(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|[\\s(|])`--?([a-z][a-z.-]*)[^`\n]*`").FindAllStringSubmatch(text, -1) {
			if found++; !known[m[1]] {
				t.Errorf("%s: %s is no flag of any command", name, strings.TrimSpace(m[0]))
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d flags were found", found)
	}
}

// TestEveryExitCodeOfThePagesIsOne, in running text and in tables.
func TestEveryExitCodeOfThePagesIsOne(t *testing.T) {
	found := 0
	for name, text := range pages(t) {
		for _, m := range regexp.MustCompile(`(?i)\b(?:exits?|exit codes?|exits? with)[ :]+(\d+)\b`).FindAllStringSubmatch(text, -1) {
			found++
			if code, err := strconv.Atoi(m[1]); err != nil || code > exitRefuted {
				t.Errorf("%s: %q is no exit code of any command", name, m[0])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d exit codes were found", found)
	}
}

func has(command *cobra.Command, flag string) (found bool) {
	for _, set := range []*pflag.FlagSet{command.LocalFlags(), command.InheritedFlags()} {
		found = found || set.Lookup(flag) != nil || len(flag) == 1 && set.ShorthandLookup(flag) != nil
	}
	return found || flag == "help"
}

// TestTheConfigurationOfTheReadmeWorks as it stands.
func TestTheConfigurationOfTheReadmeWorks(t *testing.T) {
	block := regexp.MustCompile(`(?m)(?:^ {4}.*\n)*^ {4}chains:\n(?:^ {4}.*\n)+`).FindString(pages(t)["README.md"])
	cfg, err := config.Parse([]byte(regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(block, "")), config.Env{Dir: t.TempDir(), Lookup: os.LookupEnv})
	if err != nil || len(cfg.Chains) != 1 || len(cfg.Chains[0].Contracts) != 1 {
		t.Fatalf("%v\n%s", err, block)
	}
	if n := strings.Count(block, "\n"); n > 12 {
		t.Errorf("it has %d lines", n)
	}
}
